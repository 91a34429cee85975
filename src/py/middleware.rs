//! The aiohttp middleware.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PySet, PyString, PyTuple};

use super::aiohttp;
use super::clock::{Clock, unix_millis};
use super::connections::{Connections, Ending};
use super::denial::Denial;
use super::error::config_error;
use super::identity::Identity;
use super::key_store::KeyStore;
use super::link::Link;
use super::log;
use super::notices::Notices;
use super::probe::DeviceSampler;
use super::prompts::{Asker, Limits, PromptLedger};
use super::quiet::Quiet;
use super::request::{Names, Reader, Request};
use super::scopes::{Known, Scopes};
use super::state::{SharedState, Waker};
use crate::audit::{Audit, Event, Fields, Line, of_request};
use crate::check::Context;
use crate::client::{ClientField, TrustedProxies};
use crate::credential::cookie::Name;
use crate::decide::{Policy, decide, open_socket};
use crate::decision::{self, Admission, Decision, Grant};
use crate::exempt::{Application, Exemption, Exemptions, Route};
use crate::keys::{self, Keys, Reload};
use crate::link;
use crate::metrics::{Figures, Format, Metrics, Queue};
use crate::origin::OwnOrigins;
use crate::prompt::take_place;
use crate::request::{Field, Now, Question, Request as _, Wanted};
use crate::sandbox;
use crate::scope::Table;
use crate::session;
use crate::state::State;
use crate::trace::Trace;
use crate::validity::still_admits;

#[pyclass(frozen, weakref, module = "comfy_auth_rs._core")]
pub struct AuthMiddleware {
    state: Arc<State>,
    shared: Py<SharedState>,
    waker: Arc<Waker>,
    exemptions: Exemptions,
    table: Table,
    own_origins: OwnOrigins,
    reader: Reader,
    /// `comfy_auth_rs.connections.Watch`.
    watch: OnceLock<Py<PyAny>>,
    audit: Option<Arc<Audit>>,
    ledger: Py<PromptLedger>,
    /// `comfy_auth_rs.comfyui.prompts.Prompts.ask`.
    prompts: OnceLock<Py<PyAny>>,
    refuse: Py<PyAny>,
    answer_preflight: Py<PyAny>,
    /// Who answers the routes of our own resources, in place of the other middlewares.
    at_gate: Py<PyDict>,
    clock: Arc<Clock>,
    quiet: Quiet,
    /// When the key files were looked at last.
    looked: Mutex<Option<Now>>,
    /// Whether each decision is logged.
    verbose: AtomicBool,
    metrics: Arc<Metrics>,
}

/// How long the server waits, when it ends, for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the core reads of `comfy_auth_rs.settings.Settings`.
#[derive(FromPyObject)]
struct Settings {
    exempt: Vec<String>,
    require_ws: bool,
    trusted_proxy: Vec<String>,
    client_field: String,
    origin: Vec<String>,
    audit: Option<PathBuf>,
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

/// Who answers a request. Small, because it is moved for each.
enum Next {
    Handler,
    /// The same for a route of our own resources: the other middlewares may not see it.
    AtGate,
    /// The same for a request that may queue a prompt, or end one: who asks.
    Asker(Box<Asker>),
    /// The same for a WebSocket: whether it has a credential, and those to close first.
    Socket(bool, Vec<Ending>),
    Preflight,
    Refusal(Box<Denial>),
}

#[pymethods]
impl AuthMiddleware {
    // What aiohttp looks for.
    #[classattr]
    #[pyo3(name = "__middleware_version__")]
    const MIDDLEWARE_VERSION: u8 = 1;

