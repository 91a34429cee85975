//! One request, one decision.
//!
//! 1. **Credentials.** `Authorization` (Bearer, Basic), `X-API-Key`, `?api_key=`/`?token=`, `/key/KEY/` before the path
//!    where the operator wants that, the session cookie. All that are presented are looked at; any valid one admits, and
//!    a bad one never vetoes a good one. An empty value, or a cookie that doesn't verify, counts as absent. From a locked
//!    address only what was good from it before is valid.
//! 2. **Cookie alone.** A request that changes something, and a WebSocket upgrade, must come from this origin; a read must
//!    not be embedded by another one. Browsers add the cookie by themselves, so it doesn't prove what the person wanted.
//! 3. **Exempt.** See [`crate::exempt`].
//! 4. **Refused.** Everything else, unknown paths too, so that routes can't be enumerated.
//!
//! Facts and `now` go in; there is no I/O here and no response comes out.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::credential::{self, Authorization, Source, cookie, header, query};
use crate::error::Denial;
use crate::exempt::{Exemption, Exemptions, Route};
use crate::keys::{KeyId, Keys};
use crate::origin::Provenance;
use crate::secret::Digest;
use crate::session::{Session, Sessions};
use crate::throttle::Throttle;

/// Most credentials of one request that are evaluated, so that one request cannot carry a thousand guesses.
pub const MAX_CREDENTIALS: usize = 16;

/// Most session cookies of one request that are looked at: more than a browser sends, so that another server on the same
/// host cannot end somebody's session by setting cookies of that name in front of it.
pub const MAX_COOKIES: usize = 256;

/// A header field that the decision may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of its name")]
pub enum Field {
    Authorization,
    XApiKey,
    Cookie,
    Host,
    Origin,
    SecFetchSite,
    SecFetchMode,
    SecFetchDest,
    Upgrade,
    SecWebSocketKey,
    SecWebSocketVersion,
    Accept,
    AccessControlRequestMethod,
    XOriginalMethod,
    XForwardedMethod,
    XForwardedHost,
}

/// Called with one value after the other, until it breaks.
pub type Visit<'a> = &'a mut dyn FnMut(&str) -> ControlFlow<()>;

