//! The places in a request where a credential can stand, one a file, and their order.
//!
//! Each parser tells absent, malformed and present apart. An empty value is absent. Whether a present key is the right
//! one is for [`crate::keys`] to say.

pub mod basic;
pub mod bearer;
pub mod cookie;
pub mod header;
pub mod query;
pub mod url_prefix;

/// Space that may stand around a value (RFC 9110, section 5.6.3).
const OWS: [char; 2] = [' ', '\t'];

/// Where a credential stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// `Authorization: Basic`, the key as password
    Basic,
    /// `X-API-Key: KEY`
    Header,
    /// `?api_key=KEY` or `?token=KEY`
    Query,
    /// `/key/KEY/…` before the path
    UrlPrefix,
    /// The session cookie
    Cookie,
    /// A field of the login form
    Form,
}

/// What one `Authorization` field value holds.
pub enum Authorization<'a> {
    /// Nothing for us: an empty value, another scheme, a scheme without a value.
    Absent,
    /// One of our schemes, but not in its form.
    Malformed,
    /// A key, in plain text.
    Key(Source, Plain<'a>),
}

/// A key as a client presented it: borrowed from the request where that is possible, else decoded into memory that is
/// zeroized when dropped.
pub enum Plain<'a> {
    /// Part of the request.
    Borrowed(&'a str),
    /// Decoded.
    Decoded(zeroize::Zeroizing<String>),
}

impl Plain<'_> {
    /// The plain text. Callers must not store, log or return it.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Decoded(text) => text,
        }
    }
}

impl std::fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain([redacted])")
    }
}

/// Reads one `Authorization` field value (RFC 9110, section 11.6.2): scheme, spaces, credentials. Schemes other than
/// Bearer and Basic belong to somebody else, often to a proxy, and count as absent.
#[must_use]
pub fn authorization(value: &str) -> Authorization<'_> {
    // What nearly everybody sends.
    if let Some(("Bearer ", token)) = value.split_at_checked("Bearer ".len())
        && let key @ Authorization::Key(..) = bearer::parse(token)
    {
        return key;
    }
    let Some((scheme, rest)) = value.trim_matches(OWS).split_once(OWS) else { return Authorization::Absent };
    let rest = rest.trim_start_matches(OWS);
    if scheme.eq_ignore_ascii_case(bearer::SCHEME) {
        bearer::parse(rest)
    } else if scheme.eq_ignore_ascii_case(basic::SCHEME) {
        basic::parse(rest)
    } else {
        Authorization::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> String {
        match authorization(value) {
            Authorization::Absent => "absent".into(),
            Authorization::Malformed => "malformed".into(),
            Authorization::Key(source, plain) => format!("{source:?} {}", plain.expose_secret()),
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

    #[test]
    fn never_prints_a_key() {
        let Authorization::Key(_, plain) = authorization("Bearer canary") else { panic!("no key") };
        assert!(!format!("{plain:?}").contains("canary"));
    }
}
