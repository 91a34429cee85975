use super::*;

#[test]
fn of_a_user() {
    for (profiles, user, expected) in [
        (&[][..], "alice", None),
        (&[("alice_1", "alice")], "alice", Some("alice_1")),
        (&[("alice_1", "Alice ")], "alice", Some("alice_1")),
        (&[("bob_1", "bob")], "alice", None),
        (&[("bob_1", "bob"), ("alice_1", "ALICE")], "Alice", Some("alice_1")),
        (&[("a_1", "Alice"), ("a_2", "alice")], "alice", Some("a_2")),
        (&[("a_1", "Alice"), ("a_2", "ALICE")], "alice", None),
        (&[("a_1", "Alice"), ("a_2", "ALICE"), ("a_3", "alice")], "alice", Some("a_3")),
        // Not ASCII letters, so someone else's name.
        (&[("k_1", "\u{212a}im")], "kim", None),
        (&[("default", "alice")], "alice", None),
        (&[("Default", "alice")], "alice", None),
        (&[("", "alice")], "alice", None),
        (&[("../bob_1", "alice")], "alice", None),
        (&[("bob_1/..", "alice")], "alice", None),
        (&[("__manager", "alice")], "alice", None),
        (&[("..", "alice"), ("a_1", "alice")], "alice", Some("a_1")),
    ] {
        assert_eq!(of_user(profiles.iter().copied(), user), expected, "{user} of {profiles:?}");
    }
}

#[test]
fn asked_for() {
    let is_a_user = |name: &str| ["alice", "kim"].contains(&name);
    for scope in Scope::EACH {
        let may = |name| may_be_asked_for(name, is_a_user, Scopes::granted([scope]));
        let all = scope == Scope::All;
        for name in ["alice", "Alice", " ALICE ", "\u{212a}im"] {
            assert_eq!(may(Some(name)), all, "{name} {scope:?}");
        }
        assert!(may(Some("bob")) && may(Some("default")), "{scope:?}");
        assert_eq!(may(None), all, "{scope:?}");
    }
    assert!(!may_be_asked_for(Some("alice"), is_a_user, Scopes::NONE));
}