/// What the decision asks about a request, only as far as it needs to.
pub trait Facts {
    /// Visits the values of a field, in order.
    fn visit(&self, field: Field, each: Visit<'_>);
    /// Visits the raw query string, if there is one.
    fn query(&self, each: Visit<'_>);
    /// Visits the keys that stood before the path, decoded, in order. The route is that of the path without them.
    fn url_prefix(&self, each: Visit<'_>) {
        let _ = each;
    }
    /// The method as sent.
    fn method(&self) -> String;
    /// Calls `judge` with the resolved route.
    fn route(&self, judge: &mut dyn FnMut(Route<'_>));
    /// A number for the other end of the connection, if that comes cheaper than `client`: others have other numbers.
    fn peer(&self) -> Option<u64> {
        None
    }
    /// The client's address; `None` where it has none (a Unix socket).
    fn client(&self) -> Option<IpAddr>;
    /// Whether the other end of the connection is the client, and not a proxy that may speak for many.
    fn client_is_peer(&self) -> bool {
        false
    }
    /// Whether a proxy that the operator trusts is at the other end of the connection.
    fn proxied(&self) -> bool {
        false
    }
    /// Whether it asks for the `clientId` of a live socket that was opened with a credential.
    fn takes_over(&self) -> bool;
}

/// The time, in both of its kinds.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// A monotonic clock, for locks.
    pub monotonic: Duration,
    /// Seconds since 1970 (UTC), for sessions.
    pub unix: u64,
}

/// What decisions rest on.
pub struct Policy<'a> {
    /// The keys in force.
    pub keys: &'a Keys,
    /// Sessions.
    pub sessions: &'a Sessions,
    /// Failed attempts.
    pub throttle: &'a Throttle,
    /// Exempt routes.
    pub exemptions: &'a Exemptions,
}

/// Who was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The holder of a key, or of its session.
    Key {
        /// Which key.
        key: KeyId,
        /// How it was presented.
        source: Source,
    },
    /// Nobody in particular, on an exempt route.
    Anonymous,
}

/// The decision.
///
/// # Errors
/// Why the request is refused.
pub fn decide(policy: &Policy<'_>, facts: &impl Facts, now: Now) -> Result<Identity, Denial> {
    let presented = authenticate(policy, facts, Purpose::Access, now);
    match presented {
        Ok(key) => Ok(key),
        Err(refused) => exempt(policy, facts, refused),
    }
}

/// What a request is authenticated for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// To be let through, by whatever credential is found first.
    Access,
    /// To begin a session, for which a key is wanted rather than another session. A login form presents it in the request's
    /// body.
    LogIn(Option<&'a str>),
}

/// Rules 1 and 2.
///
/// # Errors
/// [`Denial::Missing`] where nothing was presented.
pub fn authenticate(
    policy: &Policy<'_>,
    facts: &impl Facts,
    purpose: Purpose<'_>,
    now: Now,
) -> Result<Identity, Denial> {
    let mut attempt = Attempt { policy, facts, now, admitted: None, locked: None, wrong: Vec::new(), malformed: false };
    if let Purpose::LogIn(Some(key)) = purpose
        && !key.is_empty()
    {
        if is_foreign(facts) {
            return Err(Denial::CrossOrigin);
        }
        let _ = attempt.key(Source::Form, key);
    }
    facts.visit(Field::Authorization, &mut |value| match credential::authorization(value) {
        Authorization::Absent => ControlFlow::Continue(()),
        Authorization::Malformed => {
            attempt.malformed = true;
            ControlFlow::Continue(())
        }
        Authorization::Key(source, plain) => attempt.key(source, plain.expose_secret()),
    });
    if attempt.admitted.is_none() {
        facts.visit(Field::XApiKey, &mut |value| match header::parse(value) {
            Some(plain) => attempt.key(Source::Header, plain.expose_secret()),
            None => ControlFlow::Continue(()),
        });
    }
    let by_session = || {
        let session = session(policy, facts, now)?;
        Some(from_our_pages(facts).and_then(|()| admit(policy, facts, session.key, Source::Cookie, now)))
    };
    let mut cookie = None;
    // Before the query, which the address of every picture has.
    if attempt.admitted.is_none() && purpose == Purpose::Access {
        cookie = by_session();
        if let Some(Ok(identity)) = cookie {
            return Ok(identity);
        }
    }
    if attempt.admitted.is_none() {
        facts.query(&mut |value| {
            query::parse(value).try_for_each(|plain| attempt.key(Source::Query, plain.expose_secret()))
        });
    }
    if attempt.admitted.is_none() {
        facts.url_prefix(&mut |key| attempt.key(Source::UrlPrefix, key));
    }
    let Attempt { admitted, locked, wrong, malformed, .. } = attempt;
    if let Some(identity) = admitted {
        return Ok(identity);
    }
    if purpose != Purpose::Access {
        cookie = by_session();
    }
    if let Some(outcome) = cookie {
        return outcome;
    }
    if let Some(denial) = locked {
        return Err(denial);
    }
    if wrong.is_empty() && !malformed {
        return Err(Denial::Missing);
    }
    if let Some(client) = facts.client() {
        policy.throttle.failed(client, &wrong, now.monotonic).map_err(Denial::locked)?;
    }
    Err(Denial::Invalid)
}

/// The verified session of a request's cookie, if it has one.
#[must_use]
pub fn session(policy: &Policy<'_>, facts: &impl Facts, now: Now) -> Option<Session> {
    let mut name = None;
    let mut session = None;
    let mut left = MAX_COOKIES;
    facts.visit(Field::Cookie, &mut |value| {
        let name = *name.get_or_insert_with(|| cookie_name(facts));
        cookie::parse(value, name).try_for_each(|value| {
            session = policy.sessions.verify(value, policy.keys, now.unix);
            left -= 1;
            if session.is_some() || left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    session
}

/// The name of the session cookie at the address that the browser used.
#[must_use]
pub fn cookie_name(facts: &impl Facts) -> cookie::Name {
    cookie::Name::at(first(facts, Field::Host, cookie::port).flatten())
}

/// A field's value; where it is repeated, its values with commas between them (RFC 9110, section 5.3), which none of those
/// that may not be repeated equals.
fn combined(facts: &impl Facts, field: Field) -> Option<String> {
    let mut found: Option<String> = None;
    facts.visit(field, &mut |value| {
        found = Some(found.as_ref().map_or_else(|| value.to_owned(), |before| [before, ", ", value].concat()));
        ControlFlow::Continue(())
    });
    found
}

/// What `read` makes of a field's first value.
fn first<T>(facts: &impl Facts, field: Field, read: impl Fn(&str) -> T) -> Option<T> {
    let mut found = None;
    facts.visit(field, &mut |value| {
        found = Some(read(value));
        ControlFlow::Break(())
    });
    found
}

/// The credentials of one request, as they are found.
struct Attempt<'a, F> {
    policy: &'a Policy<'a>,
    facts: &'a F,
    now: Now,
    admitted: Option<Identity>,
    /// A key is valid, but was not good from this locked address before: one of the others may have been.
    locked: Option<Denial>,
    wrong: Vec<Digest>,
    malformed: bool,
}

impl<F: Facts> Attempt<'_, F> {
    fn key(&mut self, source: Source, candidate: &str) -> ControlFlow<()> {
        if self.admitted.is_some() || self.wrong.len() >= MAX_CREDENTIALS {
            return ControlFlow::Break(());
        }
        match self.policy.keys.verify(candidate.as_bytes()) {
            Ok(entry) => match admit(self.policy, self.facts, entry.id(), source, self.now) {
                Ok(identity) => {
                    self.admitted = Some(identity);
                    ControlFlow::Break(())
                }
                Err(denial) => {
                    self.locked = Some(denial);
                    ControlFlow::Continue(())
                }
            },
            Err(digest) => {
                self.wrong.push(digest);
                ControlFlow::Continue(())
            }
        }
    }
}

fn admit(policy: &Policy<'_>, facts: &impl Facts, key: KeyId, source: Source, now: Now) -> Result<Identity, Denial> {
    let peer = facts.peer();
    if !peer.is_some_and(|peer| policy.throttle.knows(peer, key, now.monotonic)) {
        note(policy, facts, key, peer, now).map_err(Denial::locked)?;
    }
    Ok(Identity::Key { key, source })
}

/// The first request of a client, or one while somebody is locked.
#[cold]
fn note(policy: &Policy<'_>, facts: &impl Facts, key: KeyId, peer: Option<u64>, now: Now) -> Result<(), Duration> {
    let Some(client) = facts.client() else { return Ok(()) };
    policy.throttle.succeeded(client, key, now.monotonic)?;
    if let Some(peer) = peer.filter(|_| facts.client_is_peer()) {
        policy.throttle.note(peer, key);
    }
    Ok(())
}

/// Rule 2.
fn from_our_pages(facts: &impl Facts) -> Result<(), Denial> {
    let reads = || ["GET", "HEAD", "OPTIONS"].contains(&facts.method().as_str()) && !has(facts, Field::Upgrade);
    let ours = provenance(facts, |provenance| provenance.is_same_origin() || (provenance.may_read() && reads()));
    if ours { Ok(()) } else { Err(Denial::CrossOrigin) }
}

/// Whether a page of another origin sends this request.
#[must_use]
pub fn is_foreign(facts: &impl Facts) -> bool {
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method's path is less general")]
    provenance(facts, |provenance| provenance.is_foreign())
}

fn provenance(facts: &impl Facts, judge: impl FnOnce(&Provenance<'_>) -> bool) -> bool {
    // Most requests come from our own pages, and say so: for them nothing else is looked at.
    let mut ours = None;
    facts.visit(Field::SecFetchSite, &mut |site| {
        ours = Some(ours != Some(false) && site == Provenance::OURS);
        ControlFlow::Continue(())
    });
    if ours == Some(true) {
        return judge(&Provenance { site: Some(Provenance::OURS), ..Provenance::default() });
    }
    let read = |field| combined(facts, field);
    let site = read(Field::SecFetchSite);
    let [mode, destination] = [Field::SecFetchMode, Field::SecFetchDest].map(read);
    let [origin, host] = [Field::Origin, Field::Host].map(read);
    judge(&Provenance {
        site: site.as_deref(),
        mode: mode.as_deref(),
        destination: destination.as_deref(),
        origin: origin.as_deref(),
        host: host.as_deref(),
    })
}

/// Whether a field is there.
#[must_use]
pub fn has(facts: &impl Facts, field: Field) -> bool {
    first(facts, field, |_| ()).is_some()
}

/// Rule 3, for a request that `refused` says why rules 1 and 2 did not admit it.
fn exempt(policy: &Policy<'_>, facts: &impl Facts, refused: Denial) -> Result<Identity, Denial> {
    let admitted = match exemption(policy.exemptions, facts) {
        Exemption::None => facts.method() == "OPTIONS" && has(facts, Field::AccessControlRequestMethod),
        Exemption::UnlessInvalid => refused == Denial::Missing,
        Exemption::Socket if refused == Denial::CrossOrigin || !is_plain_handshake(facts) => false,
        Exemption::Socket if facts.takes_over() => return Err(Denial::ClientIdTaken),
        Exemption::Open | Exemption::Socket => true,
    };
    if admitted { Ok(Identity::Anonymous) } else { Err(refused) }
}

/// aiohttp answers 500 where these hold anything beyond ASCII.
fn is_plain_handshake(facts: &impl Facts) -> bool {
    let mut plain = true;
    for field in [Field::SecWebSocketKey, Field::SecWebSocketVersion] {
        facts.visit(field, &mut |value| {
            plain &= value.is_ascii();
            ControlFlow::Continue(())
        });
    }
    plain
}

/// How far what a request asks for is exempt, whoever asks.
#[must_use]
pub fn exemption(exemptions: &Exemptions, facts: &impl Facts) -> Exemption {
    let method = facts.method();
    let mut exemption = Exemption::None;
    facts.route(&mut |route| exemption = exemptions.of(route, &method));
    exemption
}

/// Rule 4: whether a refused request is a browser loading a page, which is led to the login page. `GET /` always is; a
/// WebSocket upgrade never.
#[must_use]
pub fn leads_to_login(facts: &impl Facts, denial: Denial) -> bool {
    if !matches!(denial, Denial::Missing | Denial::Invalid) || has(facts, Field::Upgrade) {
        return false;
    }
    if !["GET", "HEAD"].contains(&facts.method().as_str()) {
        return false;
    }
    let mut is_root = false;
    facts.route(&mut |route| {
        is_root = matches!(route, Route::Path("/" | "/api/") | Route::Static { prefix: "", file: "" });
    });
    is_root || takes_html(facts)
}

/// Whether `Accept` names HTML (RFC 9110, section 12.5.1). `*/*` doesn't: it is what programs send.
fn takes_html(facts: &impl Facts) -> bool {
    let mut taken = false;
    facts.visit(Field::Accept, &mut |accept| {
        taken = names_html(accept);
        if taken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    taken
}

fn names_html(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
        let refused = parameters.split(';').any(|parameter| {
            parameter.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0)
        });
        ["text/html", "application/xhtml+xml"].iter().any(|html| media.trim().eq_ignore_ascii_case(html)) && !refused
    })
}
