//! The aiohttp middleware.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::aiohttp;
use super::clock::Clock;
use super::denial::Denial;
use super::error::config_error;
use super::identity::Identity;
use super::key_store::KeyStore;
use super::log;
use super::request::{Context, Names, Request};
use super::sockets::LiveSockets;
use crate::client::TrustedProxies;
use crate::credential::cookie::Name;
use crate::decide::{Policy, decide};
use crate::decision::{Decision, Grant};
use crate::exempt::{Exemption, Exemptions, Route};
use crate::keys;
use crate::request::{Now, Question, Request as _};
use crate::session;
use crate::state::State;
use crate::trace::Trace;

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct AuthMiddleware {
    keys: Arc<keys::KeyStore>,
    state: State,
    exemptions: Exemptions,
    trusted: TrustedProxies,
    sockets: LiveSockets,
    url_keys: OnceLock<Py<PyAny>>,
    names: Names,
    refuse: Py<PyAny>,
    answer_preflight: Py<PyAny>,
    answers_preflights: bool,
    /// Who answers requests of which routes in place of the other middlewares.
    at_gate: Py<PyDict>,
    clock: Clock,
    /// Whether each decision is logged.
    verbose: AtomicBool,
}

/// What the core reads of `comfy_auth_rs.settings.Settings`.
#[derive(FromPyObject)]
struct Settings {
    exempt: Vec<String>,
    require_ws: bool,
    trusted_proxy: Vec<String>,
}

#[pyclass(frozen, get_all, module = "comfy_auth_rs._core")]
pub struct SessionCookie {
    name: String,
    value: String,
    max_age: Option<u64>,
}

/// The answer to a question: yes, or why not.
#[derive(IntoPyObject)]
enum Answer<T> {
    Yes(T),
    No(Denial),
}

/// Who answers a request.
enum Answerer {
    Handler,
    Preflight,
    Refusal(Denial),
}

#[pymethods]
impl AuthMiddleware {
    // What aiohttp looks for.
    #[classattr]
    #[pyo3(name = "__middleware_version__")]
    const MIDDLEWARE_VERSION: u8 = 1;

    #[new]
    #[pyo3(signature = (keys, settings, *, refuse, answer_preflight, answers_preflights = false))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts by value")]
    fn new(
        py: Python<'_>,
        keys: &KeyStore,
        settings: Settings,
        refuse: Py<PyAny>,
        answer_preflight: Py<PyAny>,
        answers_preflights: bool,
    ) -> PyResult<Self> {
        aiohttp::marked(py)?; // not in the middle of a request
        let Settings { exempt, require_ws, trusted_proxy } = &settings;
        Ok(Self {
            keys: Arc::clone(&keys.0),
            state: State::default(),
            exemptions: Exemptions::new(exempt, *require_ws).map_err(|faults| config_error(&faults))?,
            trusted: TrustedProxies::parse(trusted_proxy).map_err(|faults| config_error(&faults))?,
            sockets: LiveSockets::default(),
            url_keys: OnceLock::new(),
            names: Names::new(py)?,
            refuse,
            answer_preflight,
            answers_preflights,
            at_gate: PyDict::new(py).unbind(),
            clock: Clock::start(),
            verbose: AtomicBool::new(false),
        })
    }

    fn __call__<'py>(&self, request: &Bound<'py, PyAny>, handler: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let answerer = self.judge(request, Question::Access, |decision, facts, _| match decision {
            Decision::Granted(_) if facts.is_upgrade() => self.sockets.opened(request).map(|()| Answerer::Handler),
            Decision::Granted(_) | Decision::Exempt => Ok(Answerer::Handler),
            Decision::Preflight => Ok(Answerer::Preflight),
            Decision::Denied(denial) => Ok(Answerer::Refusal(Denial::new(denial, facts, Question::Access, false))),
            Decision::SentToLogin(denial) => Ok(Answerer::Refusal(Denial::new(denial, facts, Question::Access, true))),
        })?;
        match answerer {
            Answerer::Handler => {
                if aiohttp::is_marked(request)
                    && let Some(answer) = self.at_gate.bind(request.py()).get_item(aiohttp::route(request)?)?
                {
                    return answer.call1((request, handler));
                }
                handler.call1((request,))
            }
            Answerer::Preflight => self.answer_preflight.bind(request.py()).call1((request,)),
            Answerer::Refusal(denial) => self.refuse.bind(request.py()).call1((request, denial)),
        }
    }

    fn answer_at_gate(&self, route: &Bound<'_, PyAny>, answer: &Bound<'_, PyAny>) -> PyResult<()> {
        self.at_gate.bind(route.py()).set_item(route, answer)
    }

    fn accept_url_keys(&self, name: Py<PyAny>) {
        let _ = self.url_keys.set(name);
    }

    fn identify(&self, request: &Bound<'_, PyAny>) -> PyResult<Option<Identity>> {
        let answer = self.ask(request, Question::Identity, |grant, _, _| grant.map(|grant| Identity::new(&grant)))?;
        Ok(if let Answer::Yes(identity) = answer { identity } else { None })
    }

    fn forward_auth(&self, request: &Bound<'_, PyAny>) -> PyResult<Answer<String>> {
        self.ask(request, Question::ForwardAuth, |grant, _, _| {
            grant.and_then(|grant| grant.key.label()).unwrap_or_default().to_owned()
        })
    }

    #[pyo3(signature = (request, *, remember, key = None))]
    fn log_in(
        &self,
        request: &Bound<'_, PyAny>,
        remember: bool,
        key: Option<&str>,
    ) -> PyResult<Answer<Option<SessionCookie>>> {
        self.ask(request, Question::LogIn(key), |grant, facts, now| {
            grant.map(|grant| SessionCookie::issue(&grant, facts, now, remember))
        })
    }

    fn log_in_by_link(&self, request: &Bound<'_, PyAny>) -> PyResult<Answer<Option<SessionCookie>>> {
        self.ask(request, Question::LogInByLink, |grant, facts, now| {
            grant.map(|grant| SessionCookie::issue(&grant, facts, now, false))
        })
    }

    fn log_out(&self, request: &Bound<'_, PyAny>) -> PyResult<Answer<String>> {
        self.ask(request, Question::LogOut, |grant, facts, now| {
            if let Some(session) = grant.and_then(|grant| grant.session) {
                self.state.log_outs.add(&session, now.unix);
            }
            Name::of(facts, Question::LogOut).to_string()
        })
    }

    /// The application that keeps this is reached from its routes.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.refuse)?;
        visit.call(&self.answer_preflight)?;
        visit.call(&self.at_gate)
    }
}

