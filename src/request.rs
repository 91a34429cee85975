//! What a decision can read of a request, and which question it answers.

use std::net::IpAddr;
use std::ops::Deref;
use std::time::Duration;

use crate::exempt::Route;
use crate::keys::{Entry, Scope, Scopes};

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
    SecPurpose,
    Upgrade,
    SecWebSocketKey,
    SecWebSocketVersion,
    Accept,
    AcceptLanguage,
    Referer,
    UserAgent,
    Traceparent,
    AccessControlRequestMethod,
    XOriginalMethod,
    XForwardedMethod,
    XForwardedHost,
    XForwardedProto,
}

/// A request, which the decision reads only as far as it needs to.
pub trait Request {
    /// A text that was read from it.
    type Text: Deref<Target = str>;

    /// The values of a field, in order.
    fn values(&self, field: Field) -> impl Iterator<Item = Self::Text>;
    /// Whether a field is there.
    fn has(&self, field: Field) -> bool;
    /// Bytes in the names and values of all its fields.
    fn header_size(&self) -> usize;
    /// The raw query string, if there is one.
    fn query(&self) -> Option<Self::Text>;
    /// Whether the URL can be written into a log line: see [`crate::legible`].
    fn is_legible(&self) -> bool;
    /// The keys before the path, decoded, in order. The route is that of the path without them.
    fn url_keys(&self) -> impl Iterator<Item = Self::Text>;
    /// The method as sent.
    fn method(&self) -> Self::Text;
    /// The resolved route.
    fn route(&self) -> Route<'_>;
    /// Whether a handler was registered for `OPTIONS` on this route.
    fn handles_options(&self) -> bool;
    /// A number for the other end of the connection, if that costs less than `client`. Other ends have other numbers.
    fn peer(&self) -> Option<u64>;
    /// The client's address; `None` where it has none (a Unix socket).
    fn client(&self) -> Option<IpAddr>;
    /// The same if it is certain: a proxy that isn't trusted, or names no client, may speak for anyone.
    fn known_client(&self) -> Option<IpAddr>;
    /// Whether the other end of the connection is the client, and not a proxy that may speak for many.
    fn client_is_peer(&self) -> bool;
    /// Whether a proxy that the operator trusts is at the other end of the connection.
    fn proxied(&self) -> bool;
    /// Whether this package answers it, or it is the start page.
    fn is_our_own(&self) -> bool;
    /// Whose code answers it.
    fn handler(&self) -> Handler;
    /// The remembered scopes for its route, handler and method.
    fn known_scopes(&self) -> Option<Scopes>;
    /// Remembers what every such request needs.
    fn remember_scopes(&self, needed: Scopes);
    /// The files that it names in the folder of the key's ComfyUI user: paths below that folder, with every link
    /// followed. `None` if that can't be told.
    fn user_files(&self, key: &Entry) -> Option<Vec<String>>;
    /// The scopes it needs, from the application's own function.
    fn needed_scopes(&self) -> Scopes;
    /// Whether it asks for the `clientId` of an open socket that was opened with a credential of someone other than `by`.
    fn takes_over(&self, by: Option<&str>) -> bool;
}

/// Whose code answers a request to ComfyUI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// ComfyUI's own.
    ComfyUi,
    /// A custom node's, or code that a custom node registered.
    Node,
    /// Unknown.
    Unknown,
}

/// The question about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// May it pass?
    Access,
    /// May the request that a proxy asks about pass (nginx's `auth_request`, Traefik's `ForwardAuth`, Caddy's
    /// `forward_auth`)? The proxy asks with a GET that has the original request's fields.
    ForwardAuth(Wanted),
    /// May it begin a session? A login form has its key in the request's body.
    LogIn(Option<&'a str>),
    /// May it begin a session because a person followed a link with a key in it?
    LogInByLink,
    /// May it end its session?
    LogOut,
    /// Who is it? Counts nothing.
    Identity,
    /// Who is it, for an answer to the client? A wrong key counts, even beside a valid one.
    Introduction,
    /// What admitted this request in flight? Counts nothing.
    Again,
}

impl Wanted {
    /// Of the words that are asked for.
    #[must_use]
    pub fn of<S: AsRef<str>>(words: &[S]) -> Self {
        match words {
            [] => Self::Nothing,
            [word] => Scope::parse(word.as_ref()).map_or(Self::Unknown, Self::Scope),
            _ => Self::Unknown,
        }
    }
}

impl Question<'_> {
    /// Whether the answer changes nothing: no attempt is counted, no key is noted as used.
    #[must_use]
    pub fn is_quiet(self) -> bool {
        matches!(self, Self::Identity | Self::Again | Self::LogOut)
    }

    /// Whether a key is in the body.
    #[must_use]
    pub fn has_a_body(self) -> bool {
        matches!(self, Self::LogIn(Some(key)) if !key.is_empty())
    }
}