    #[new]
    #[pyo3(signature = (keys, settings, *, refuse, answer_preflight, scopes))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts by value")]
    fn new(
        py: Python<'_>,
        keys: &KeyStore,
        settings: Settings,
        refuse: Py<PyAny>,
        answer_preflight: Py<PyAny>,
        scopes: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let Settings { exempt, require_ws, trusted_proxy, client_field, origin, audit } = &settings;
        let require_ws = *require_ws;
        let (table, scopes) = Scopes::read(scopes)?;
        let application = if scopes.in_comfyui() { Application::ComfyUi { require_ws } } else { Application::Own };
        let audit = audit.as_deref().map(|path| Audit::open(path).map(Arc::new));
        let audit = audit.transpose().map_err(|fault| config_error(&[fault]))?;
        let client_field = ClientField::parse(client_field).map_err(|fault| config_error(&[fault]))?;
        let (shared, metrics) = (SharedState::new(keys), Arc::<Metrics>::default());
        let middleware = Self {
            state: Arc::clone(&shared.state),
            clock: Arc::clone(&shared.clock),
            waker: Arc::clone(&shared.waker),
            shared: Py::new(py, shared)?,
            ledger: Py::new(py, PromptLedger::new(Arc::default(), audit.clone(), Arc::clone(&metrics)))?,
            audit,
            prompts: OnceLock::new(),
            exemptions: Exemptions::new(application, exempt).map_err(|faults| config_error(&faults))?,
            table,
            own_origins: OwnOrigins::parse(origin).map_err(|faults| config_error(&faults))?,
            reader: Reader {
                keys: Arc::clone(&keys.0),
                scopes,
                known: Known::new(py),
                our_own: PySet::empty(py)?.unbind(),
                trusted: TrustedProxies::parse(trusted_proxy).map_err(|faults| config_error(&faults))?,
                connections: Connections::default(),
                url_keys: OnceLock::new(),
                names: Names::new(py, &client_field)?,
                client_field,
                notices: Notices::default(),
            },
            watch: OnceLock::new(),
            refuse,
            answer_preflight,
            at_gate: PyDict::new(py).unbind(),
            quiet: Quiet::default(),
            looked: Mutex::default(),
            verbose: AtomicBool::new(false),
            metrics,
        };
        middleware.tell_of_start();
        Ok(middleware)
    }

    /// `(request, /, handler)`, as aiohttp calls it: PyO3's reading of such a signature costs as much as a key's check.
    #[pyo3(signature = (*args, **named))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        named: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (request, handler) = &arguments(args, named)?;
        let call = (request, handler);
        let next =
            self.judge(request, Question::Access, |decision, facts, now| self.next(call, &decision, facts, now))?;
        let py = request.py();
        match next {
            Next::Preflight => self.answer_preflight.bind(py).call1((request,)),
            Next::Refusal(denial) => self.refuse.bind(py).call1((request, *denial)),
            Next::AtGate => {
                let answer = self.at_gate.bind(py).get_item(aiohttp::route(request)?)?;
                answer.map_or_else(|| handler.call1((request,)), |answer| answer.call1((request, handler)))
            }
            Next::Handler => handler.call1((request,)),
            Next::Asker(asker) => match self.prompts.get() {
                Some(prompts) => prompts.bind(py).call1((request, handler, *asker)),
                None => handler.call1((request,)),
            },
            Next::Socket(has_credential, displaced) => match self.watch.get() {
                None => handler.call1((request,)),
                Some(watch) => {
                    let opened = (request, handler, has_credential, displaced);
                    watch.bind(py).call_method1(intern!(py, "open"), opened)
                }
            },
        }
    }

    #[pyo3(signature = (route, answer, *, is_our_own = true))]
    fn answer_at_gate(&self, route: &Bound<'_, PyAny>, answer: &Bound<'_, PyAny>, is_our_own: bool) -> PyResult<()> {
        let py = route.py();
        if is_our_own {
            self.reader.our_own.bind(py).add(route)?;
        }
        self.at_gate.bind(py).set_item(route, answer)
    }

    fn accept_url_keys(&self, name: Py<PyAny>) {
        let _ = self.reader.url_keys.set(name);
    }

    fn watch_with(&self, watch: Py<PyAny>) {
        let _ = self.watch.set(watch);
    }

    fn ask_with(&self, prompts: Py<PyAny>) {
        let _ = self.prompts.set(prompts);
    }

    #[getter]
    fn ledger(&self, py: Python<'_>) -> Py<PromptLedger> {
        self.ledger.clone_ref(py)
    }

    #[getter]
    fn shared(&self, py: Python<'_>) -> Py<SharedState> {
        self.shared.clone_ref(py)
    }

    fn prompt_id_taken(&self, request: &Bound<'_, PyAny>, asker: &Asker) -> PyResult<Denial> {
        let denial = decision::Denial::PromptIdTaken(asker.key());
        self.refuse(denial, &self.facts(request)?, Question::Access, false)
    }

