//! `X-API-Key: KEY`.

use std::ops::Deref;

use super::{Credential, OWS, Place, Plain, Source};
use crate::request::{Field, Question, Request};

/// The `X-API-Key` field.
pub struct XApiKey;

impl Place for XApiKey {
    const NAME: &str = "X-API-Key";

    fn is_asked(question: Question<'_>) -> bool {
        !matches!(question, Question::LogOut | Question::LogInByLink)
    }

    fn texts<R: Request>(request: &R, _: Question<'_>) -> impl Iterator<Item = impl Deref<Target = str>> {
        request.values(Field::XApiKey)
    }

    fn credentials(text: &str) -> impl Iterator<Item = Credential<'_>> {
        parse(text).map(|plain| Credential::Key(Source::Header, plain)).into_iter()
    }
}

/// Reads one field value; `None` where it is empty.
#[must_use]
pub fn parse(value: &str) -> Option<Plain<'_>> {
    let key = value.trim_matches(OWS);
    (!key.is_empty()).then_some(Plain::Borrowed(key))
}

#[cfg(test)]
#[path = "../../tests/units/credential_x_api_key.rs"]
mod tests;
