use super::*;

#[test]
fn some_include_others() {
    for (given, covered, text) in [
        (&[Scope::View][..], &[Scope::View][..], "view"),
        (&[Scope::Run], &[Scope::View, Scope::Run], "run"),
        (&[Scope::Nodes, Scope::Run], &[Scope::View, Scope::Run, Scope::Nodes], "run,nodes"),
        (&[Scope::Metrics], &[Scope::Metrics], "metrics"),
        (&[Scope::View, Scope::All], &Scope::EACH, "all"),
        (&[], &[], ""),
    ] {
        let granted = Scopes::granted(given.iter().copied());
        let found: Vec<_> = Scope::EACH.into_iter().filter(|&scope| granted.cover(Scopes::needed(scope))).collect();
        assert_eq!((found.as_slice(), granted.to_string().as_str()), (covered, text));
        assert!(granted.cover(Scopes::NONE));
    }
}

#[test]
fn both_are_needed() {
    let needed = Scopes::needed(Scope::Run).and(Scopes::needed(Scope::Nodes));
    assert!(!Scopes::granted([Scope::Run]).cover(needed));
    assert!(!Scopes::granted([Scope::Nodes]).cover(needed));
    assert!(Scopes::granted([Scope::Run, Scope::Nodes]).cover(needed));
    assert!(Scopes::ALL.cover(needed));
}

#[test]
fn words_are_taken_as_they_are_written() {
    for scope in Scope::EACH {
        assert_eq!(Scope::parse(scope.name()), Some(scope));
    }
    for word in ["", "View", "ALL", "view ", "admin"] {
        assert_eq!(Scope::parse(word), None);
    }
}