    fn end(&self, py: Python<'_>) {
        self.ledger.get().end();
        if let Some(audit) = &self.audit {
            py.detach(|| audit.flush(PATIENCE));
        }
    }

    fn closed(&self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        self.reader.connections.closed(request)
    }

    fn look_again(&self, py: Python<'_>) -> PyResult<(Vec<Ending>, bool)> {
        let now = self.clock.now(|| ());
        self.look(py, now)?;
        let keys = self.reader.keys.current();
        let policy = self.policy(&keys);
        let (ended, others) = self.reader.connections.ended(py, |admission| still_admits(&policy, admission, now));
        if !others {
            self.clock.begin_second();
        }
        Ok((ended, others))
    }

    fn identify(&self, request: &Bound<'_, PyAny>) -> PyResult<Option<Identity>> {
        self.who(request, Question::Identity)
    }

    fn introduce(&self, request: &Bound<'_, PyAny>) -> PyResult<Option<Identity>> {
        self.who(request, Question::Introduction)
    }

    fn limits(&self, request: &Bound<'_, PyAny>) -> PyResult<Option<Limits>> {
        let answer = self.ask(request, Question::Identity, |grant, _, now| {
            let key = grant?.key;
            let quota = key.attributes().quota;
            Some(self.state.limits.allowance(&key.subject(), quota, now.latest_millis()).into())
        })?;
        Ok(if let Answer::Yes(told) = answer { told } else { None })
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts lists by value")]
    fn forward_auth(&self, request: &Bound<'_, PyAny>, scopes: Vec<String>) -> PyResult<Answer<Option<Identity>>> {
        self.ask(request, Question::ForwardAuth(Wanted::of(&scopes)), |grant, _, _| {
            grant.map(|grant| Identity::new(&grant))
        })
    }

    fn deny_profile(&self, request: &Bound<'_, PyAny>) -> PyResult<Denial> {
        self.refuse(decision::Denial::Profile, &self.facts(request)?, Question::Access, false)
    }

    fn deny_unstored(&self, request: &Bound<'_, PyAny>) -> PyResult<Denial> {
        self.refuse(decision::Denial::Unstored, &self.facts(request)?, Question::LogOut, false)
    }

    fn users(&self) -> HashSet<String> {
        self.reader.keys.current().users().collect()
    }

    #[pyo3(signature = (request, *, remember, key = None))]
    fn log_in(
        &self,
        request: &Bound<'_, PyAny>,
        remember: bool,
        key: Option<&str>,
    ) -> PyResult<Answer<Option<SessionCookie>>> {
        self.ask(request, Question::LogIn(key), |grant, facts, now| {
            grant.map(|grant| {
                self.metrics.session_began();
                self.tell(|| of_request::session(Event::LogIn, &grant, facts, unix_millis()));
                SessionCookie::issue(&grant, facts, now, remember)
            })
        })
    }

    fn follow_link(&self, request: &Bound<'_, PyAny>) -> PyResult<Option<Link>> {
        let keys = self.reader.keys.current();
        let policy = self.policy(&keys);
        self.judge(request, Question::LogInByLink, |decision, request, now| {
            let context = Context { policy: &policy, request, question: Question::LogInByLink, now };
            let link = link::follow(&context, &decision);
            if let link::Link::LogIn(grant) = &link {
                self.metrics.session_began();
                self.tell(|| of_request::session(Event::LogIn, grant, context.request, unix_millis()));
            }
            Link::follow(request.py(), &context, link)
        })
    }

    fn site(&self, request: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        let keys = self.reader.keys.current();
        let facts = self.facts(request)?;
        let (policy, now) = (self.policy(&keys), self.clock.now(|| ()));
        let site = link::site(&Context { policy: &policy, request: &facts, question: Question::Identity, now });
        facts.take_error().map_or(Ok(site), Err)
    }

    fn log_out(&self, request: &Bound<'_, PyAny>) -> PyResult<Answer<String>> {
        self.judge(request, Question::LogOut, |decision, facts, now| {
            let ended = match decision {
                Decision::Granted(grant) => {
                    if grant.session.is_some() {
                        self.tell(|| of_request::session(Event::LogOut, &grant, facts, unix_millis()));
                    }
                    grant.session.map(|session| (session, grant.key))
                }
                Decision::Exempt | Decision::ExemptSocket | Decision::Preflight => None,
                Decision::Denied(denial) | Decision::SentToLogin(denial) => {
                    return self.refuse(denial, facts, Question::LogOut, false).map(Answer::No);
                }
            };
            if let Some((session, key)) = ended {
                self.note_in_flight(request.py(), now)?;
                self.reader.connections.spare(request)?; // it is in flight, too, until this is stored
                self.state.log_outs.add(&session, key, now);
                self.metrics.session_ended();
            }
            Ok(Answer::Yes(Name::of(facts).to_string()))
        })
    }

    #[pyo3(signature = (accept, devices, queue = None))]
    fn metrics<'py>(
        &self,
        py: Python<'py>,
        accept: &Bound<'py, PyString>,
        devices: &DeviceSampler,
        queue: Option<(u64, u64)>,
    ) -> (&'static str, Bound<'py, PyBytes>) {
        let now = self.clock.now(|| ());
        let (devices, devices_age) = devices.last();
        let mut figures = Figures {
            locks: self.state.throttle.locks(now.monotonic),
            files: self.reader.keys.statuses(),
            sockets: self.reader.connections.sockets(py),
            queue: queue.map(|(pending, running)| Queue { pending, running }),
            devices,
            devices_age,
            store: self.state.store.is_there().map(|is_there| (is_there, self.state.nodes.count(now))),
            audit_lines_dropped: self.audit.as_ref().map(|audit| audit.dropped()),
            ..Figures::default()
        };
        figures.look_at(&self.reader.keys.current(), now);
        let format = Format::of(&accept.to_string_lossy());
        let page = self.metrics.page(figures, || self.ledger.get().running(), format);
        (format.content_type(), PyBytes::new(py, page.as_bytes()))
    }

