use super::*;

#[test]
fn never_prints_a_key() {
    assert!(!format!("{:?}", Plain::Borrowed("canary")).contains("canary"));
}
