//! The session cookie in a `Cookie` field (RFC 6265, section 4.2.1).

/// What every session cookie's name begins with.
const PREFIX: &str = "comfyui_session";

/// The cookie's name for a server reached as `host` (the `Host` field's value). Browsers share the cookies of a host
/// among its ports, so the name carries the port that the browser used; without a port it is the scheme's own.
#[must_use]
pub fn name(host: Option<&str>) -> String {
    match host.and_then(port) {
        Some(port) => [PREFIX, "_", &port.to_string()].concat(),
        None => PREFIX.to_owned(),
    }
}

/// The values of all cookies called `name` in one field value, in order, without parsing the others.
pub fn parse<'a>(value: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    value.split(';').filter_map(move |pair| {
        let value = pair.trim_matches([' ', '\t']).strip_prefix(name)?.strip_prefix('=')?;
        (!value.is_empty()).then_some(value)
    })
}

/// The port in a `Host` field value: `name:port`, `1.2.3.4:port`, `[::1]:port`.
fn port(host: &str) -> Option<u16> {
    let (_, port) = host.rsplit_once(':')?;
    if host.starts_with('[') && !host.contains("]:") {
        return None;
    }
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_carries_the_port() {
        for (host, expected) in [
            (Some("localhost:8188"), "comfyui_session_8188"),
            (Some("[::1]:9000"), "comfyui_session_9000"),
            (Some("[::1]"), "comfyui_session"),
            (Some("example.org"), "comfyui_session"),
            (Some("example.org:port"), "comfyui_session"),
            (Some("example.org:99999"), "comfyui_session"),
            (None, "comfyui_session"),
        ] {
            assert_eq!(name(host), expected, "{host:?}");
        }
    }

    #[test]
    fn finds_values_by_the_whole_name() {
        let found = |value| parse(value, "c_1").collect::<Vec<_>>();
        assert_eq!(found("c_1=a; c_12=b; xc_1=c;c_1=d"), ["a", "d"]);
        assert_eq!(found("c_1=; c_1"), Vec::<&str>::new());
        assert_eq!(found("c_1=a=b"), ["a=b"]);
    }
}
