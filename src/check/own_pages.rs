//! Credentials that browsers add by themselves don't prove intent (CSRF): such requests must come from our own pages.
//!
//! Versions of ComfyUI-Manager in use restart and update the server by `GET`. A key that may save settings and workflows
//! can put pictures and links into the owner's page. So these routes only answer scripts of the page, or the person at
//! the address bar.

use super::Context;
use crate::credential::Source;
use crate::decision::{Denial, Grant};
use crate::origin::Page;
use crate::request::{Field, Request, combined, is_by_a_browser, is_read, takes_html};
use crate::visit::{Visit, visit};

/// With the cookie, and with Basic credentials from a browser, a request that changes something and a WebSocket must come
/// from this origin, and another origin must not embed a read. ComfyUI-Manager's routes must be requested by a script.
///
/// # Errors
/// [`Denial::CrossOrigin`].
pub fn check<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> Result<(), Denial> {
    let Context { request, question, .. } = *context;
    let reads = || is_read(request, question) && visit(request) != Visit::Embedded;
    // Check the script first: nearly all requests come from one, and looking up the route is expensive.
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

/// Whether a script asks for it, not an element of a page or a link. If the browser doesn't say, `Accept` shows it.
fn is_by_a_script<R: Request>(request: &R) -> bool {
    if let Some(destination) = request.values(Field::SecFetchDest).next() {
        return &*destination == "empty" || combined(request, Field::SecFetchSite).is_some_and(|site| site == "none");
    }
    !takes_html(request) && !request.values(Field::Accept).any(|accept| accept.trim_start().starts_with("image/"))
}
