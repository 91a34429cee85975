//! What becomes of ComfyUI's prompts, as `comfy_auth_rs.comfyui.prompts` reports it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::clock::{Clock, unix_millis};
use super::request::Request;
use super::state::Waker;
use crate::allowance::{self, Allowance};
use crate::audit::of_request::traceparent;
use crate::audit::{Audit, Event, Fields, Line, Seconds, Who};
use crate::decision::Grant;
use crate::keys::KeyId;
use crate::metrics::{Metrics, PromptStatus};
use crate::prompt::Place;
use crate::request::Request as _;
use crate::state::limits::{Ticket, Turn};
use crate::state::prompts::{self, Prompt, Prompts};

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct Asker {
    who: Arc<prompts::Asker>,
    ticket: Option<Mutex<Ticket>>,
    clock: Arc<Clock>,
    waker: Arc<Waker>,
    #[pyo3(get)]
    by_a_new_id: bool,
    #[pyo3(get)]
    in_turn: bool,
}

impl Asker {
    pub fn new(
        grant: &Grant<'_>,
        request: &Request<'_, '_>,
        place: Place,
        clock: &Arc<Clock>,
        waker: &Arc<Waker>,
    ) -> Self {
        let who = prompts::Asker {
            key: grant.key.id(),
            who: grant.key.into(),
            client: request.client(),
            traceparent: traceparent(request),
        };
        let Place { ticket, by_a_new_id, in_turn } = place;
        let (who, ticket) = (Arc::new(who), ticket.map(Mutex::new));
        Self { who, ticket, clock: Arc::clone(clock), waker: Arc::clone(waker), by_a_new_id, in_turn }
    }

    pub fn key(&self) -> KeyId {
        self.who.key
    }

    fn turn(&self) -> Option<Turn> {
        let now = self.clock.latest_millis();
        self.with_ticket(|ticket| ticket.queued(now))?
    }

    fn with_ticket<T>(&self, act: impl FnOnce(&mut Ticket) -> T) -> Option<T> {
        let ticket = self.ticket.as_ref()?;
        Some(act(&mut ticket.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl Asker {
    #[getter]
    fn is_limited(&self) -> bool {
        self.ticket.is_some()
    }

    fn give_back(&self) {
        self.with_ticket(Ticket::give_back);
    }

    fn limits(&self) -> Vec<(&'static str, String)> {
        let now = self.clock.latest_millis();
        self.with_ticket(|ticket| ticket.allowance(now).fields()).unwrap_or_default()
    }
}

/// What is left of each limit, for `/auth_session`.
#[derive(IntoPyObject)]
pub struct Limits {
    prompts: Option<OfPrompts>,
    queued: Option<OfQueued>,
}

#[derive(IntoPyObject)]
struct OfPrompts {
    limit: u32,
    window: u64,
    left: u32,
    reset: Option<u32>,
}

#[derive(IntoPyObject)]
struct OfQueued {
    limit: u32,
    left: u32,
}

impl From<Allowance> for Limits {
    fn from(Allowance { prompts, queued }: Allowance) -> Self {
        Self {
            prompts: prompts.map(|allowance::Prompts { rate, left, reset }| OfPrompts {
                limit: rate.most,
                window: rate.window.seconds(),
                left,
                reset,
            }),
            queued: queued.map(|allowance::Queued { most, left }| OfQueued { limit: most, left }),
        }
    }
}

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct PromptLedger {
    prompts: Arc<Prompts>,
    audit: Option<Arc<Audit>>,
    metrics: Arc<Metrics>,
    began: Instant,
}

#[pymethods]
impl PromptLedger {
    fn queued(&self, py: Python<'_>, prompt_id: &str, asker: Option<&Asker>) {
        let waker = asker.map(|asker| Arc::clone(&asker.waker));
        let (turn, asker) = (asker.and_then(Asker::turn), asker.map(|asker| Arc::clone(&asker.who)));
        self.tell(Event::PromptQueued, prompt_id, asker.as_deref(), |fields| {
            fields.client = asker.as_ref().and_then(|asker| asker.client);
        });
        self.metrics.prompt_queued(label(asker.as_deref()));
        self.prompts.queued(prompt_id, asker, turn);
        waker.inspect(|waker| waker.wake(py));
    }

    fn started(&self, prompt_id: &str) {
        let asker = self.prompts.started(prompt_id, self.began.elapsed());
        self.tell(Event::PromptStarted, prompt_id, asker.as_deref(), |_| ());
    }

    fn interrupted(&self, asker: &Asker) {
        self.prompts.interrupted(asker.who.key);
    }

    fn finished(&self, prompt_id: &str, status: &str, outputs: u64) {
        let Some(prompt) = self.prompts.finished(prompt_id) else { return };
        let status = PromptStatus::parse(status).unwrap_or(PromptStatus::Error);
        let seconds = self.seconds(&prompt).unwrap_or_default();
        self.metrics.prompt_ended(label(prompt.asker.as_deref()), status, seconds);
        self.tell(Event::PromptFinished, prompt_id, prompt.asker.as_deref(), |fields| {
            fields.by =
                prompt.interrupted_by.filter(|_| status == PromptStatus::Interrupted).map(|key| key.to_string());
            (fields.seconds, fields.status, fields.outputs) =
                (Some(Seconds(seconds)), Some(status.name()), Some(outputs));
        });
    }

    #[pyo3(signature = (prompt_id, asker))]
    fn cancelled(&self, prompt_id: &str, asker: Option<&Asker>) {
        let Some(prompt) = self.prompts.cancelled(prompt_id) else { return };
        self.metrics.prompt_ended(label(prompt.asker.as_deref()), PromptStatus::Cancelled, Duration::ZERO);
        self.tell(Event::PromptCancelled, prompt_id, prompt.asker.as_deref(), |fields| {
            fields.by = asker.map(|asker| asker.who.key.to_string());
        });
    }
}

impl PromptLedger {
    pub fn new(prompts: Arc<Prompts>, audit: Option<Arc<Audit>>, metrics: Arc<Metrics>) -> Self {
        Self { prompts, audit, metrics, began: Instant::now() }
    }

    /// Logs the prompts that are unfinished when the server ends.
    pub fn end(&self) {
        for (id, prompt) in self.prompts.drain() {
            let seconds = self.seconds(&prompt);
            self.tell(Event::PromptUnfinished, &id, prompt.asker.as_deref(), |fields| {
                fields.seconds = seconds.map(Seconds);
            });
        }
    }

    /// The labels of running prompts, and how long each has run.
    pub fn running(&self) -> Vec<(Option<String>, Duration)> {
        let running = self.prompts.running(self.began.elapsed());
        running.into_iter().map(|(asker, time)| (label(asker.as_deref()).map(str::to_owned), time)).collect()
    }

    fn seconds(&self, prompt: &Prompt) -> Option<Duration> {
        prompt.seconds(self.began.elapsed())
    }

    fn tell(&self, event: Event, id: &str, asker: Option<&prompts::Asker>, add: impl FnOnce(&mut Fields)) {
        let Some(audit) = &self.audit else { return };
        let mut fields = Fields {
            who: asker.map_or_else(Who::default, |asker| asker.who.clone()),
            prompt_id: Some(id.to_owned()),
            traceparent: asker.and_then(|asker| asker.traceparent.clone()),
            ..Fields::default()
        };
        add(&mut fields);
        audit.tell(Line::new(unix_millis(), event, fields));
    }
}

fn label(asker: Option<&prompts::Asker>) -> Option<&str> {
    asker?.who.label.as_deref()
}
