//! The key in the body of a log-in.

use std::iter::once;
use std::ops::Deref;

use super::{Credential, Place, Plain, Source};
use crate::request::{Question, Request};

/// The body of a log-in.
pub struct Form;

impl Place for Form {
    const NAME: &str = "body";

    fn is_asked(question: Question<'_>) -> bool {
        question.has_a_body()
    }

    fn texts<R: Request>(_: &R, question: Question<'_>) -> impl Iterator<Item = impl Deref<Target = str>> {
        let key = if let Question::LogIn(key) = question { key } else { None };
        key.into_iter()
    }

    fn credentials(text: &str) -> impl Iterator<Item = Credential<'_>> {
        once(Credential::Key(Source::Form, Plain::Borrowed(text)))
    }
}
