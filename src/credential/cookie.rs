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

    /// Not at a log-in: a session made from a session would never end.
    fn is_asked(question: Question<'_>) -> bool {
        !matches!(question, Question::LogIn(_) | Question::LogInByLink)
    }

    fn texts<R: Request>(request: &R, _: Question<'_>) -> impl Iterator<Item = impl Deref<Target = str>> {
        request.values(Field::Cookie)
    }

    fn credentials(text: &str) -> impl Iterator<Item = Credential<'_>> {
        parse(text).map(|(name, value)| Credential::Session(name, value))
    }
}

/// What every session cookie's name begins with.
const PREFIX: &str = "comfyui_session";

/// The name of a server's session cookie. Browsers share the cookies of a host among its ports, so the name carries the
/// port that the browser used. A name without a port is for the scheme's default port.
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
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{PREFIX}_{port}"),
            None => f.write_str(PREFIX),
        }
    }
}

/// The session cookies in one field value, for any port, in order. Other cookies are skipped.
pub fn parse(value: &str) -> impl Iterator<Item = (Name, &str)> {
    let ends = memchr_iter(b';', value.as_bytes()).chain(once(value.len()));
    let mut start = 0;
    ends.filter_map(move |end| {
        let pair = &value[std::mem::replace(&mut start, end + 1)..end];
        let (suffix, value) = pair.trim_matches(OWS).strip_prefix(PREFIX)?.split_once('=')?;
        let port = if suffix.is_empty() { None } else { Some(number(suffix.strip_prefix('_')?)?) };
        (!value.is_empty()).then_some((Name { port }, value))
    })
}

/// A port as [`Name`] writes it.
fn number(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|_| digits.len() == 1 || !digits.starts_with(['+', '0']))
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
#[path = "../../tests/units/credential_cookie.rs"]
mod tests;
