//! One request, one decision.
//!
//! 0. **First.** A URL that decodes to [control characters](crate::legible) is refused. In ComfyUI, a CORS preflight is
//!    answered at the gate, with any credential or none; elsewhere only a handler registered for it answers.
//! 1. **Credentials.** Every [place](crate::credential::Place) is looked at, in order, until one credential is valid and
//!    passes every [check](crate::check). A bad one never vetoes a good one. An empty value, a cookie that doesn't verify, or
//!    the token of another login in front of us counts as absent. Wrong keys count as failed attempts, unless the request is
//!    admitted anyway.
//! 2. **Checks.** The gravest refusal is reported. While an address is locked, the answer only mentions the lock: keys that
//!    it holds back are checked last, and only ten are evaluated. A log-in or log-out by another page is not evaluated.
//! 3. **Exempt.** See [`crate::exempt`].
//! 4. **Refused.** Everything else, unknown paths too, so that routes can't be enumerated. A browser loading a page is led
//!    to the login page.
//!
//! Separate questions, which cost other requests nothing, decide whether an admitted request may open a WebSocket
//! ([`open_socket`]) or queue a prompt ([`take_place`](crate::prompt::take_place)), and whether its credential is still
//! valid once it is open ([`still_admits`](crate::validity::still_admits)).
//!
//! A request, a question and the time go in; there is no I/O here and no response comes out.

use crate::check::{self, Context};
use crate::credential::{Authorization, Cookie, Credential, Form, Place, Query, Source, UrlPrefix, XApiKey};
use crate::decision::{Decision, Denial, Grant};
use crate::exempt::{Exemption, Exemptions, Route};
use crate::keys::Keys;
use crate::origin::{OwnOrigins, Page};
use crate::request::{Field, Now, Question, Request, takes_html};
use crate::scope::Table;
use crate::state::{State, sockets::Seat};
use crate::trace::Trace;
use crate::tried::Tried;
use crate::validity::{Rejected, authenticate};

/// The most credentials of one request that are evaluated, so that one request cannot carry a thousand guesses.
pub const MAX_CREDENTIALS: usize = 16;

/// The most session cookies of one request that are checked. No browser sends that many, so another server on the same
/// host can't end a session by setting cookies that come before it.
pub const MAX_COOKIES: usize = 256;

/// Longest header of a WebSocket without a credential, in bytes: it stays in memory as long as the socket is open.
pub const MAX_HEADER: usize = 16 * 1024;

/// What decisions are based on.
pub struct Policy<'a> {
    /// The keys in force.
    pub keys: &'a Keys,
    /// What is remembered of earlier requests.
    pub state: &'a State,
    /// Exempt routes.
    pub exemptions: &'a Exemptions,
    /// Which scopes a route needs.
    pub scopes: &'a Table,
    /// What counts as this server's own pages.
    pub own_origins: &'a OwnOrigins,
    /// Where to record the steps of the decision, if they are logged.
    pub trace: Option<&'a Trace>,
}

/// The decision.
pub fn decide<'k, R: Request>(policy: &Policy<'k>, request: &R, question: Question<'_>, now: Now) -> Decision<'k> {
    let context = Context { policy, request, question, now };
    if question == Question::LogInByLink && !takes_html(request) {
        return Decision::Exempt; // programs want no session
    }
    if question == Question::Access {
        if !request.is_legible() {
            return Decision::Denied(Denial::ControlCharacter);
        }
        if policy.exemptions.in_comfyui() && is_preflight(request) {
            return Decision::Preflight;
        }
    }
    match Attempt::new(&context).grant() {
        Ok(grant) => Decision::Granted(grant),
        Err(denial) => without_credential(&context, denial),
    }
}

/// Whether a request may open a WebSocket: it must not take over another user's `clientId`, and the number of WebSockets
/// without a credential is limited. Each of those keeps its seat while it is open.
///
/// # Errors
/// [`Denial::ClientIdTaken`], [`Denial::Sockets`], [`Denial::LongHeader`].
pub fn open_socket<R: Request>(state: &State, grant: Option<&Grant<'_>>, request: &R) -> Result<Option<Seat>, Denial> {
    match grant {
        Some(grant) if request.takes_over(Some(&grant.key.subject())) => Err(Denial::ClientIdTaken),
        Some(_) => Ok(None),
        None if request.header_size() > MAX_HEADER => Err(Denial::LongHeader),
        None => state.sockets.enter(request.client()).map(Some).ok_or(Denial::Sockets),
    }
}

/// The credentials of one request, as they are found.
struct Attempt<'a, 'k, R> {
    context: &'a Context<'a, 'k, R>,
    tried: Tried<'k>,
    looked_at: usize,
    refused: Denial,
}

impl<'a, 'k, R: Request> Attempt<'a, 'k, R> {
    fn new(context: &'a Context<'a, 'k, R>) -> Self {
        Self { context, tried: Tried::default(), looked_at: 0, refused: Denial::Missing }
    }