    /// The routes hold the application, which holds this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(prompts) = self.prompts.get() {
            visit.call(prompts)?;
        }
        visit.call(&self.shared)?;
        visit.call(&self.refuse)?;
        visit.call(&self.answer_preflight)?;
        self.quiet.traverse(&visit)?;
        self.reader.scopes.traverse(&visit)?;
        self.reader.known.traverse(&visit)?;
        visit.call(&self.reader.our_own)?;
        visit.call(&self.at_gate)
    }
}

impl SessionCookie {
    pub fn issue(grant: &Grant<'_>, facts: &Request<'_, '_>, now: Now, remember: bool) -> Self {
        let life = if remember { session::REMEMBERED } else { session::BROWSER };
        // A browser need not keep it any longer than the key lives.
        let kept = grant
            .key
            .attributes()
            .expires
            .map_or(life.as_secs(), |end| life.as_secs().min(end.saturating_sub(now.unix)));
        Self {
            name: Name::of(facts).to_string(),
            value: session::issue(grant.key, life, now.unix),
            max_age: remember.then_some(kept),
        }
    }
}

impl AuthMiddleware {
    /// Notes the response by which a WebSocket can be closed, and lets the watch change it before it is sent.
    pub fn prepared(&self, request: &Bound<'_, PyAny>, response: &Bound<'_, PyAny>) -> PyResult<()> {
        let has_credential = self.reader.connections.prepared(request, response)?;
        if let Some(watch) = self.watch.get() {
            let py = request.py();
            watch.bind(py).call_method1(intern!(py, "prepared"), (request, response, has_credential))?;
        }
        Ok(())
    }

    /// Who answers a request that presents a valid credential.
    fn admit(
        &self,
        grant: &Grant<'_>,
        facts: &Request<'_, '_>,
        (request, handler): (&Bound<'_, PyAny>, &Bound<'_, PyAny>),
        now: Now,
    ) -> PyResult<Next> {
        let is_marked = aiohttp::is_marked(request);
        let is_quiet = self.quiet.knows(handler);
        let next = if is_marked {
            Next::AtGate // none of our own routes opens a socket, or queues a prompt
        } else if asks_for_a_socket(facts) {
            self.open_socket(Some(grant), facts, request)?
        } else if is_quiet || self.prompts.get().is_none() || is_a_read(facts) {
            Next::Handler
        } else {
            match take_place(&self.state, grant, facts, now) {
                Ok(place) => Next::Asker(Box::new(Asker::new(grant, facts, place, &self.clock, &self.waker))),
                Err(denial) => self.refusal(denial, facts, false)?,
            }
        };
        if !matches!(next, Next::Refusal(_)) {
            let is_counted = matches!(next, Next::Socket(..)) || (is_marked && self.asks_itself(facts));
            if !is_counted {
                self.metrics.admitted();
            }
            if !is_quiet && self.audit.is_some() && self.tell_of_admitted(grant, facts, Question::Access) {
                self.quiet.learn(request, handler)?;
            }
        }
        Ok(next)
    }

