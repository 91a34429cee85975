//! What shared caches must not keep (RFC 9111, section 5.2.2.7).
//!
//! ComfyUI marks pictures as `public`, which shared caches take for leave to give them to everybody; and many of them keep
//! what isn't marked at all. `Vary` would not do: it names header fields, and a key may stand in the query.

/// The directive that keeps a response out of them.
pub const PRIVATE: &str = "private";

/// A `Cache-Control` field value made private, whatever else it says of how long the response may be kept; `None` where it
/// keeps the response from shared caches already.
#[must_use]
pub fn made_private(control: &str) -> Option<String> {
    let directives = || control.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let is = |directive: &str, name: &str| directive.eq_ignore_ascii_case(name);
    // `private="Field"` is not it: that is about the field only.
    if directives().any(|directive| is(directive, PRIVATE) || is(directive, "no-store")) {
        return None;
    }
    let kept = directives().filter(|directive| !is(directive, "public"));
    Some(std::iter::once(PRIVATE).chain(kept).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_else_is_said() {
        for (said, expected) in [
            ("", "private"),
            ("public", "private"),
            ("no-cache", "private, no-cache"),
            ("public, max-age=86400", "private, max-age=86400"),
            ("max-age=60 ,, PUBLIC", "private, max-age=60"),
            ("private=\"Set-Cookie\"", "private, private=\"Set-Cookie\""),
            ("s-maxage=60, must-revalidate", "private, s-maxage=60, must-revalidate"),
        ] {
            assert_eq!(made_private(said).as_deref(), Some(expected), "{said:?}");
        }
        for said in ["private", "no-store", "max-age=60, Private", "no-cache, No-Store", "private,public"] {
            assert_eq!(made_private(said), None, "{said:?}");
        }
    }
}
