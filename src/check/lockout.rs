//! While an address is locked, only keys that were good from it before pass.

use super::Context;
use crate::decision::{Denial, Grant};
use crate::request::{Question, Request};

/// Whether the key may be used from the client's address. Anybody may end their own session.
///
/// # Errors
/// [`Denial::Locked`].
pub fn check<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> Result<(), Denial> {
    if matches!(context.question, Question::LogOut | Question::Again) {
        return Ok(());
    }
    let Some(client) = context.request.client() else { return Ok(()) };
    context.policy.state.throttle.permits(client, grant.key.id(), context.now.monotonic).map_err(Denial::locked)
}

/// Remembers that the key is good from the client's address: at the first request of a client, or while somebody is locked.
#[cold]
pub fn note<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) {
    let (throttle, request) = (&context.policy.state.throttle, context.request);
    if context.question.is_quiet() {
        return;
    }
    let Some(client) = request.client() else { return };
    throttle.succeeded(client, grant.key.id());
    if let Some(peer) = request.peer().filter(|_| request.client_is_peer()) {
        throttle.note(peer, grant.key.id());
    }
}

/// Whether that was done lately and nobody is locked, so that neither need be asked.
#[must_use]
pub fn is_known<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> bool {
    let throttle = &context.policy.state.throttle;
    context.request.peer().is_some_and(|peer| throttle.knows(peer, grant.key.id(), context.now.monotonic))
}
