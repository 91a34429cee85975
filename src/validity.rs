//! Whether a credential is valid, and whether what admitted a connection still is.

use crate::check::Context;
use crate::credential::{Credential, Source, cookie};
use crate::decide::Policy;
use crate::decision::{Admission, Grant};
use crate::keys::Entry;
use crate::request::{Now, Request};
use crate::secret::Digest;
use crate::session::{self, Session};

/// Why a credential is not valid.
pub enum Rejected {
    /// It counts as absent.
    Absent,
    /// One of our schemes, but not in its form.
    Malformed,
    /// A key that nobody has, and where it was.
    Wrong(Source, Digest),
}

/// Whose credential it is.
///
/// # Errors
/// Why it is not valid.
#[inline(always)]
#[expect(clippy::inline_always, reason = "each request calls it, and has little else to do")]
pub fn authenticate<'k, R: Request>(
    context: &Context<'_, 'k, R>,
    credential: &Credential<'_>,
) -> Result<Grant<'k>, Rejected> {
    let Context { policy, now, .. } = context;
    match credential {
        Credential::Malformed => Err(Rejected::Malformed),
        Credential::Key(source, plain) => match policy.keys.verify(plain.expose_secret().as_bytes(), *now) {
            Ok(key) => Ok(Grant { key, source: *source, session: None }),
            // A gateway in front sets its own, and renews it.
            Err(_) if *source == Source::Bearer && policy.keys.is_foreign_token(plain.expose_secret()) => {
                Err(Rejected::Absent)
            }
            Err(digest) => Err(Rejected::Wrong(*source, digest)),
        },
        Credential::Session(name, _) if *name != cookie::Name::of(context.request) => {
            Err(Rejected::Absent) // another server's on this host
        }
        Credential::Session(_, value) => {
            let (session, key) = session::verify(value, policy.keys, *now).ok_or(Rejected::Absent)?;
            if policy.state.log_outs.contains(&session) {
                return Err(Rejected::Absent);
            }
            Ok(Grant { key, source: Source::Cookie, session: Some(session) })
        }
    }
}

/// Whether a connection's credential is still valid: the key is in force and may still do that from there, and the session
/// has not ended.
#[must_use]
pub fn still_admits(policy: &Policy<'_>, admission: &Admission, now: Now) -> bool {
    let ended = |session: &Session| now.unix >= session.expires || policy.state.log_outs.contains(session);
    let admits = |key: &Entry| {
        let attributes = key.attributes();
        attributes.scopes.cover(admission.needed) && attributes.admit_from(admission.client)
    };
    policy.keys.by_id(admission.key, now).is_some_and(admits) && !admission.session.as_ref().is_some_and(ended)
}
