//! `?api_key=KEY` and its alias `?token=KEY`, for clients that can send neither header nor cookie.

use std::ops::Deref;

use zeroize::Zeroizing;

use super::{Credential, Place, Plain, Source};
use crate::request::{Question, Request};

/// The query.
pub struct Query;

impl Place for Query {
    const NAME: &str = "query";

    fn is_asked(question: Question<'_>) -> bool {
        question != Question::LogOut
    }

    fn texts<R: Request>(request: &R, _: Question<'_>) -> impl Iterator<Item = impl Deref<Target = str>> {
        request.query().into_iter()
    }

    fn credentials(text: &str) -> impl Iterator<Item = Credential<'_>> {
        parse(text).map(|plain| Credential::Key(Source::Query, plain))
    }
}

/// The parameter's names, the guide's first.
pub const NAMES: [&str; 2] = ["api_key", "token"];

/// Every non-empty key in a raw (still percent-encoded) query string, in order. HTML forms write a space as `+`, but no
/// key has a space. So both mean `+`, which keys of `openssl rand -base64` contain and few people encode.
pub fn parse(query: &str) -> impl Iterator<Item = Plain<'_>> {
    form_urlencoded::parse(query.as_bytes()).filter(|(name, value)| is_credential(name) && !value.is_empty()).map(
        |(_, value)| match value {
            std::borrow::Cow::Borrowed(text) => Plain::Borrowed(text),
            std::borrow::Cow::Owned(text) => {
                let text = Zeroizing::new(text);
                Plain::Decoded(Zeroizing::new(text.replace(' ', "+")))
            }
        },
    )
}

/// The raw query string without its credentials, for a visible `next` URL.
#[must_use]
pub fn without_credentials(query: &str) -> String {
    let kept =
        query.split('&').filter(|pair| form_urlencoded::parse(pair.as_bytes()).all(|(name, _)| !is_credential(&name)));
    kept.collect::<Vec<_>>().join("&")
}

fn is_credential(name: &str) -> bool {
    NAMES.contains(&name)
}

#[cfg(test)]
#[path = "../../tests/units/credential_query.rs"]
mod tests;
