//! What a key may queue in ComfyUI, and how.

use crate::decision::{Denial, Grant};
use crate::keys::Scopes;
use crate::request::{Now, Request, is_a_prompt};
use crate::state::{State, limits::Ticket};

/// How a request may queue a prompt.
#[derive(Default)]
pub struct Place {
    /// The prompt's place, if the key has limits.
    pub ticket: Option<Ticket>,
    /// Whether its `prompt_id` must be new, because the prompt would replace the results of another one.
    pub by_a_new_id: bool,
    /// Whether it goes to the end of the queue, even if it asks for another place.
    pub in_turn: bool,
}

/// A place in the queue for the prompt of an admitted request, if that queues one.
///
/// # Errors
/// [`Denial::Quota`].
pub fn take_place<R: Request>(state: &State, grant: &Grant<'_>, request: &R, now: Now) -> Result<Place, Denial> {
    let attributes = grant.key.attributes();
    let (quota, is_below_all) = (attributes.quota, !attributes.scopes.cover(Scopes::ALL));
    if !(quota.is_limited() || is_below_all) || !is_a_prompt(request) {
        return Ok(Place::default());
    }
    let reserve = || state.limits.reserve(grant.key.id(), &grant.key.subject(), quota, now.latest_millis());
    let ticket = quota.is_limited().then(reserve).transpose();
    let ticket = ticket.map_err(|left| Denial::Quota { key: grant.key.id(), left })?;
    Ok(Place { ticket, by_a_new_id: is_below_all, in_turn: is_below_all && quota.is_limited() })
}
