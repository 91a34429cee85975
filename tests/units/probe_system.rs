use super::*;

#[test]
fn reads_this_machine() {
    let memory = memory();
    assert!(memory.total > 0);
    assert!(memory.free > 0 && memory.free <= memory.total, "{memory:?}");
}

#[test]
fn container_limit_is_the_end_of_memory() {
    let machine = Memory { total: 64, free: 40 };
    let cases = [
        ("no limit", u64::MAX, 10, 64, 40),
        ("limit above what is free", 60, 10, 60, 40),
        ("limit below what is free", 16, 10, 16, 6),
        ("over the limit", 16, 20, 16, 0),
    ];
    for (name, limit, resident, total, free) in cases {
        assert_eq!(machine.within(limit, resident), Memory { total, free }, "{name}");
    }
}
