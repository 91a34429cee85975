//! The places in a request where a credential may be, one per file. Their order is [`crate::decide`]'s.
//!
//! Each parser tells absent, malformed and present apart. An empty value is absent. Whether a present key is the right
//! one is for [`crate::keys`] to say.

pub mod authorization;
pub mod basic;
pub mod bearer;
pub mod cookie;
pub mod form;
pub mod query;
pub mod url_prefix;
pub mod x_api_key;

use std::fmt;
use std::ops::Deref;

pub use authorization::Authorization;
pub use cookie::Cookie;
pub use form::Form;
pub use query::Query;
pub use url_prefix::UrlPrefix;
pub use x_api_key::XApiKey;

use crate::request::{Question, Request};
use crate::secret::SHORT_KEY_LENGTH;

/// Space that may be around a value (RFC 9110, section 5.6.3).
const OWS: [char; 2] = [' ', '\t'];

/// A place in a request where credentials may be.
pub trait Place {
    /// Its name, for the log.
    const NAME: &str;

    /// Whether it is looked at for this question.
    fn is_asked(question: Question<'_>) -> bool;

    /// The texts there.
    fn texts<R: Request>(request: &R, question: Question<'_>) -> impl Iterator<Item = impl Deref<Target = str>>;

    /// The credentials in one of them.
    fn credentials(text: &str) -> impl Iterator<Item = Credential<'_>>;
}

/// What was found in a place.
pub enum Credential<'t> {
    /// A key, in plain text.
    Key(Source, Plain<'t>),
    /// A session, and the name of its cookie.
    Session(cookie::Name, &'t str),
    /// One of our schemes, but not in its form.
    Malformed,
}

impl Credential<'_> {
    /// Whether it is a key that is too long to guess.
    #[must_use]
    pub fn is_long_key(&self) -> bool {
        matches!(self, Self::Key(_, plain) if plain.expose_secret().len() >= SHORT_KEY_LENGTH)
    }
}

/// Where a credential was.
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
    /// The body of a log-in
    Form,
}

impl Source {
    /// Its name in what clients and operators read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::Header => "x-api-key",
            Self::Query => "query",
            Self::UrlPrefix => "path",
            Self::Cookie => "cookie",
            Self::Form => "body",
        }
    }
}

/// A key as a client presented it: borrowed from the request if possible, otherwise decoded into memory that is
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

impl fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain([redacted])")
    }
}

#[cfg(test)]
#[path = "../../tests/units/credential.rs"]
mod tests;
