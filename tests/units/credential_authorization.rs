use super::*;

fn read(value: &str) -> String {
    match parse(value) {
        Token::Absent => "absent".into(),
        Token::Malformed => "malformed".into(),
        Token::Key(source, plain) => format!("{source:?} {}", plain.expose_secret()),
    }
}

#[test]
fn tells_absent_malformed_and_present_apart() {
    for (value, expected) in [
        ("", "absent"),
        ("Bearer", "absent"),
        ("Bearer ", "absent"),
        ("Basic", "absent"),
        ("KEY", "absent"),
        ("Digest username=\"x\"", "absent"),
        ("Bearer KEY", "Bearer KEY"),
        ("bEaReR   KEY", "Bearer KEY"),
        ("BEARER\tKEY ", "Bearer KEY"),
        ("Bearer two words", "malformed"),
        ("BearerKEY", "absent"),
        ("Basic dTpLRVk=", "Basic KEY"),
        ("basic dTpLRVk", "Basic KEY"),
        ("Basic OktFWQ==", "Basic KEY"),
        ("Basic dTpLOkVZ", "Basic K:EY"),
        ("Basic dTo=", "absent"),
        ("Basic dQ==", "malformed"),
        ("Basic !!!", "malformed"),
        ("Basic dTr/", "malformed"),
    ] {
        assert_eq!(read(value), expected, "{value:?}");
    }
}