    fn next(
        &self,
        (request, handler): (&Bound<'_, PyAny>, &Bound<'_, PyAny>),
        decision: &Decision<'_>,
        facts: &Request<'_, '_>,
        now: Now,
    ) -> PyResult<Next> {
        match decision {
            Decision::Granted(grant) => self.admit(grant, facts, (request, handler), now),
            Decision::ExemptSocket => self.open_socket(None, facts, request),
            Decision::Exempt => {
                let is_marked = aiohttp::is_marked(request);
                if !is_marked || !self.asks_itself(facts) {
                    self.metrics.exempt();
                }
                Ok(if is_marked { Next::AtGate } else { Next::Handler })
            }
            Decision::Preflight => {
                self.metrics.preflight();
                Ok(Next::Preflight)
            }
            Decision::Denied(denial) => self.refusal(*denial, facts, false),
            Decision::SentToLogin(denial) => self.refusal(*denial, facts, true),
        }
    }

    /// Whether the route asks a question of its own, whose answer is counted.
    fn asks_itself(&self, facts: &Request<'_, '_>) -> bool {
        self.exemptions.of(facts.route(), &facts.method()) == Exemption::AsksItself
    }

    fn open_socket(
        &self,
        grant: Option<&Grant<'_>>,
        facts: &Request<'_, '_>,
        request: &Bound<'_, PyAny>,
    ) -> PyResult<Next> {
        let seat = match open_socket(&self.state, grant, facts) {
            Ok(seat) => seat,
            Err(denial) => return self.refusal(denial, facts, false),
        };
        if grant.is_some() {
            self.metrics.admitted();
        } else {
            self.metrics.exempt();
        }
        let admission = grant.map(|grant| self.admission(grant, facts));
        let displaced =
            self.reader.connections.opened(request, admission, grant.map(|grant| grant.key.subject()), seat)?;
        Ok(Next::Socket(grant.is_some(), displaced))
    }

    fn admission(&self, grant: &Grant<'_>, facts: &Request<'_, '_>) -> Admission {
        let (needed, client) = (self.table.needed(facts, grant.key), facts.known_client());
        let _ = facts.take_error(); // an application function's: a key for everything was admitted without asking it
        Admission { key: grant.key.id(), session: grant.session, needed, client }
    }

    /// Whether what a request asks for is public, so that a cache may give it to anyone; and whether this is only about
    /// one file of a static mount, not about everything that the resource answers.
    pub fn is_public(&self, request: &Bound<'_, PyAny>) -> PyResult<(bool, bool)> {
        let facts = self.facts(request)?;
        let route = facts.route();
        let public = self.exemptions.of(route, &facts.method()) != Exemption::None;
        let of_one_file = matches!(route, Route::Static { .. });
        facts.take_error().map_or(Ok((public, of_one_file)), Err)
    }

    /// Whether the resource that resolved a request is one of ComfyUI's that answer with what clients can write.
    pub fn answers_what_clients_write(&self, request: &Bound<'_, PyAny>) -> PyResult<bool> {
        let facts = self.facts(request)?;
        let answers = self.exemptions.in_comfyui()
            && matches!(facts.route(), Route::Path(path) if sandbox::answers_what_clients_write(path));
        facts.take_error().map_or(Ok(answers), Err)
    }

    fn who(&self, request: &Bound<'_, PyAny>, question: Question<'_>) -> PyResult<Option<Identity>> {
        let answer = self.ask(request, question, |grant, _, _| grant.map(|grant| Identity::new(&grant)))?;
        Ok(if let Answer::Yes(identity) = answer { identity } else { None })
    }

