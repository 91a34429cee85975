//! The checks that a valid credential must pass, one per file.

pub mod address;
pub mod lockout;
pub mod own_pages;
pub mod scope;

use crate::credential::Credential;
use crate::decide::Policy;
use crate::decision::{Denial, Grant};
use crate::origin::{self, Page};
use crate::request::{Now, Question, Request};

/// Everything that a check may need.
pub struct Context<'a, 'k, R> {
    /// What decisions are based on.
    pub policy: &'a Policy<'k>,
    /// The request.
    pub request: &'a R,
    /// The question about it.
    pub question: Question<'a>,
    /// The current time.
    pub now: Now,
}

impl<R: Request> Context<'_, '_, R> {
    /// The page that sends the request.
    #[must_use]
    pub fn page(&self) -> Page {
        origin::page(self.policy.own_origins, self.request)
    }
}

/// Every check, then the note that the key was used.
///
/// # Errors
/// The gravest refusal. While the address is locked, nothing else is said about keys.
pub fn all<R: Request>(
    grant: &Grant<'_>,
    credential: &Credential<'_>,
    context: &Context<'_, '_, R>,
) -> Result<(), Denial> {
    let others = but_lock_out(grant, context);
    if others.is_ok() && lockout::is_known(grant, context) {
        return Ok(()); // nearly every request: nobody is locked, and the note was made before
    }
    lockout::check(grant, credential, context)?;
    others?;
    lockout::note(grant, context);
    Ok(())
}

/// Every check but the lock's.
///
/// # Errors
/// The refusal.
#[inline(always)]
#[expect(clippy::inline_always, reason = "each request calls it, and has little else to do")]
pub fn but_lock_out<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> Result<(), Denial> {
    own_pages::check(grant, context)?;
    address::check(grant, context)?;
    scope::check(grant, context)
}

/// The same for a valid key that the lock held back, when its turn comes.
#[must_use]
pub fn held_back<R: Request>(grant: &Grant<'_>, context: &Context<'_, '_, R>) -> bool {
    let passes = lockout::evaluates(grant, context) && but_lock_out(grant, context).is_ok();
    if passes {
        lockout::note(grant, context);
    }
    passes
}