/// The scope that a proxy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: any valid key will do.
    Nothing,
    /// This one.
    Scope(Scope),
    /// Several, or an unknown one: nobody has it.
    Unknown,
}

/// The time, in each of its kinds.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// A monotonic clock, for locks.
    pub monotonic: Duration,
    /// Seconds since 1970 (UTC) by the wall clock, for sessions.
    pub unix: u64,
    /// The most that the wall clock was ahead of the monotonic one, in milliseconds: see [`Self::latest`].
    pub ahead: u64,
}

impl Now {
    /// This time by the wall clock, and the beginning of the monotonic one.
    #[must_use]
    pub const fn at(unix: u64) -> Self {
        Self { monotonic: Duration::ZERO, unix, ahead: unix.saturating_mul(1000) }
    }

    /// Seconds since 1970 (UTC), for keys: the latest time so far, which goes on even if the wall clock is set back.
    #[must_use]
    pub fn latest(self) -> u64 {
        self.latest_millis() / 1000
    }

    /// The same in milliseconds, for limits.
    #[must_use]
    pub fn latest_millis(self) -> u64 {
        self.ahead.saturating_add(millis(self.monotonic))
    }
}

/// A time of the monotonic clock as a number that an atomic holds, in milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1000).saturating_add(u64::from(time.subsec_millis()))
}

/// A field's value. If it is repeated, the values are joined with commas (RFC 9110, section 5.3), so that a repeated field
/// that must not be repeated equals no valid value.
pub fn combined<R: Request>(request: &R, field: Field) -> Option<String> {
    request.values(field).map(|value| value.to_owned()).reduce(|before, value| [&before, ", ", &value].concat())
}

/// The field that names the host the browser used. A gateway may put its own address into `Host`, and so does Traefik when
/// it asks about a request.
pub fn host<R: Request>(request: &R) -> Field {
    if request.proxied() && request.has(Field::XForwardedHost) { Field::XForwardedHost } else { Field::Host }
}

/// The first of a list: proxies add their own values after the browser's.
#[must_use]
pub fn first_of(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

/// Whether it queues a prompt in ComfyUI.
pub fn is_a_prompt<R: Request>(request: &R) -> bool {
    &*request.method() == "POST" && matches!(request.route(), Route::Path("/prompt" | "/api/prompt"))
}

/// Whether it can change nothing and opens no WebSocket.
pub fn is_read<R: Request>(request: &R, question: Question<'_>) -> bool {
    let reads = |method: &str| matches!(method, "GET" | "HEAD" | "OPTIONS");
    let asked_about_a_read = || {
        // nginx's documentation uses the first, Traefik and Caddy send the second. If a proxy sets neither, a client may;
        // so they can only make the decision stricter.
        [Field::XOriginalMethod, Field::XForwardedMethod]
            .iter()
            .all(|&field| request.values(field).all(|method| reads(&method)))
            // Browsers send `Origin` with all that may change something and with every WebSocket, but not with a link
            // (Fetch, section 3.2). Proxies keep `Upgrade` to themselves, unlike the handshake's key.
            && !request.has(Field::Origin)
            && !request.has(Field::SecWebSocketKey)
    };
    reads(&request.method())
        && !request.has(Field::Upgrade)
        && (!matches!(question, Question::ForwardAuth(_)) || asked_about_a_read())
}

/// Whether anything marks it as a browser's. Challenged for Basic credentials, a browser opens a dialog of its own, and
/// adds them by itself from then on.
pub fn is_by_a_browser<R: Request>(request: &R) -> bool {
    is_marked_as_a_browsers(request) || takes_html(request)
}

/// Whether anything but `Accept` does: no page can make a browser send a request that has none of these.
pub fn is_marked_as_a_browsers<R: Request>(request: &R) -> bool {
    const MARKS: [Field; 7] = [
        Field::SecFetchSite,
        Field::SecFetchMode,
        Field::SecFetchDest,
        Field::Origin,
        Field::Cookie,
        Field::Referer,
        Field::AcceptLanguage,
    ];
    MARKS.iter().any(|&field| request.has(field))
        || request.values(Field::UserAgent).any(|agent| agent.starts_with("Mozilla/"))
}

/// Whether `Accept` names HTML (RFC 9110, section 12.5.1). `*/*` doesn't: it is what programs send.
pub fn takes_html<R: Request>(request: &R) -> bool {
    request.values(Field::Accept).any(|accept| names_html(&accept))
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
