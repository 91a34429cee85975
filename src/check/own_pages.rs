//! What browsers add by themselves doesn't prove what the person wanted: it must come from our own pages.

use super::Context;
use crate::credential::Source;
use crate::decision::{Denial, Grant};
use crate::origin::Page;
use crate::request::{Request, is_by_a_browser, is_read};
use crate::visit::{Visit, visit};

/// With the cookie, and with Basic credentials where anything marks a browser, a request that changes something, and a
/// WebSocket, must come from this origin, and a read must not be embedded by another one.
///
/// # Errors
/// [`Denial::CrossOrigin`].
pub fn check<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> Result<(), Denial> {
    let Context { request, question, .. } = *context;
    let reads = || is_read(request, question) && visit(request) != Visit::Embedded;
    let ours = match grant.source {
        Source::Cookie => context.page() == Page::Own || reads(),
        Source::Basic => context.page() == Page::Own || reads() || !is_by_a_browser(request),
        _ => true,
    };
    if ours { Ok(()) } else { Err(Denial::CrossOrigin) }
}
