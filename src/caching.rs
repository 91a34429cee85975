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
#[path = "../tests/units/caching.rs"]
mod tests;
