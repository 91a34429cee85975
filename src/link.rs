//! What a link to one of our pages may do. It is a GET, and requests that another site can cause must have no effect.

use crate::check::Context;
use zeroize::Zeroizing;

use crate::credential::{Cookie, Credential, Place, Query, UrlPrefix};
use crate::decide::MAX_COOKIES;
use crate::decision::{Decision, Grant};
use crate::keys::Entry;
use crate::request::{Field, Request, combined, is_marked_as_a_browsers};
use crate::validity::authenticate;
use crate::visit::{Visit, is_opened_now, visit};

/// What `Sec-Fetch-Site` may say.
const SITES: [&str; 4] = ["same-origin", "same-site", "cross-site", "none"];

/// What to do with a link to the page.
#[derive(Clone, Copy)]
pub enum Link<'k> {
    /// The page is shown.
    Page,
    /// It is followed again, from our own page and without the key in it.
    GoOn,
    /// It logs in, and goes on.
    LogIn(Grant<'k>),
    /// The person is asked whether it may log in. If `by_itself`, their browser may answer: it is logged in with no
    /// other key, and no other site led there.
    Ask {
        /// Whose key is in it.
        grant: Grant<'k>,
        /// Whether the browser may answer.
        by_itself: bool,
    },
}

/// What to do with a link, after the decision whether a key in it may log in.
#[must_use]
pub fn follow<'k, R: Request>(context: &Context<'_, 'k, R>, decision: &Decision<'k>) -> Link<'k> {
    let request = context.request;
    let visit = visit(request);
    let grant = match decision {
        Decision::Granted(grant) if &*request.method() == "GET" => *grant,
        _ if visit == Visit::Link => return Link::GoOn,
        _ => return Link::Page,
    };
    match session(context) {
        Some(session) if session.key.id() == grant.key.id() => Link::GoOn,
        Some(_) => Link::Ask { grant, by_itself: false },
        None if is_opened_now(request) || !is_marked_as_a_browsers(request) => Link::LogIn(grant),
        None => Link::Ask { grant, by_itself: matches!(visit, Visit::Ours | Visit::Unsaid) },
    }
}

/// Where a visit to the login page comes from, as a value of `Sec-Fetch-Site`. If the browser doesn't say, this is
/// `session` if the request has one, since a Strict cookie isn't sent when a link on another site is followed.
/// Otherwise it is empty, and the page relies on its referrer.
#[must_use]
pub fn site<R: Request>(context: &Context<'_, '_, R>) -> &'static str {
    let request = context.request;
    match combined(request, Field::SecFetchSite) {
        Some(site) => SITES.into_iter().find(|known| *known == site).unwrap_or_default(),
        None if !request.has(Field::Referer) && session(context).is_some() => "session",
        None => "",
    }
}

/// The session that a request has.
fn session<'k, R: Request>(context: &Context<'_, 'k, R>) -> Option<Grant<'k>> {
    let mut left = MAX_COOKIES;
    for text in Cookie::texts(context.request, context.question) {
        for credential in Cookie::credentials(&text).take(left) {
            if let Ok(grant) = authenticate(context, &credential) {
                return Some(grant);
            }
            left -= 1;
        }
    }
    None
}

/// The key in a link, if it is `entry`'s, as written there.
#[must_use]
pub fn key_in<R: Request>(context: &Context<'_, '_, R>, entry: &Entry) -> Option<Zeroizing<String>> {
    find::<Query, R>(context, entry).or_else(|| find::<UrlPrefix, R>(context, entry))
}

fn find<P: Place, R: Request>(context: &Context<'_, '_, R>, entry: &Entry) -> Option<Zeroizing<String>> {
    for text in P::texts(context.request, context.question) {
        for credential in P::credentials(&text) {
            if let Credential::Key(_, plain) = credential
                && context
                    .policy
                    .keys
                    .verify(plain.expose_secret().as_bytes(), context.now)
                    .is_ok_and(|key| key.id() == entry.id())
            {
                return Some(Zeroizing::new(plain.expose_secret().to_owned()));
            }
        }
    }
    None
}
