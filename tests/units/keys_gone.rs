use super::*;
use crate::keys::parse_file;

const THEN: Now = Now::at(1_800_000_000);
const NOW: Now = Now::at(1_800_000_100);
const KEYS: [&str; 2] = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"];

#[test]
fn it_says_which_keys_have_gone_and_why() {
    let [a, b] = KEYS;
    let end = |unix| format!("expires={}", crate::date::rfc3339(unix));
    let (past, soon, late) = (end(1_799_999_000), end(1_800_000_050), end(1_900_000_000));
    for (name, before, after, expected) in [
        ("nothing changed", format!("{a} A\n{b} B"), format!("{a} A\n{b} B"), vec![]),
        ("removed", format!("{a} A\n{b} B"), format!("{b} B"), vec![("A", "removed")]),
        ("it is over", format!("{a} A {soon}"), format!("{a} A {soon}"), vec![("A", "expired")]),
        ("it was over", format!("{a} A {past}\n{b} B"), format!("{a} A {past}\n{b} B"), vec![]),
        ("it was over, and is removed", format!("{a} A {past}\n{b} B"), format!("{b} B"), vec![]),
        ("ended by its file", format!("{a} A"), format!("{a} A {past}"), vec![("A", "revoked")]),
        ("ended sooner", format!("{a} A {late}"), format!("{a} A {soon}"), vec![("A", "revoked")]),
        ("another label", format!("{a} A"), format!("{a} other"), vec![]),
        ("another attribute", format!("{a} A"), format!("{a} A scope=view"), vec![]),
    ] {
        let keys = |text: &str| Keys::new(&parse_file("f", text.as_bytes()).expect(name));
        let (before, after) = (keys(&before), keys(&after));
        let found: Vec<_> =
            gone(&before, THEN, &after, NOW).iter().map(|gone| (gone.key.label().unwrap_or(""), gone.cause)).collect();
        assert_eq!(found, expected, "{name}");
    }
}
