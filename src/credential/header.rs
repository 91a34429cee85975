//! `X-API-Key: KEY`.

use super::{OWS, Plain};

/// The field's name.
pub const NAME: &str = "X-API-Key";

/// Reads one field value; `None` where it is empty.
#[must_use]
pub fn parse(value: &str) -> Option<Plain<'_>> {
    let key = value.trim_matches(OWS);
    (!key.is_empty()).then_some(Plain::Borrowed(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_is_absent() {
        assert!(parse("").is_none() && parse(" \t").is_none());
        assert_eq!(parse(" KEY ").unwrap().expose_secret(), "KEY");
    }
}
