//! The aiohttp middleware.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;

use super::clock::Clock;
use super::denial::Denial;
use super::error::config_error;
use super::key_store::KeyStore;
use super::log;
use super::request::{Names, Request};
use super::sockets::LiveSockets;
use crate::client::TrustedProxies;
use crate::credential::Source;
use crate::decide::{self, Facts as _, Identity, Now, Policy, Purpose, cookie_name};
use crate::error;
use crate::exempt::{Exemption, Exemptions, Route};
use crate::guarded::Guarded;
use crate::keys::{self, Keys};
use crate::session::{self, Sessions};
use crate::throttle::Throttle;

/// An aiohttp middleware (new style) that admits requests by their keys.
///
/// Calling it returns what `handler(request)` returns when the request is admitted, with no coroutine in between, and
/// what `refuse(request, denial)` returns when it isn't. A CORS preflight that would run a handler of every method is
/// neither: it gets what `answer_preflight(request)` returns.
#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct AuthMiddleware {
    keys: Arc<keys::KeyStore>,
    sessions: Sessions,
    throttle: Throttle,
    exemptions: Exemptions,
    trusted: TrustedProxies,
    sockets: LiveSockets,
    url_keys: OnceLock<Py<PyAny>>,
    names: Names,
    refuse: Py<PyAny>,
    answer_preflight: Py<PyAny>,
    clock: Clock,
}

/// Who answers a request.
enum Answerer {
    Handler,
    Preflight,
    Refusal(Denial),
}

/// The cookie that a log-in sets.
#[pyclass(frozen, get_all, module = "comfy_auth_rs._core")]
pub struct SessionCookie {
    /// Its name.
    name: String,
    /// Its value.
    value: String,
    /// Its life in seconds; `None` where it ends with the browser.
    max_age: Option<u64>,
}

#[derive(IntoPyObject)]
enum LogIn {
    Admitted(SessionCookie),
    Denied(Denial),
}

#[derive(IntoPyObject)]
enum Verdict {
    Label(String),
    Denied(Denial),
}

#[pymethods]
impl AuthMiddleware {
    /// What aiohttp looks for.
    #[classattr]
    #[pyo3(name = "__middleware_version__")]
    const MIDDLEWARE_VERSION: u8 = 1;

    #[new]
    #[pyo3(signature = (
        keys, *, refuse, answer_preflight, exempt = Vec::new(), require_ws = false, trusted_proxy = Vec::new()
    ))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts lists by value")]
    fn new(
        py: Python<'_>,
        keys: &KeyStore,
        refuse: Py<PyAny>,
        answer_preflight: Py<PyAny>,
        exempt: Vec<String>,
        require_ws: bool,
        trusted_proxy: Vec<String>,
    ) -> PyResult<Self> {
        Ok(Self {
            keys: Arc::clone(&keys.0),
            sessions: Sessions::default(),
            throttle: Throttle::default(),
            exemptions: Exemptions::new(&exempt, require_ws).map_err(|faults| config_error(&faults))?,
            trusted: TrustedProxies::parse(&trusted_proxy).map_err(|faults| config_error(&faults))?,
            sockets: LiveSockets::default(),
            url_keys: OnceLock::new(),
            names: Names::new(py)?,
            refuse,
            answer_preflight,
            clock: Clock::start(),
        })
    }

    fn __call__<'py>(&self, request: &Bound<'py, PyAny>, handler: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let answerer = self.judge(request, |policy, facts, now| match decide::decide(policy, facts, now) {
            Ok(Identity::Key { .. }) if facts.is_upgrade() => self.sockets.opened(request).map(|()| Answerer::Handler),
            Ok(Identity::Anonymous) if self.runs_a_handler_of_every_method(facts) => Ok(Answerer::Preflight),
            Ok(_) => Ok(Answerer::Handler),
            Err(denial) => Ok(Answerer::Refusal(denied(facts, denial))),
        })?;
        match answerer {
            Answerer::Handler => handler.call1((request,)),
            Answerer::Preflight => self.answer_preflight.bind(request.py()).call1((request,)),
            Answerer::Refusal(denial) => self.refuse.bind(request.py()).call1((request, denial)),
        }
    }

    /// From now on, looks for keys that stood before the path under `name` in each request's state.
    fn accept_url_keys(&self, name: Py<PyAny>) {
        let _ = self.url_keys.set(name);
    }

    /// `None` if the request bears a valid credential, whatever its route; else why not.
    fn authenticate(&self, request: &Bound<'_, PyAny>) -> PyResult<Option<Denial>> {
        self.judge(request, |policy, facts, now| {
            Ok(decide::authenticate(policy, facts, Purpose::Access, now).err().map(|denial| denied(facts, denial)))
        })
    }

    /// The label of the key that lets the request pass about which a proxy asks, empty where the key has none; else why
    /// it may not pass. That never leads to the login page: it is the proxy that reads the answer.
    fn identify(&self, request: &Bound<'_, PyAny>) -> PyResult<Verdict> {
        self.judge(request, |policy, facts, now| {
            let denial = match decide::authenticate(policy, &Guarded(facts), Purpose::Access, now) {
                Ok(Identity::Key { key, .. }) => match policy.keys.by_id(key) {
                    Some(entry) => return Ok(Verdict::Label(entry.label().unwrap_or_default().to_owned())),
                    None => error::Denial::Invalid,
                },
                Ok(Identity::Anonymous) => error::Denial::Missing,
                Err(denial) => denial,
            };
            Ok(Verdict::Denied(Denial::new(denial, facts.client(), false)))
        })
    }

    /// A session for the key that a request presents in a header, in its query, or as `form_key`, but not for another
    /// session, which would never end.
    #[pyo3(signature = (request, *, remember, form_key = None))]
    fn log_in(&self, request: &Bound<'_, PyAny>, remember: bool, form_key: Option<&str>) -> PyResult<LogIn> {
        self.judge(request, |policy, facts, now| {
            let denial = match decide::authenticate(policy, facts, Purpose::LogIn(form_key), now) {
                // Any page can have a browser send this, with a key of its own. A link that a person follows is a GET.
                Ok(Identity::Key { source: Source::Query | Source::UrlPrefix, .. })
                    if facts.method() == "POST" && decide::is_foreign(facts) =>
                {
                    error::Denial::CrossOrigin
                }
                Ok(Identity::Key { key, source }) if source != Source::Cookie => match policy.keys.by_id(key) {
                    Some(entry) => {
                        let life = if remember { session::REMEMBERED } else { session::BROWSER };
                        let value = self.sessions.issue(entry, life, now.unix);
                        let max_age = remember.then_some(life.as_secs());
                        return Ok(LogIn::Admitted(SessionCookie {
                            name: cookie_name(facts).to_string(),
                            value,
                            max_age,
                        }));
                    }
                    None => error::Denial::Invalid,
                },
                Ok(_) => error::Denial::Missing,
                Err(denial) => denial,
            };
            Ok(LogIn::Denied(denied(facts, denial)))
        })
    }

    /// Ends the session of a request, if it has one. Returns the cookie's name, for clearing it.
    fn log_out(&self, request: &Bound<'_, PyAny>) -> PyResult<String> {
        self.judge(request, |policy, facts, now| {
            if let Some(session) = decide::session(policy, facts, now) {
                self.sessions.revoke(&session, now.unix);
            }
            Ok(cookie_name(facts).to_string())
        })
    }
}