    /// Asks a question. If someone was admitted, `yes` makes the answer.
    fn ask<'py, T>(
        &self,
        request: &Bound<'py, PyAny>,
        question: Question<'_>,
        yes: impl FnOnce(Option<Grant<'_>>, &Request<'_, 'py>, Now) -> T,
    ) -> PyResult<Answer<T>> {
        self.judge(request, question, |decision, facts, now| {
            Ok(match decision {
                Decision::Granted(grant) => {
                    let _ = self.tell_of_admitted(&grant, facts, question);
                    Answer::Yes(yes(Some(grant), facts, now))
                }
                Decision::Exempt | Decision::ExemptSocket | Decision::Preflight => Answer::Yes(yes(None, facts, now)),
                Decision::Denied(denial) | Decision::SentToLogin(denial) => {
                    Answer::No(self.refuse(denial, facts, question, false)?)
                }
            })
        })
    }

    /// Decides by the keys in force, and lets `act` do what follows.
    fn judge<'py, T>(
        &self,
        request: &Bound<'py, PyAny>,
        question: Question<'_>,
        act: impl FnOnce(Decision<'_>, &Request<'_, 'py>, Now) -> PyResult<T>,
    ) -> PyResult<T> {
        let py = request.py();
        let now = self.clock.now(|| self.begin_second(py));
        if self.reader.keys.is_due(now.monotonic) || self.state.log_outs.some_wait() {
            self.look(py, now)?;
            if question == Question::Access {
                self.reader.connections.forget(request)?; // it is not admitted yet
            }
        }
        let trace = self.verbose.load(Ordering::Relaxed).then(Trace::default);
        let keys = self.reader.keys.current();
        let policy = Policy { trace: trace.as_ref(), ..self.policy(&keys) };
        let facts = self.facts(request)?;
        let decision = decide(&policy, &facts, question, now);
        if question != Question::Access {
            self.metrics.answered(&decision, question);
        }
        if let Some(audit) = &self.audit {
            for lock in self.state.throttle.begun() {
                audit.tell(of_request::lock(&lock, unix_millis()));
            }
        }
        if let Some(trace) = &trace {
            log::decision(&decision, question, &facts, trace)?;
        }
        let outcome = act(decision, &facts, now);
        self.waker.wake(py);
        match facts.take_error() {
            Some(error) => Err(error),
            None => outcome,
        }
    }

    #[cold]
    fn begin_second(&self, py: Python<'_>) {
        self.verbose.store(log::wants_decisions(py), Ordering::Relaxed);
        if let Some(news) = self.audit.as_ref().and_then(|audit| audit.news()) {
            let _ = log::warning(py, &format!("comfy-auth-rs: {news}"));
        }
        if let Some(watch) = self.watch.get() {
            watch.call_method0(py, intern!(py, "start")).map_or_else(|error| error.write_unraisable(py, None), drop);
        }
    }

    /// Looks at the key files. Requests in flight are noted before a key is removed.
    #[cold]
    fn look(&self, py: Python<'_>, now: Now) -> PyResult<()> {
        let look = self.state.log_outs.begin_look();
        self.note_in_flight(py, now)?;
        self.state.log_outs.noted(look);
        let before = Arc::clone(&self.reader.keys.current());
        let reloads = self.reader.keys.look(now.monotonic);
        let then = self.looked.lock().unwrap_or_else(PoisonError::into_inner).replace(now).unwrap_or(now);
        self.tell_of_keys(&reloads, &before, then, now);
        if reloads.iter().any(|reload| matches!(reload, Reload::Loaded { .. })) {
            self.waker.call(py); // the store may hold something about keys that are new
        }
        log::reloads(py, &reloads)
    }

    fn refusal(&self, denial: decision::Denial, facts: &Request<'_, '_>, leads_to_login: bool) -> PyResult<Next> {
        let denial = self.refuse(denial, facts, Question::Access, leads_to_login)?;
        Ok(Next::Refusal(Box::new(denial)))
    }

    /// Every refusal passes through here.
    fn refuse(
        &self,
        denial: decision::Denial,
        facts: &Request<'_, '_>,
        question: Question<'_>,
        leads_to_login: bool,
    ) -> PyResult<Denial> {
        self.metrics.refused(denial, question);
        if let Some(audit) = &self.audit {
            let line = of_request::refused(denial, &self.reader.keys.current(), facts, question, unix_millis);
            if let Some(line) = line {
                audit.tell(line);
            }
        }
        Denial::new(denial, facts, question, leads_to_login)
    }

    fn tell(&self, line: impl FnOnce() -> Line) {
        if let Some(audit) = &self.audit {
            audit.tell(line());
        }
    }

