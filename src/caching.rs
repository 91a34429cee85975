//! Keeps responses out of shared caches (RFC 9111, section 5.2.2.7).
//!
//! ComfyUI marks pictures as `public`, so shared caches may give them to anyone, and many caches also store responses
//! without a mark. `Vary` is not enough: it names header fields, but a key may be in the query.

/// The directive that keeps a response out of them.
pub const PRIVATE: &str = "private";

/// A `Cache-Control` field value made private, with its other directives; `None` if it already keeps the response out of
/// shared caches.
#[must_use]
pub fn made_private(control: &str) -> Option<String> {
    let directives = || control.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let is = |directive: &str, name: &str| directive.eq_ignore_ascii_case(name);
    // `private="Field"` is not enough: it is only about that field.
    if directives().any(|directive| is(directive, PRIVATE) || is(directive, "no-store")) {
        return None;
    }
    let kept = directives().filter(|directive| !is(directive, "public"));
    Some(std::iter::once(PRIVATE).chain(kept).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
#[path = "../tests/units/caching.rs"]
mod tests;
