//! Whether a browser's request comes from this server's own pages (rule 2).
//!
//! `Sec-Fetch-Site` (W3C Fetch Metadata) says so where browsers send it: on HTTPS and on loopback. Elsewhere `Origin`
//! (RFC 6454) is compared with `Host`. A request that says neither is not known to be ours.

/// The fields that browsers set and scripts cannot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Provenance<'a> {
    /// `Sec-Fetch-Site`
    pub site: Option<&'a str>,
    /// `Sec-Fetch-Mode`
    pub mode: Option<&'a str>,
    /// `Sec-Fetch-Dest`
    pub destination: Option<&'a str>,
    /// `Origin`
    pub origin: Option<&'a str>,
    /// `Host`
    pub host: Option<&'a str>,
}

impl Provenance<'_> {
    /// What `Sec-Fetch-Site` says of a request from our own pages.
    pub const OURS: &'static str = "same-origin";

    /// For requests that change something: they must be known to come from our own pages, or from the person at the
    /// address bar (`none`).
    #[must_use]
    pub fn is_same_origin(&self) -> bool {
        match self.site {
            Some(site) => site == Self::OURS || site == "none",
            None => match (self.origin, self.host) {
                (Some(origin), Some(host)) => is_origin_of(origin, host),
                _ => false,
            },
        }
    }

    /// For a log-in form, which bears its own credential: a program that says nothing may send it, a foreign page may not,
    /// lest it log the person in under somebody else's key.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        (self.site.is_some() || self.origin.is_some()) && !self.is_same_origin()
    }

    /// For reads: a page of another origin (another port of this host, whose requests carry even a Strict cookie) may
    /// link here, but not embed what it finds: no `<img>`, `fetch` or `<iframe>`.
    #[must_use]
    pub fn may_read(&self) -> bool {
        match self.site {
            None | Some(Self::OURS | "none") => true,
            Some(_) => self.mode == Some("navigate") && self.destination == Some("document"),
        }
    }
}

/// Whether `origin` (`scheme://host[:port]`) names the server that `host` (`host[:port]`) names. A missing port is the
/// scheme's default.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (name, port) = split_port(authority);
    let (host_name, host_port) = split_port(host);
    !name.is_empty() && name.eq_ignore_ascii_case(host_name) && port.unwrap_or(default) == host_port.unwrap_or(default)
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_must_come_from_our_own_pages() {
        for (site, origin, host, expected) in [
            (Some("same-origin"), None, None, true),
            (Some("none"), None, None, true),
            (Some("same-site"), Some("http://h:1"), Some("h:1"), false),
            (Some("cross-site"), Some("http://h:1"), Some("h:1"), false),
            (Some("Same-Origin"), None, None, false),
            (None, Some("http://h:8188"), Some("h:8188"), true),
            (None, Some("http://H:8188"), Some("h:8188"), true),
            (None, Some("http://h"), Some("h:80"), true),
            (None, Some("https://h"), Some("h"), true),
            (None, Some("https://h:443"), Some("h"), true),
            (None, Some("http://[::1]:8188"), Some("[::1]:8188"), true),
            (None, Some("http://[::1]"), Some("[::1]"), true),
            (None, Some("http://h:8189"), Some("h:8188"), false),
            (None, Some("http://h:8188"), Some("h"), false),
            (None, Some("http://h.evil"), Some("h"), false),
            (None, Some("null"), Some("null"), false),
            (None, Some("file://"), Some(""), false),
            (None, Some("http://"), Some(""), false),
            (None, None, Some("h"), false),
            (None, Some("http://h"), None, false),
        ] {
            let facts = Provenance { site, origin, host, ..Provenance::default() };
            assert_eq!(facts.is_same_origin(), expected, "{facts:?}");
        }
    }

    #[test]
    fn log_in_forms_may_come_from_programs_but_not_from_foreign_pages() {
        for (site, origin, expected) in [
            (None, None, false),
            (Some("same-origin"), None, false),
            (None, Some("http://h"), false),
            (None, Some("http://evil"), true),
            (None, Some("null"), true),
            (Some("cross-site"), None, true),
        ] {
            let facts = Provenance { site, origin, host: Some("h"), ..Provenance::default() };
            assert_eq!(facts.is_foreign(), expected, "{facts:?}");
        }
    }

    #[test]
    fn foreign_pages_may_link_but_not_embed() {
        for (site, mode, destination, expected) in [
            (None, None, None, true),
            (Some("same-origin"), Some("no-cors"), Some("image"), true),
            (Some("none"), Some("navigate"), Some("document"), true),
            (Some("same-site"), Some("navigate"), Some("document"), true),
            (Some("same-site"), Some("no-cors"), Some("image"), false),
            (Some("cross-site"), Some("navigate"), Some("iframe"), false),
            (Some("same-site"), Some("cors"), Some("empty"), false),
        ] {
            let facts = Provenance { site, mode, destination, ..Provenance::default() };
            assert_eq!(facts.may_read(), expected, "{facts:?}");
        }
    }
}
