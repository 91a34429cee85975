//! Which page a browser's request comes from.
//!
//! `Sec-Fetch-Site` (W3C Fetch Metadata) says so where browsers send it: on HTTPS and on loopback. Elsewhere `Origin`
//! (RFC 6454) is compared with the origin that the browser used. No script can set these fields.

use std::fmt;
use std::net::Ipv6Addr;

use crate::error::{ConfigError, quoted};
use crate::request::{Field, Request, combined, first_of, host};

/// What `Sec-Fetch-Site` says of a request from our own pages, and of one by the person at the address bar.
const OURS: [&str; 2] = ["same-origin", "none"];

/// The page that sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Nothing shows that a page sends it. For WebSockets and everything that changes something, browsers do show it.
    Unknown,
    /// One of this server's own, or one that the operator counts as such.
    Own,
    /// A page of the same host name, with another port or scheme. Our own pages look like that, too, if a proxy passes
    /// on the host without its port.
    SameHost,
    /// One of another host, or without any.
    Foreign,
}

/// The page that sends a request.
pub fn page<R: Request>(own: &OwnOrigins, request: &R) -> Page {
    let told = says_ours(request);
    if told == Some(true) {
        return Page::Own;
    }
    let Some(text) = combined(request, Field::Origin) else {
        return if told.is_some() { Page::Foreign } else { Page::Unknown };
    };
    page_of(own, request, &text, told.is_none())
}

/// Whether it says that a page of another site sends it: by `Sec-Fetch-Site`, by `Origin`, or else by `Referer`.
pub fn is_of_another_site<R: Request>(own: &OwnOrigins, request: &R) -> bool {
    let page = match page(own, request) {
        Page::Unknown => combined(request, Field::Referer).map(|referer| {
            let end = referer.find("://").map_or(0, |scheme| scheme + 3);
            let end = referer[end..].find(['/', '?', '#']).map_or(referer.len(), |authority| end + authority);
            page_of(own, request, &referer[..end], true)
        }),
        page => Some(page),
    };
    page.is_some_and(|page| page != Page::Own)
}

/// Which page has an origin.
fn page_of<R: Request>(own: &OwnOrigins, request: &R, text: &str, can_be_own: bool) -> Page {
    // No browser writes a scheme in capitals.
    let parsed = Origin::parse(text).filter(|origin| !origin.scheme.bytes().any(|byte| byte.is_ascii_uppercase()));
    let Some(origin) = parsed else { return Page::Foreign };
    if own.contains(&origin) {
        return Page::Own;
    }
    let used = used(request);
    match used.as_deref().and_then(Host::parse) {
        Some(host) if !host.name.eq_ignore_ascii_case(origin.host.name) => Page::Foreign,
        Some(host) if can_be_own && origin.is_at(&host, scheme(request)) => Page::Own,
        Some(_) => Page::SameHost,
        None => Page::Foreign,
    }
}

/// Whether all values of `Sec-Fetch-Site` say that a request is ours. `None` if there are none.
pub fn says_ours<R: Request>(request: &R) -> Option<bool> {
    let mut values = request.values(Field::SecFetchSite);
    let first = values.next()?;
    Some(OURS.contains(&&*first) && values.next().is_none())
}

/// The host that the browser used, as it is in its field.
fn used<R: Request>(request: &R) -> Option<String> {
    match host(request) {
        // A repeated `Host` names no host.
        Field::Host => combined(request, Field::Host),
        field => request.values(field).next().map(|hosts| first_of(&hosts).to_owned()),
    }
}

/// The scheme that the browser used, if a trusted proxy says so. Traefik writes `ws` or `wss` for a WebSocket.
fn scheme<R: Request>(request: &R) -> Option<&'static str> {
    let told = request.values(Field::XForwardedProto).next().filter(|_| request.proxied())?;
    match &*first_of(&told).to_ascii_lowercase() {
        "http" | "ws" => Some("http"),
        "https" | "wss" => Some("https"),
        _ => None,
    }
}

/// The origin of a page and the address that it sent its request to, for the log; `None` if the page has no origin.
/// Both contain only letters, digits and `:/.-_+[]`.
pub fn page_and_address<R: Request>(request: &R) -> Option<(String, String)> {
    let page = Origin::parse(&combined(request, Field::Origin)?)?.to_string();
    let host = used(request).as_deref().and_then(Host::parse).map_or("no host".to_owned(), |host| host.to_string());
    let scheme = scheme(request).map(|scheme| [scheme, "://"].concat()).unwrap_or_default();
    Some((page, scheme + &host))
}

/// The origins that count as this server's own besides the one that the browser used.
#[derive(Debug, Default)]
pub struct OwnOrigins(Vec<String>);

impl OwnOrigins {
    /// Takes `scheme://host` or `scheme://host:port`.
    ///
    /// # Errors
    /// One line per bad value.
    pub fn parse<S: AsRef<str>>(origins: &[S]) -> Result<Self, Vec<ConfigError>> {
        let mut own = Vec::new();
        let mut faults = Vec::new();
        for text in origins.iter().map(AsRef::as_ref) {
            match Origin::parse(text) {
                Some(origin) => own.push(origin.to_string()),
                None => faults.push(ConfigError::new(
                    "origin",
                    format!(
                        "{} is not an origin; write scheme://host or scheme://host:port, such as https://example.com",
                        quoted(text)
                    ),
                )),
            }
        }
        if faults.is_empty() { Ok(Self(own)) } else { Err(faults) }
    }

    fn contains(&self, origin: &Origin<'_>) -> bool {
        !self.0.is_empty() && self.0.contains(&origin.to_string())
    }
}

/// An origin as browsers write it (RFC 6454, section 6.2): `scheme://host[:port]`.
struct Origin<'t> {
    scheme: &'t str,
    host: Host<'t>,
}

impl<'t> Origin<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        Host::parse(authority).filter(|_| is_scheme).map(|host| Self { scheme, host })
    }

    /// The scheme's default port.
    fn default_port(&self) -> Option<u16> {
        if self.scheme.eq_ignore_ascii_case("http") {
            Some(80)
        } else if self.scheme.eq_ignore_ascii_case("https") {
            Some(443)
        } else {
            None
        }
    }

    /// Whether it is the origin of the server that the browser calls `host`, with `scheme` if that is known.
    fn is_at(&self, host: &Host<'_>, scheme: Option<&str>) -> bool {
        let Some(default) = self.default_port() else { return false };
        scheme.is_none_or(|scheme| self.scheme.eq_ignore_ascii_case(scheme))
            && self.host.name.eq_ignore_ascii_case(host.name)
            && self.host.port.unwrap_or(default) == host.port.unwrap_or(default)
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Host { name, port } = self.host;
        let host = Host { name, port: port.filter(|port| Some(*port) != self.default_port()) };
        write!(f, "{}://{host}", self.scheme.to_ascii_lowercase())
    }
}

/// `name`, `1.2.3.4` or `[::1]`, perhaps with a port.
struct Host<'t> {
    name: &'t str,
    port: Option<u16>,
}

impl<'t> Host<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                (name, Some(port.parse().ok().filter(|_| is_number)?))
            }
            _ => (text, None),
        };
        let is_name = match name.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
            None => name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
        };
        (is_name && !name.is_empty()).then_some(Self { name, port })
    }
}

impl fmt::Display for Host<'_> {
    /// An IPv6 address as browsers write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        match inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
            Some(address) => write!(f, "[{address}]")?,
            None => f.write_str(&self.name.to_ascii_lowercase())?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
#[path = "../tests/units/origin.rs"]
mod tests;
