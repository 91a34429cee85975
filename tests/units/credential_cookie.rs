use super::*;

#[test]
fn the_name_carries_the_port() {
    for (host, expected) in [
        ("localhost:8188", "comfyui_session_8188"),
        ("[::1]:9000", "comfyui_session_9000"),
        ("[::1]", "comfyui_session"),
        ("example.org", "comfyui_session"),
        ("example.org:port", "comfyui_session"),
        ("example.org:99999", "comfyui_session"),
    ] {
        assert_eq!(Name::at(port(host)).to_string(), expected, "{host:?}");
    }
}

#[test]
fn finds_values_by_the_whole_name() {
    let found = |value, port| {
        let named = parse(value).filter(|(name, _)| *name == Name::at(port));
        named.map(|(_, value)| value).collect::<Vec<_>>()
    };
    let cookies =
        "comfyui_session_1=a; comfyui_session_12=b; xcomfyui_session_1=c;comfyui_session_1=d=;comfyui_session=e";
    assert_eq!(found(cookies, Some(1)), ["a", "d="]);
    assert_eq!(found(cookies, None), ["e"]);
    for other in ["comfyui_session_1=", "comfyui_session_1", "comfyui_session_01=x; comfyui_session_+1=x"] {
        assert_eq!(found(other, Some(1)), Vec::<&str>::new(), "{other}");
    }
}
