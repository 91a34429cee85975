//! The log lines of a decision.

use super::line::{Event, Fields, Line, Seconds, Who};
use crate::decision::{Denial, Grant};
use crate::exempt::Route;
use crate::keys::{KeyId, Keys, Scope, Scopes};
use crate::request::{Field, Question, Request, Wanted};
use crate::scope::Table;
use crate::state::throttle::{Budget, Lock};

/// An admitted request, if it needs more than `view`. If no scopes are defined for routes, reads are not logged.
pub fn admitted<R: Request>(
    table: &Table,
    grant: &Grant<'_>,
    request: &R,
    question: Question<'_>,
    at: impl FnOnce() -> u64,
) -> Option<Line> {
    let needed = match question {
        Question::Access => {
            let is_a_read = || matches!(&*request.method(), "GET" | "HEAD");
            if request.is_our_own() || (table.is_empty() && is_a_read()) {
                return None;
            }
            table.needed(request, grant.key)
        }
        Question::ForwardAuth(Wanted::Scope(scope)) => Scopes::needed(scope),
        _ => return None,
    };
    if Scopes::granted([Scope::View]).cover(needed) {
        return None;
    }
    let scope = needed.names().collect::<Vec<_>>().join(" ");
    let fields = Fields { scope: Some(scope), source: Some(grant.source.name()), ..of(request) };
    Some(Line::new(at(), Event::Admitted, Fields { who: grant.key.into(), ..fields }))
}

/// A refused request. Questions that count nothing are not logged.
pub fn refused<R: Request>(
    denial: Denial,
    keys: &Keys,
    request: &R,
    question: Question<'_>,
    at: impl FnOnce() -> u64,
) -> Option<Line> {
    if matches!(question, Question::Identity | Question::Introduction | Question::Again) {
        return None;
    }
    let whose = |key: KeyId| keys.known(key).map_or_else(|| Who::of(key), Who::from);
    let (who, scope) = match denial {
        Denial::Scope { key, needed, .. } => (whose(key), Some(needed.names().collect::<Vec<_>>().join(" "))),
        Denial::Address(key) | Denial::Quota { key, .. } | Denial::PromptIdTaken(key) => (whose(key), None),
        _ => (Who::default(), None),
    };
    let is_foreign = denial == Denial::CrossOrigin;
    let fields = Fields {
        cause: Some(denial.row(question).cause),
        count: Some(1),
        who,
        scope: scope.filter(|scope| !scope.is_empty()),
        origin: request.values(Field::Origin).next().filter(|_| is_foreign).map(|origin| origin.to_owned()),
        user_agent: request.values(Field::UserAgent).next().map(|agent| agent.to_owned()),
        ..of(request)
    };
    let event = if is_foreign { Event::RefusedForeign } else { Event::Refused };
    Some(Line::new(at(), event, fields))
}

/// A session that begins or ends.
pub fn session<R: Request>(event: Event, grant: &Grant<'_>, request: &R, at: u64) -> Line {
    let of_log_in = Some(()).filter(|()| event == Event::LogIn);
    let fields = Fields {
        who: grant.key.into(),
        source: of_log_in.map(|()| grant.source.name()),
        user_agent: of_log_in.and_then(|()| request.values(Field::UserAgent).next()).map(|agent| agent.to_owned()),
        ..of(request)
    };
    Line::new(at, event, fields)
}

/// An address that is locked out.
#[must_use]
pub fn lock(lock: &Lock, at: u64) -> Line {
    let cause = match lock.budget {
        Budget::Client => "wrong_keys",
        Budget::AnyPage => "wrong_keys_any_page",
    };
    let fields = Fields {
        cause: Some(cause),
        client: Some(lock.address),
        seconds: Some(Seconds(lock.time)),
        ..Fields::default()
    };
    Line::new(at, Event::Lock, fields)
}

fn of<R: Request>(request: &R) -> Fields {
    Fields {
        client: request.client(),
        method: Some(request.method().to_owned()),
        route: match request.route() {
            Route::Unmatched => None,
            Route::Path(path) => Some(path.to_owned()),
            Route::Static { prefix, .. } => Some(format!("{prefix}/{{filename}}")),
        },
        traceparent: traceparent(request),
        ..Fields::default()
    }
}

/// The client's `traceparent`, if it is well-formed (version 00 of W3C Trace Context).
pub fn traceparent<R: Request>(request: &R) -> Option<String> {
    let value = request.values(Field::Traceparent).next()?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let lengths = value.split('-').map(str::len);
    let fits = lengths.eq([2, 32, 16, 2]) && value.split('-').all(is_hex);
    fits.then(|| value.to_owned())
}
