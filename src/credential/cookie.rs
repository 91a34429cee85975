//! The session cookie in a `Cookie` field (RFC 6265, section 4.2.1).

use std::fmt;
use std::iter::once;
use std::ops::Deref;

use memchr::memchr_iter;

use super::{Credential, OWS, Place};
use crate::request::{Field, Question, Request, first_of, host};

/// The session cookie.
pub struct Cookie;

impl Place for Cookie {
    const NAME: &str = "Cookie";

    /// A session made of a session would never end.
    fn is_asked(question: Question<'_>) -> bool {
        !matches!(question, Question::LogIn(_) | Question::LogInByLink)
    }

    fn texts<R: Request>(request: &R, _: Question<'_>) -> impl Iterator<Item = impl Deref<Target = str>> {
        request.values(Field::Cookie)
    }

    fn credentials<'t, R: Request>(
        text: &'t str,
        request: &R,
        _: Question<'_>,
    ) -> impl Iterator<Item = Credential<'t>> {
        parse(text, Name::of(request)).map(Credential::Session)
    }
}

/// What every session cookie's name begins with.
const PREFIX: &str = "comfyui_session";

/// The name of a server's session cookie. Browsers share the cookies of a host among its ports, so it carries the port
/// that the browser used; without a port it is the scheme's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    port: Option<u16>,
}

impl Name {
    /// The name at the address that the browser used.
    #[must_use]
    pub fn of<R: Request>(request: &R) -> Self {
        let field = host(request);
        let is_list = field != Field::Host;
        let host = request.values(field).next();
        Self::at(host.and_then(|host| port(if is_list { first_of(&host) } else { &host })))
    }

    /// The name at an address with this port.
    #[must_use]
    pub fn at(port: Option<u16>) -> Self {
        Self { port }
    }

    /// The value of a `name=value` pair, if the name is this one.
    fn value_of(self, pair: &str) -> Option<&str> {
        let (suffix, value) = pair.strip_prefix(PREFIX)?.split_once('=')?;
        let is_ours = match self.port {
            None => suffix.is_empty(),
            Some(port) => suffix.strip_prefix('_').is_some_and(|digits| {
                digits.parse() == Ok(port) && (digits.len() == 1 || !digits.starts_with(['+', '0']))
            }),
        };
        (is_ours && !value.is_empty()).then_some(value)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{PREFIX}_{port}"),
            None => f.write_str(PREFIX),
        }
    }
}

/// The values of all cookies called `name` in one field value, in order. The others are passed over.
pub fn parse(value: &str, name: Name) -> impl Iterator<Item = &str> {
    let ends = memchr_iter(b';', value.as_bytes()).chain(once(value.len()));
    let mut start = 0;
    ends.filter_map(move |end| {
        let pair = &value[std::mem::replace(&mut start, end + 1)..end];
        name.value_of(pair.trim_matches(OWS))
    })
}

/// The port in a `Host` field value: `name:port`, `1.2.3.4:port`, `[::1]:port`.
#[must_use]
pub fn port(host: &str) -> Option<u16> {
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
        let found = |value, port| parse(value, Name::at(port)).collect::<Vec<_>>();
        let cookies =
            "comfyui_session_1=a; comfyui_session_12=b; xcomfyui_session_1=c;comfyui_session_1=d=;comfyui_session=e";
        assert_eq!(found(cookies, Some(1)), ["a", "d="]);
        assert_eq!(found(cookies, None), ["e"]);
        for other in ["comfyui_session_1=", "comfyui_session_1", "comfyui_session_01=x; comfyui_session_+1=x"] {
            assert_eq!(found(other, Some(1)), Vec::<&str>::new(), "{other}");
        }
    }
}
