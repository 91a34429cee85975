use super::*;

#[test]
fn keeps_what_else_is_said() {
    for (said, expected) in [
        ("", "private"),
        ("public", "private"),
        ("no-cache", "private, no-cache"),
        ("public, max-age=86400", "private, max-age=86400"),
        ("max-age=60 ,, PUBLIC", "private, max-age=60"),
        ("private=\"Set-Cookie\"", "private, private=\"Set-Cookie\""),
        ("s-maxage=60, must-revalidate", "private, s-maxage=60, must-revalidate"),
    ] {
        assert_eq!(made_private(said).as_deref(), Some(expected), "{said:?}");
    }
    for said in ["private", "no-store", "max-age=60, Private", "no-cache, No-Store", "private,public"] {
        assert_eq!(made_private(said), None, "{said:?}");
    }
}
