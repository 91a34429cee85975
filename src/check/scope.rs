//! What a key may do (`scope=`).

use super::Context;
use crate::decision::{Denial, Grant};
use crate::keys::Scopes;
use crate::request::{Question, Request, Wanted};

/// A request needs the scopes of its [route](crate::scope). For `/auth_verify`, the proxy names the scope. Our own
/// questions are for every valid key.
///
/// # Errors
/// [`Denial::Scope`].
pub fn check<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> Result<(), Denial> {
    let granted = grant.key.attributes().scopes;
    let needed = match context.question {
        Question::ForwardAuth(Wanted::Unknown) => None,
        Question::ForwardAuth(Wanted::Scope(scope)) => Some(Scopes::needed(scope)),
        // The answer must not name a key that did not admit the request.
        Question::Access | Question::Again | Question::Identity if granted != Scopes::ALL => {
            Some(context.policy.scopes.needed(context.request, grant.key))
        }
        _ => return Ok(()),
    };
    if needed.is_some_and(|needed| granted.cover(needed)) {
        return Ok(());
    }
    Err(Denial::Scope { key: grant.key.id(), granted, needed: needed.unwrap_or(Scopes::NONE) })
}