    /// Rules 1 and 2: the first credential that is valid and passes every check.
    fn grant(mut self) -> Result<Grant<'k>, Denial> {
        let Context { question, .. } = *self.context;
        // Any page can make a browser send a form with a key of its choice, or clear a cookie, which then isn't even
        // sent.
        let is_of_a_page = matches!(question, Question::LogIn(_) | Question::LogOut);
        if is_of_a_page && matches!(self.context.page(), Page::SameHost | Page::Foreign) {
            return Err(Denial::CrossOrigin);
        }
        match self.walk() {
            Some(grant) if question == Question::Introduction => {
                // Whoever holds one key learns which one counts, so they must not guess others in the same request.
                let _ = self.tried.count(self.context);
                Ok(grant)
            }
            Some(grant) => Ok(grant),
            None => self.tried.settle(self.context, self.refused),
        }
    }

    /// The cookie is tried before the query, because the URL of every picture has a query.
    fn walk(&mut self) -> Option<Grant<'k>> {
        let places = [
            Self::first::<Form>,
            Self::first::<Authorization>,
            Self::first::<XApiKey>,
            Self::first::<Cookie>,
            Self::first::<Query>,
            Self::first::<UrlPrefix>,
        ];
        places.iter().find_map(|first| first(self))
    }

    fn first<P: Place>(&mut self) -> Option<Grant<'k>> {
        let Context { policy, request, question, .. } = *self.context;
        if !P::is_asked(question) {
            return None;
        }
        if let Some(trace) = policy.trace {
            trace.place(P::NAME);
        }
        for text in P::texts(request, question) {
            for credential in P::credentials(&text) {
                self.looked_at += 1;
                let is_key = matches!(credential, Credential::Key(..));
                if self.looked_at > MAX_COOKIES || (is_key && self.tried.how_many() >= MAX_CREDENTIALS) {
                    return None;
                }
                match self.admit(&credential) {
                    Ok(grant) => return Some(grant),
                    Err(why) => _ = policy.trace.inspect(|trace| trace.refused(why)),
                }
            }
        }
        None
    }

    /// Whose the credential is, or why it doesn't admit the request.
    fn admit(&mut self, credential: &Credential<'_>) -> Result<Grant<'k>, &'static str> {
        let (denial, why) = match authenticate(self.context, credential) {
            Ok(grant) => match check::all(&grant, credential, self.context) {
                Ok(()) => return Ok(grant),
                Err(denial) => {
                    if matches!(denial, Denial::Locked { .. }) {
                        self.tried.held_back(grant);
                    }
                    (denial, denial.row(self.context.question).cause)
                }
            },
            Err(Rejected::Absent) => return Err("not valid"),
            Err(Rejected::Malformed) => {
                self.tried.wrong(Source::Bearer, None);
                (Denial::Invalid, "malformed")
            }
            Err(Rejected::Wrong(source, digest)) => {
                self.tried.wrong(source, Some(digest));
                (Denial::Invalid, "unknown key")
            }
        };
        self.refused = self.refused.graver(denial);
        Err(why)
    }
}

/// Rules 3 and 4, for a request that rules 1 and 2 did not admit because of `denial`.
#[cold]
fn without_credential<'k, R: Request>(context: &Context<'_, 'k, R>, denial: Denial) -> Decision<'k> {
    match context.question {
        Question::Access => exempt(context, denial).unwrap_or_else(|denial| refused(context.request, denial)),
        // Having nothing to end or begin is no reason to refuse.
        Question::LogOut | Question::LogInByLink if denial == Denial::Missing => Decision::Exempt,
        _ => Decision::Denied(denial),
    }
}

/// Rule 3.
fn exempt<'k, R: Request>(context: &Context<'_, 'k, R>, denial: Denial) -> Result<Decision<'k>, Denial> {
    let Context { policy, request, .. } = *context;
    let admitted = match policy.exemptions.of(request.route(), &request.method()) {
        Exemption::None => is_preflight(request) && request.handles_options(),
        _ if !is_printable(request) => false,
        Exemption::UnlessInvalid => denial == Denial::Missing,
        Exemption::Socket if context.page() == Page::Foreign => return Err(Denial::CrossOrigin),
        Exemption::Socket if request.takes_over(None) => return Err(Denial::ClientIdTaken),
        Exemption::Socket if request.has(Field::Upgrade) => return Ok(Decision::ExemptSocket),
        Exemption::Socket | Exemption::Open | Exemption::AsksItself => true,
    };
    if admitted { Ok(Decision::Exempt) } else { Err(denial) }
}

/// Whether these fields hold only visible ASCII and spaces. ComfyUI logs the first two; aiohttp answers 500 to bad values
/// of the others.
fn is_printable<R: Request>(request: &R) -> bool {
    let fields = [Field::Host, Field::Origin, Field::SecWebSocketKey, Field::SecWebSocketVersion];
    let mut values = fields.into_iter().flat_map(|field| request.values(field));
    values.all(|value| value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()))
}

/// A preflight with bytes that no browser sends doesn't count: the code that answers may log them.
fn is_preflight<R: Request>(request: &R) -> bool {
    &*request.method() == "OPTIONS" && request.has(Field::AccessControlRequestMethod) && is_printable(request)
}

/// Rule 4. `GET /` always leads to the login page; a WebSocket upgrade never does.
fn refused<'k, R: Request>(request: &R, denial: Denial) -> Decision<'k> {
    let is_root = || matches!(request.route(), Route::Path("/" | "/api/") | Route::Static { prefix: "", file: "" });
    let leads_to_login = matches!(denial, Denial::Missing | Denial::Invalid)
        && !request.has(Field::Upgrade)
        && matches!(&*request.method(), "GET" | "HEAD")
        && (is_root() || takes_html(request));
    if leads_to_login { Decision::SentToLogin(denial) } else { Decision::Denied(denial) }
}
