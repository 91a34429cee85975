//! The shape of a JSON Web Token (RFC 7519, section 3), which gateways put into `Authorization`.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

/// Whether a text has it: three parts (signed) or five (encrypted) in base64url, the first a JSON object. Nobody makes up a
/// word like that.
#[must_use]
pub fn has_shape(text: &str) -> bool {
    let is_base64url =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let Some((header, rest)) = text.split_once('.') else { return false };
    matches!(rest.split('.').count(), 2 | 4) && rest.split('.').all(is_base64url) && is_json_object(header)
}

fn is_json_object(header: &str) -> bool {
    let json = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    matches!(json.trim_ascii(), [b'{', .., b'}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_from_other_texts() {
        let header = "eyJhbGciOiJIUzI1NiJ9"; // {"alg":"HS256"}
        for (text, expected) in [
            (format!("{header}.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"), true),
            (format!("{header}.e30."), true),
            (format!("{header}..iv.text.tag"), true),
            (format!("{header}.e30"), false),
            (format!("{header}.e30.a.b"), false),
            (format!("{header}.e30.a b"), false),
            (format!("{header}.e30.a="), false),
            ("my.secret.key".to_owned(), false),
            ("a.b.c".to_owned(), false),
            ("..".to_owned(), false),
            ("W10.e30.c2ln".to_owned(), false), // []
            (header.to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(has_shape(&text), expected, "{text}");
        }
    }
}
