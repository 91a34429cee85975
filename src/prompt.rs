//! What a key may queue in ComfyUI, and how.

use crate::decision::{Denial, Grant};
use crate::keys::Scopes;
use crate::request::{Now, Request, is_a_prompt};
use crate::state::{State, limits::Ticket};

/// How a prompt is queued by a key that has limits, or less than every scope.
pub struct Place {
    /// What it takes up, if the key has limits.
    pub ticket: Option<Ticket>,
    /// Whether its `prompt_id` must be that of no other prompt: it would take the place of another's results.
    pub by_a_new_id: bool,
    /// Whether it goes to the end of the queue, whatever it asks for.
    pub in_turn: bool,
}

/// A place in the queue for the prompt of a request; `None` where it queues none, or nothing is to be seen to.
///
/// # Errors
/// [`Denial::Quota`].
pub fn take_place<R: Request>(
    state: &State,
    grant: &Grant<'_>,
    request: &R,
    now: Now,
) -> Result<Option<Place>, Denial> {
    let attributes = grant.key.attributes();
    let (quota, is_below_all) = (attributes.quota, !attributes.scopes.cover(Scopes::ALL));
    if !(quota.is_limited() || is_below_all) || !is_a_prompt(request) {
        return Ok(None);
    }
    let reserve = || state.limits.reserve(&grant.key.subject(), quota, now.latest_millis());
    let ticket = quota.is_limited().then(reserve).transpose().map_err(Denial::Quota)?;
    Ok(Some(Place { ticket, by_a_new_id: is_below_all, in_turn: is_below_all && quota.is_limited() }))
}
