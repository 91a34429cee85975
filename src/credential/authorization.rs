//! `Authorization`: Bearer and Basic.

use std::ops::Deref;

use super::{Credential, OWS, Place, Plain, Source, basic, bearer};
use crate::request::{Field, Question, Request};

/// The `Authorization` field.
pub struct Authorization;

impl Place for Authorization {
    const NAME: &str = "Authorization";

    fn is_asked(question: Question<'_>) -> bool {
        !matches!(question, Question::LogOut | Question::LogInByLink)
    }

    fn texts<R: Request>(request: &R, _: Question<'_>) -> impl Iterator<Item = impl Deref<Target = str>> {
        request.values(Field::Authorization)
    }

    fn credentials(text: &str) -> impl Iterator<Item = Credential<'_>> {
        let found = match parse(text) {
            Token::Absent => None,
            Token::Malformed => Some(Credential::Malformed),
            Token::Key(source, plain) => Some(Credential::Key(source, plain)),
        };
        found.into_iter()
    }
}

/// What one field value holds.
pub enum Token<'a> {
    /// Nothing for us: an empty value, another scheme, a scheme without a value.
    Absent,
    /// One of our schemes, but not in its form.
    Malformed,
    /// A key, in plain text.
    Key(Source, Plain<'a>),
}

/// Reads one `Authorization` field value (RFC 9110, section 11.6.2): scheme, spaces, credentials. Schemes other than
/// Bearer and Basic belong to others, often to a proxy, and count as absent.
#[must_use]
pub fn parse(value: &str) -> Token<'_> {
    // What nearly all clients send.
    if let Some(("Bearer ", token)) = value.split_at_checked("Bearer ".len())
        && let key @ Token::Key(..) = bearer::parse(token)
    {
        return key;
    }
    let Some((scheme, rest)) = value.trim_matches(OWS).split_once(OWS) else { return Token::Absent };
    let rest = rest.trim_start_matches(OWS);
    if scheme.eq_ignore_ascii_case(bearer::SCHEME) {
        bearer::parse(rest)
    } else if scheme.eq_ignore_ascii_case(basic::SCHEME) {
        basic::parse(rest)
    } else {
        Token::Absent
    }
}

#[cfg(test)]
#[path = "../../tests/units/credential_authorization.rs"]
mod tests;
