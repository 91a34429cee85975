use super::*;

#[test]
fn takes_the_key_off_the_path() {
    for (path, expected) in [
        ("/key/K/prompt", Some(("K", "/prompt"))),
        ("/key/K/", Some(("K", "/"))),
        ("/key/K", Some(("K", "/"))),
        ("/key/K//prompt", Some(("K", "//prompt"))),
        ("/key/K/../prompt", Some(("K", "/../prompt"))),
        ("/key/K/key/L/prompt", Some(("K", "/key/L/prompt"))),
        ("/key/a%2Fb%2b+%3D/x%2Fy", Some(("a/b++=", "/x%2Fy"))),
        ("/key/%ff/x", Some(("\u{fffd}", "/x"))),
        ("/key/%/x", Some(("%", "/x"))),
        ("/key/", None),
        ("/key//prompt", None),
        ("/key/./prompt", None),
        ("/key/../prompt", None),
        ("/key/%2e%2E/prompt", None),
        ("/key", None),
        ("/keys/K/prompt", None),
        ("/Key/K/prompt", None),
        ("/%6bey/K/prompt", None),
        ("//key/K/prompt", None),
        ("/api/key/K/prompt", None),
        ("key/K/prompt", None),
        ("", None),
    ] {
        let found = parse(path);
        assert_eq!(found.as_ref().map(|(key, left)| (key.expose_secret(), *left)), expected, "{path:?}");
    }
}
