//! A key may be limited to some addresses (`from=`).

use super::Context;
use crate::decision::{Denial, Grant};
use crate::request::{Question, Request};

/// If the client's address is unknown, such a key is refused. Anyone may log out.
///
/// # Errors
/// [`Denial::Address`].
pub fn check<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> Result<(), Denial> {
    let attributes = grant.key.attributes();
    let admits = attributes.from.is_empty()
        || context.question == Question::LogOut
        || attributes.admit_from(context.request.known_client());
    if admits { Ok(()) } else { Err(Denial::Address(grant.key.id())) }
}