impl SessionCookie {
    fn issue(grant: &Grant<'_>, facts: &Request<'_, '_>, now: Now, remember: bool) -> Self {
        let life = if remember { session::REMEMBERED } else { session::BROWSER };
        Self {
            name: Name::of(facts, Question::LogIn(None)).to_string(),
            value: session::issue(grant.key, life, now.unix),
            max_age: remember.then_some(life.as_secs()),
        }
    }
}

impl AuthMiddleware {
    /// Whether everybody may have what a request asks for, so that a cache may give it to everybody; and whether that is
    /// said of the one file of a static mount rather than of all that the resource answers.
    pub fn is_public(&self, request: &Bound<'_, PyAny>) -> PyResult<(bool, bool)> {
        let facts = self.facts(request)?;
        let route = facts.route();
        let public = self.exemptions.of(route, &facts.method()) != Exemption::None;
        let of_one_file = matches!(route, Route::Static { .. });
        facts.into_error().map_or(Ok((public, of_one_file)), Err)
    }

    /// Asks a question, and has `yes` make the answer of who was admitted, if that is somebody.
    fn ask<'py, T>(
        &self,
        request: &Bound<'py, PyAny>,
        question: Question<'_>,
        yes: impl FnOnce(Option<Grant<'_>>, &Request<'_, 'py>, Now) -> T,
    ) -> PyResult<Answer<T>> {
        self.judge(request, question, |decision, facts, now| {
            Ok(match decision {
                Decision::Granted(grant) => Answer::Yes(yes(Some(grant), facts, now)),
                Decision::Exempt | Decision::Preflight => Answer::Yes(yes(None, facts, now)),
                Decision::Denied(denial) | Decision::SentToLogin(denial) => {
                    Answer::No(Denial::new(denial, facts, question, false))
                }
            })
        })
    }

    /// Decides by the keys in force, and has `act` do what follows.
    fn judge<'py, T>(
        &self,
        request: &Bound<'py, PyAny>,
        question: Question<'_>,
        act: impl FnOnce(Decision<'_>, &Request<'_, 'py>, Now) -> PyResult<T>,
    ) -> PyResult<T> {
        let py = request.py();
        let now = self.clock.now(|| self.verbose.store(log::wants_decisions(py), Ordering::Relaxed));
        let events = self.keys.refresh(now.monotonic);
        if !events.is_empty() {
            log::reloads(py, &events)?;
        }
        let trace = self.verbose.load(Ordering::Relaxed).then(Trace::default);
        let keys = self.keys.current();
        let policy = Policy {
            keys: &keys,
            state: &self.state,
            exemptions: &self.exemptions,
            answers_preflights: self.answers_preflights,
            trace: trace.as_ref(),
        };
        let facts = self.facts(request)?;
        let decision = decide(&policy, &facts, question, now);
        if let Some(trace) = &trace {
            log::decision(&decision, question, &facts, trace)?;
        }
        let outcome = act(decision, &facts, now);
        match facts.into_error() {
            Some(error) => Err(error),
            None => outcome,
        }
    }

    fn facts<'a, 'py>(&'a self, request: &'a Bound<'py, PyAny>) -> PyResult<Request<'a, 'py>> {
        let Self { names, trusted, sockets, url_keys, .. } = self;
        Request::new(request, Context { names, trusted, sockets, url_keys: url_keys.get() })
    }
}
