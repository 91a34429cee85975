//! What browsers add by themselves doesn't prove what the person wanted: it must come from our own pages.
//!
//! Of ComfyUI-Manager, versions that people use restart and update the server by `GET`. A key that may save settings and
//! workflows decides which pictures and links the owner's page has. So these routes answer a script of the page's, or the
//! person at the address bar.

use super::Context;
use crate::credential::Source;
use crate::decision::{Denial, Grant};
use crate::origin::Page;
use crate::request::{Field, Request, combined, is_by_a_browser, is_read, takes_html};
use crate::visit::{Visit, visit};

/// With the cookie, and with Basic credentials where anything marks a browser, a request that changes something, and a
/// WebSocket, must come from this origin, and a read must not be embedded by another one. What is ComfyUI-Manager's is asked
/// for by a script.
///
/// # Errors
/// [`Denial::CrossOrigin`].
pub fn check<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> Result<(), Denial> {
    let Context { request, question, .. } = *context;
    let reads = || is_read(request, question) && visit(request) != Visit::Embedded;
    // Nearly everything that a page asks for is by a script, and the route is dear.
    let policy = context.policy;
    let is_of_the_manager = || policy.scopes.is_of_the_manager(request.route());
    let is_meant = || !policy.exemptions.in_comfyui() || is_by_a_script(request) || !is_of_the_manager();
    let ours = || (context.page() == Page::Own || reads()) && is_meant();
    let passes = match grant.source {
        Source::Cookie => ours(),
        Source::Basic => !is_by_a_browser(request) || ours(),
        _ => true,
    };
    if passes { Ok(()) } else { Err(Denial::CrossOrigin) }
}

/// Whether no element of a page and no link asks for it. A browser that doesn't say so takes pictures, or pages, above all.
fn is_by_a_script<R: Request>(request: &R) -> bool {
    if let Some(destination) = request.values(Field::SecFetchDest).next() {
        return &*destination == "empty" || combined(request, Field::SecFetchSite).is_some_and(|site| site == "none");
    }
    !takes_html(request) && !request.values(Field::Accept).any(|accept| accept.trim_start().starts_with("image/"))
}
