//! How a browser came to send a request, according to Fetch Metadata.

use crate::origin::says_ours;
use crate::request::{Field, Request, combined};

/// How a browser came to send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// It doesn't say.
    Unsaid,
    /// By a page of ours, or by the person at the address bar.
    Ours,
    /// By a link on a page of another origin. Another port of this host is one, too, though its links send even a Strict
    /// cookie.
    Link,
    /// A page of another origin embeds what it finds: by `<img>`, `fetch`, `<iframe>`.
    Embedded,
}

/// How a browser came to send a request.
pub fn visit<R: Request>(request: &R) -> Visit {
    match says_ours(request) {
        None => Visit::Unsaid,
        Some(true) => Visit::Ours,
        Some(false) if is_page(request, false) => Visit::Link,
        Some(false) => Visit::Embedded,
    }
}

/// Whether the person opens it right now, or a page of ours does. It is in no other page, and not loaded in advance.
pub fn is_opened_now<R: Request>(request: &R) -> bool {
    visit(request) == Visit::Ours && is_page(request, true) && !request.has(Field::SecPurpose)
}

/// Whether it is a page by itself; `unsaid` where the browser doesn't say.
fn is_page<R: Request>(request: &R, unsaid: bool) -> bool {
    let is = |field, value| combined(request, field).map_or(unsaid, |said| said == value);
    is(Field::SecFetchMode, "navigate") && is(Field::SecFetchDest, "document")
}
