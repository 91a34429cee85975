//! The decision: who was admitted, or why not.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use crate::allowance::Allowance;
use crate::credential::Source;
use crate::keys::{Entry, KeyId, Scope, Scopes};
use crate::request::{Question, Request, is_by_a_browser};
use crate::session::Session;

/// A credential that is valid: whose, and how it was presented.
#[derive(Clone, Copy)]
pub struct Grant<'k> {
    /// The key, or the key of the session.
    pub key: &'k Entry,
    /// How it was presented.
    pub source: Source,
    /// The session, if it is one.
    pub session: Option<Session>,
}

/// What an open connection was admitted by.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// The key.
    pub key: KeyId,
    /// The session, if it was one.
    pub session: Option<Session>,
    /// What it needs.
    pub needed: Scopes,
    /// Where it comes from, if that is known.
    pub client: Option<IpAddr>,
}

/// The decision about a request.
pub enum Decision<'k> {
    /// It presents a valid credential.
    Granted(Grant<'k>),
    /// It needs none.
    Exempt,
    /// It is a WebSocket that needs none, if there is [room](crate::decide::open_socket).
    ExemptSocket,
    /// It is a CORS preflight, which is answered without a handler.
    Preflight,
    /// It is refused.
    Denied(Denial),
    /// It is refused, and comes from a browser loading a page, which is led to the login page.
    SentToLogin(Denial),
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// No credential at all.
    Missing,
    /// At least one credential, none of them valid.
    Invalid,
    /// Valid, but added by the browser itself to a request that another site may have made (rule 2).
    CrossOrigin,
    /// The key may not be used from this address.
    Address(KeyId),
    /// The key may not do this.
    Scope {
        /// The key.
        key: KeyId,
        /// What it may do.
        granted: Scopes,
        /// What it would need; empty if nobody may do this.
        needed: Scopes,
    },
    /// Another user's profile in ComfyUI (`--multi-user`): see [`crate::profile`].
    Profile,
    /// A WebSocket asks for the `clientId` of an open one that someone else opened with a credential.
    ClientIdTaken,
    /// Too many WebSockets without a credential are open, in total or from one address.
    Sockets,
    /// A WebSocket without a credential has a long header, which would stay in memory while it is open.
    LongHeader,
    /// A limit of the key is reached.
    Quota {
        /// The key.
        key: KeyId,
        /// What is left of each.
        left: Allowance,
    },
    /// A key that lacks a scope asks for the `prompt_id` of another prompt.
    PromptIdTaken(KeyId),
    /// The log-out counts on this server, but could not be stored.
    Unstored,
    /// The URL decodes to a control character, which could forge a line in a log.
    ControlCharacter,
    /// The address guessed too often.
    Locked {
        /// Seconds until it may try again, for `Retry-After`.
        retry_after: u64,
    },
}

/// The response to a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The HTTP status code (RFC 9110, section 15.5; RFC 6585, section 4).
    pub status: u16,
    /// The JSON body's `error`.
    pub error: &'static str,
    /// The JSON body's and the log line's `cause`; filters match it, so it never changes.
    pub cause: &'static str,
    /// The JSON body's `message`, for people.
    pub message: &'static str,
    /// The first `WWW-Authenticate` (RFC 6750, section 3).
    pub challenge: Option<&'static str>,
    /// The login page's word for it; `None` if a form gets the same answer as other requests.
    pub login_error: Option<&'static str>,
    /// The log level.
    pub level: Level,
}

/// The level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the level of its name")]
pub enum Level {
    Debug,
    Warning,
}

const CHALLENGE: Option<&str> = Some("Bearer realm=\"ComfyUI\"");
const BASIC: &str = "Basic realm=\"ComfyUI\"";
const INSUFFICIENT_SCOPE: Option<&str> = Some("Bearer realm=\"ComfyUI\", error=\"insufficient_scope\"");
const INVALID_TOKEN: Option<&str> = Some("Bearer realm=\"ComfyUI\", error=\"invalid_token\"");

impl Denial {
    /// The refusal of an address that is locked for `left`, rounded up to whole seconds.
    #[must_use]
    pub fn locked(left: Duration) -> Self {
        Self::Locked { retry_after: left.as_secs() + u64::from(left.subsec_nanos() > 0) }
    }

    /// The graver one of two.
    #[must_use]
    pub fn graver(self, other: Self) -> Self {
        let gravity = |denial| match denial {
            Self::Missing => 0,
            Self::Invalid => 1,
            Self::Locked { .. } => 2,
            Self::Scope { .. } => 3,
            Self::Address(_) => 4,
            Self::CrossOrigin => 5,
            Self::Profile | Self::Unstored | Self::ClientIdTaken | Self::Sockets | Self::LongHeader => 6,
            Self::ControlCharacter => 7,
            // These only concern requests that were admitted.
            Self::Quota { .. } | Self::PromptIdTaken(_) => 8,
        };
        if gravity(other) > gravity(self) { other } else { self }
    }