impl AuthMiddleware {
    /// Whether everybody may have what a request asks for, so that a cache may give it to everybody; and whether that is
    /// said of the one file of a static mount rather than of all that the resource answers.
    pub fn is_public(&self, request: &Bound<'_, PyAny>) -> PyResult<(bool, bool)> {
        let facts = self.facts(request)?;
        let public = decide::exemption(&self.exemptions, &facts) != Exemption::None;
        let mut of_one_file = false;
        facts.route(&mut |route| of_one_file = matches!(route, Route::Static { .. }));
        facts.into_error().map_or(Ok((public, of_one_file)), Err)
    }

    /// Runs `judgement` on the facts of a request, with the keys in force.
    fn judge<'py, T>(
        &self,
        request: &Bound<'py, PyAny>,
        judgement: impl FnOnce(&Policy<'_>, &Request<'_, 'py>, Now) -> PyResult<T>,
    ) -> PyResult<T> {
        let now = self.clock.now();
        let events = self.keys.refresh(now.monotonic);
        if !events.is_empty() {
            log::reloads(request.py(), &events)?;
        }
        let keys = self.keys.current();
        let facts = self.facts(request)?;
        let outcome = judgement(&self.policy(&keys), &facts, now);
        match facts.into_error() {
            Some(error) => Err(error),
            None => outcome,
        }
    }

    fn facts<'a, 'py>(&'a self, request: &'a Bound<'py, PyAny>) -> PyResult<Request<'a, 'py>> {
        Request::new(request, &self.names, &self.trusted, &self.sockets, self.url_keys.get())
    }

    /// Whether a preflight that nothing but its method exempts leads to a handler that was not made for it.
    fn runs_a_handler_of_every_method(&self, facts: &Request<'_, '_>) -> bool {
        facts.method() == "OPTIONS"
            && decide::exemption(&self.exemptions, facts) == Exemption::None
            && facts.is_for_every_method()
    }

    fn policy<'a>(&'a self, keys: &'a Keys) -> Policy<'a> {
        Policy { keys, sessions: &self.sessions, throttle: &self.throttle, exemptions: &self.exemptions }
    }
}

#[cold]
fn denied(facts: &Request<'_, '_>, denial: error::Denial) -> Denial {
    Denial::new(denial, facts.client(), decide::leads_to_login(facts, denial))
}