    /// Returns whether no request like this one will ever be logged.
    fn tell_of_admitted(&self, grant: &Grant<'_>, facts: &Request<'_, '_>, question: Question<'_>) -> bool {
        let Some(audit) = &self.audit else { return false };
        if let Some(line) = of_request::admitted(&self.table, grant, facts, question, unix_millis) {
            audit.tell(line);
            return false;
        }
        is_a_read(facts) && facts.known_scopes().is_some()
    }

    fn tell_of_start(&self) {
        for (path, keys) in self.reader.keys.files() {
            self.tell_of_file(&path, Some(keys), None);
        }
        self.tell(|| {
            let keys = self.reader.keys.current().in_force(Now::at(unix_millis() / 1000));
            let version = Some(env!("CARGO_PKG_VERSION"));
            Line::new(unix_millis(), Event::Started, Fields { version, keys: Some(keys), ..Fields::default() })
        });
    }

    fn tell_of_keys(&self, reloads: &[Reload], before: &Keys, then: Now, now: Now) {
        if self.audit.is_none() {
            return;
        }
        for reload in reloads {
            match reload {
                Reload::Loaded { path, keys } => self.tell_of_file(path, Some(*keys), None),
                Reload::Kept { path, cause, .. } => self.tell_of_file(path, None, Some(cause)),
            }
        }
        for keys::Gone { key, cause } in keys::gone(before, then, &self.reader.keys.current(), now) {
            let fields = Fields { cause: Some(cause), who: key.into(), ..Fields::default() };
            self.tell(|| Line::new(unix_millis(), Event::KeyGone, fields));
        }
    }

    fn tell_of_file(&self, path: &Path, keys: Option<usize>, cause: Option<&'static str>) {
        let file = Some(path.display().to_string());
        self.tell(|| Line::new(unix_millis(), Event::KeysRead, Fields { cause, file, keys, ..Fields::default() }));
    }

    fn note_in_flight(&self, py: Python<'_>, now: Now) -> PyResult<()> {
        let Some(watch) = self.watch.get() else { return Ok(()) };
        let in_flight: Vec<_> = watch.bind(py).call_method0(intern!(py, "in_flight"))?.extract()?;
        let keys = self.reader.keys.current();
        let policy = self.policy(&keys);
        // Keys that have expired since then were in force when these requests were admitted. `then` is the last look,
        // which may be long ago if a handler held up the event loop, or the clock was set.
        let then = self.looked.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(now);
        self.reader.connections.note(py, &in_flight, |request| {
            let is_ours = watch.bind(py).call_method1(intern!(py, "is_ours"), (request,));
            if !is_ours.and_then(|is_ours| is_ours.extract()).unwrap_or(true) {
                return None;
            }
            let facts = self.facts(request).ok()?;
            if asks_for_a_socket(&facts) {
                return None; // ours was noted when it was opened
            }
            match decide(&policy, &facts, Question::Again, then) {
                Decision::Granted(grant) => Some(self.admission(&grant, &facts)),
                _ => None,
            }
        })
    }

    fn policy<'a>(&'a self, keys: &'a Keys) -> Policy<'a> {
        let Self { state, exemptions, own_origins, table: scopes, .. } = self;
        Policy { keys, state, exemptions, scopes, own_origins, trace: None }
    }

    fn facts<'a, 'py>(&'a self, request: &'a Bound<'py, PyAny>) -> PyResult<Request<'a, 'py>> {
        Request::new(request, &self.reader)
    }
}

fn arguments<'py>(
    args: &Bound<'py, PyTuple>,
    named: Option<&Bound<'py, PyDict>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let handler = match (args.len(), named) {
        (1, Some(named)) if named.len() == 1 => named.get_item(intern!(args.py(), "handler"))?,
        (2, None) => Some(args.get_item(1)?),
        _ => None,
    };
    let handler = handler.ok_or_else(|| PyTypeError::new_err("a middleware takes a request and a handler"))?;
    Ok((args.get_item(0)?, handler))
}

/// Whether it is noted as a WebSocket. Only reads are, so that nothing else avoids the checks for prompts.
fn asks_for_a_socket(facts: &Request<'_, '_>) -> bool {
    facts.has(Field::Upgrade) && is_a_read(facts)
}

fn is_a_read(facts: &Request<'_, '_>) -> bool {
    matches!(&*facts.method(), "GET" | "HEAD" | "OPTIONS")
}
