use super::*;

#[test]
fn an_empty_value_is_absent() {
    assert!(parse("").is_none() && parse(" \t").is_none());
    assert_eq!(parse(" KEY ").unwrap().expose_secret(), "KEY");
}