    /// The JSON body's `message`, for people. `label` is that of the key.
    #[must_use]
    pub fn message(self, row: &Row, label: Option<&str>) -> Cow<'static, str> {
        let (key, granted, needed) = match self {
            Self::Scope { key, granted, needed } => (key, granted, needed),
            Self::Quota { left, .. } => {
                return left.reached().map_or(row.message.into(), |reached| reached.in_words().into());
            }
            _ => return row.message.into(),
        };
        let name = label.map_or_else(|| key.to_string(), |label| format!("{label:?}"));
        if needed == Scopes::NONE {
            return "The requested scope is not valid.".into();
        }
        if granted == Scopes::granted([Scope::View]) {
            return format!("The API key {name} may only view: its scope is view, and this needs {needed}.").into();
        }
        format!("The API key {name} may not do this: its scope is {granted}, and this needs {needed}.").into()
    }

    /// Every `WWW-Authenticate`. Programs that wait for a challenge (wget, `curl --anyauth`, ffmpeg) support Basic (RFC
    /// 7617). Not for a proxy's question: the proxy may leave out what marks a browser.
    pub fn challenges<R: Request>(
        self,
        row: &Row,
        request: &R,
        question: Question<'_>,
    ) -> impl Iterator<Item = Cow<'static, str>> {
        let ours = row.challenge.map(|ours| match self {
            Self::Scope { needed, .. } if needed != Scopes::NONE => {
                format!("{ours}, scope=\"{}\"", needed.names().collect::<Vec<_>>().join(" ")).into()
            }
            _ => Cow::from(ours),
        });
        let asks = row.status == 401 && ours.is_some() && !matches!(question, Question::ForwardAuth(_));
        ours.into_iter().chain((asks && !is_by_a_browser(request)).then_some(BASIC.into()))
    }

    /// The response to it, which depends on the question.
    #[must_use]
    #[rustfmt::skip]
    pub fn row(self, question: Question<'_>) -> Row {
        use Level::{Debug, Warning};
        let row = |status, error, cause, challenge, login_error, level, message| {
            Row { status, error, cause, message, challenge, login_error, level }
        };
        let row = match self {
            Self::Missing => row(401, "unauthorized", "missing_credential", CHALLENGE, Some("invalid"), Debug,
                "This server needs an API key: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."),
            Self::Invalid => row(401, "unauthorized", "invalid_credential", INVALID_TOKEN, Some("invalid"), Warning,
                "The API key is not valid."),
            Self::ClientIdTaken => row(401, "unauthorized", "client_id_taken", CHALLENGE, None, Warning,
                "This clientId belongs to a connection that was opened with an API key: send that key."),
            Self::ControlCharacter => row(400, "bad_request", "control_character", None, None, Debug,
                "The path and the clientId must not hold control characters."),
            Self::CrossOrigin => row(403, "forbidden", "cross_origin", None, None, Warning,
                "The session cookie, a browser's Basic credentials and log-ins are only valid in requests from this server's own pages."),
            Self::Address(_) => row(403, "forbidden", "address", None, None, Warning,
                "The API key may not be used from this address."),
            Self::Profile => row(403, "forbidden", "profile", None, None, Debug,
                "This ComfyUI profile belongs to a user with a key of their own."),
            Self::Scope { .. } => row(403, "insufficient_scope", "insufficient_scope", INSUFFICIENT_SCOPE, None, Debug,
                "The API key may not do this."),
            // Anyone can cause it: at a higher level it would use up the log lines meant for guesses.
            Self::Sockets => row(429, "too_many_requests", "sockets", None, None, Debug,
                "Too many WebSockets without an API key are open: send one, or try again later."),
            Self::LongHeader => row(431, "request_header_fields_too_large", "long_header", None, None, Debug,
                "The header is too long for a WebSocket without an API key."),
            Self::Quota { .. } => row(429, "too_many_requests", "quota", None, None, Debug,
                "Your limit is reached: try again later."),
            Self::PromptIdTaken(_) => row(400, "bad_request", "prompt_id_taken", None, None, Debug,
                "This prompt_id is in the queue or in the history: use a new one, or leave it out."),
            Self::Unstored => row(503, "service_unavailable", "store", None, None, Warning,
                "You are logged out here, but this could not be stored: another server, or this one after a restart, may accept this session. Log out again later."),
            Self::Locked { .. } => row(429, "too_many_requests", "locked", None, Some("locked"), Warning,
                "Too many wrong API keys from this address: try again later."),
        };
        // nginx turns any other status into a 500. Where a new log-in can't help, the answer stays 403, or a logged-in
        // browser would be sent to the login page again and again.
        let forwarded = matches!(question, Question::ForwardAuth(_));
        if forwarded && !matches!(self, Self::Address(_) | Self::Scope { .. }) { Row { status: 401, challenge: row.challenge.or(CHALLENGE), ..row } } else { row }
    }
}
