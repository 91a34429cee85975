//! `/key/KEY/prompt`, which is `/prompt` with that key: for clients that only let you set a host and a path.

use std::borrow::Cow;
use std::iter::once;
use std::ops::Deref;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::{Credential, Place, Plain, Source};
use crate::request::{Question, Request};

/// The beginning of the path.
pub struct UrlPrefix;

impl Place for UrlPrefix {
    const NAME: &str = "path";

    fn is_asked(question: Question<'_>) -> bool {
        question != Question::LogOut
    }

    fn texts<R: Request>(request: &R, _: Question<'_>) -> impl Iterator<Item = impl Deref<Target = str>> {
        request.url_keys()
    }

    fn credentials(text: &str) -> impl Iterator<Item = Credential<'_>> {
        once(Credential::Key(Source::UrlPrefix, Plain::Borrowed(text)))
    }
}

/// What comes before the key.
pub const PREFIX: &str = "/key/";

/// Splits a raw (still percent-encoded) path into the key and the remaining path, which begins with `/`.
///
/// `None` if there is no prefix, or the key would be empty or a dot segment: servers and proxies don't agree on what such
/// a path means.
#[must_use]
pub fn parse(path: &str) -> Option<(Plain<'_>, &str)> {
    let rest = path.strip_prefix(PREFIX)?;
    let (key, left) = rest.find('/').map_or((rest, "/"), |end| rest.split_at(end));
    let key = match percent_decode_str(key).decode_utf8_lossy() {
        Cow::Borrowed(text) => Plain::Borrowed(text),
        Cow::Owned(text) => Plain::Decoded(Zeroizing::new(text)),
    };
    (!["", ".", ".."].contains(&key.expose_secret())).then_some((key, left))
}

#[cfg(test)]
#[path = "../../tests/units/credential_url_prefix.rs"]
mod tests;
