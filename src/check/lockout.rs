//! While an address is locked, sessions pass, and so do long keys that were valid from it before. Of all other keys, ten
//! are evaluated, right or wrong, then none until the lock ends, and the answer only mentions the lock.

use super::Context;
use crate::client::is_local;
use crate::credential::{Credential, Source};
use crate::decision::{Denial, Grant};
use crate::origin;
use crate::request::{Question, Request};
use crate::secret::Digest;
use crate::state::network::is_of_one_machine;
use crate::state::throttle::{Budget, Client};

/// Whether the credential may be used from the client's address without counting as one of the ten.
///
/// # Errors
/// [`Denial::Locked`].
pub fn check<R: Request>(
    grant: &Grant<'_>,
    credential: &Credential<'_>,
    context: &Context<'_, '_, R>,
) -> Result<(), Denial> {
    let Context { policy, request, question, now } = *context;
    let throttle = &policy.state.throttle;
    let passes = grant.session.is_some() || question == Question::Again || !throttle.locks_anybody(now.monotonic);
    let Some(client) = (if passes { None } else { client(request) }) else { return Ok(()) };
    // The length of the presented key: a key stored as a digest has no other.
    let long = credential.is_long_key().then(|| grant.key.id());
    throttle.permits(client, budget(grant.source, context), long, now.monotonic).map_err(Denial::locked)
}

/// Whether a right key that [`check`] held back is one of the ten that are evaluated.
#[must_use]
pub fn evaluates<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> bool {
    let throttle = &context.policy.state.throttle;
    let evaluate = |client| throttle.evaluate(client, budget(grant.source, context), context.now.monotonic);
    client(context.request).map_or(Ok(()), evaluate).is_ok()
}

/// Counts the wrong keys of a request by their places. One without a digest can't be a key.
///
/// # Errors
/// [`Denial::Locked`].
pub fn count<R: Request>(
    wrong: impl Iterator<Item = (Source, Option<Digest>)>,
    context: &Context<'_, '_, R>,
) -> Result<(), Denial> {
    let Context { policy, request, now, .. } = *context;
    let Some(client) = client(request) else { return Ok(()) };
    let (any_pages, clients): (Vec<_>, Vec<_>) =
        wrong.partition(|(source, _)| budget(*source, context) == Budget::AnyPage);
    let mut counted = Ok(());
    for (budget, wrong) in [(Budget::Client, clients), (Budget::AnyPage, any_pages)] {
        if !wrong.is_empty() {
            let digests: Vec<_> = wrong.into_iter().filter_map(|(_, digest)| digest).collect();
            counted = counted.and(policy.state.throttle.failed(client, budget, &digests, now));
        }
    }
    counted.map_err(Denial::locked)
}

/// Who sends a request. On other machines, a private address that no trusted proxy confirms may mean another client.
fn client<R: Request>(request: &R) -> Option<Client> {
    let address = request.client()?;
    let is_elsewhere = |known| !is_of_one_machine(known) && (!is_local(known) || request.proxied());
    Some(Client { address, is_shared: request.known_client().is_some_and(is_elsewhere) })
}

/// Any web page can put a key into a URL. Requests from another site's page have a separate budget.
fn budget<R: Request>(source: Source, context: &Context<'_, '_, R>) -> Budget {
    let is_in_address = matches!(source, Source::Query | Source::UrlPrefix);
    if is_in_address || origin::is_of_another_site(context.policy.own_origins, context.request) {
        Budget::AnyPage
    } else {
        Budget::Client
    }
}

/// Remembers that the key is valid from the client's address, at a client's first request or while any address is locked.
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

/// Whether that was noted recently and no address is locked, so neither must be checked.
#[must_use]
pub fn is_known<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> bool {
    let throttle = &context.policy.state.throttle;
    context.request.peer().is_some_and(|peer| throttle.knows(peer, grant.key.id(), context.now.monotonic))
}
