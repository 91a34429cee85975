//! What becomes of ComfyUI's prompts, as `comfy_auth_rs.comfyui.prompts` tells it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::clock::unix_millis;
use super::request::Request;
use crate::audit::of_request::traceparent;
use crate::audit::{Audit, Event, Fields, Line, Seconds, Who};
use crate::decision::Grant;
use crate::metrics::{Metrics, PromptStatus};
use crate::request::Request as _;
use crate::state::prompts::{self, Prompt, Prompts};

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct Asker(pub Arc<prompts::Asker>);

impl Asker {
    pub fn new(grant: &Grant<'_>, request: &Request<'_, '_>) -> Self {
        Self(Arc::new(prompts::Asker {
            key: grant.key.id(),
            who: grant.key.into(),
            client: request.client(),
            traceparent: traceparent(request),
        }))
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
    fn queued(&self, prompt_id: &str, asker: Option<&Asker>) {
        let asker = asker.map(|asker| Arc::clone(&asker.0));
        self.tell(Event::PromptQueued, prompt_id, asker.as_deref(), |fields| {
            fields.client = asker.as_ref().and_then(|asker| asker.client);
        });
        self.metrics.prompt_queued(label(asker.as_deref()));
        self.prompts.queued(prompt_id, asker);
    }

    fn started(&self, prompt_id: &str) {
        let asker = self.prompts.started(prompt_id, self.began.elapsed());
        self.tell(Event::PromptStarted, prompt_id, asker.as_deref(), |_| ());
    }

    fn interrupted(&self, asker: &Asker) {
        self.prompts.interrupted(asker.0.key);
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
            fields.by = asker.map(|asker| asker.0.key.to_string());
        });
    }
}

impl PromptLedger {
    pub fn new(prompts: Arc<Prompts>, audit: Option<Arc<Audit>>, metrics: Arc<Metrics>) -> Self {
        Self { prompts, audit, metrics, began: Instant::now() }
    }

    /// What the end of the server leaves behind.
    pub fn end(&self) {
        for (id, prompt) in self.prompts.drain() {
            let seconds = self.seconds(&prompt);
            self.tell(Event::PromptUnfinished, &id, prompt.asker.as_deref(), |fields| {
                fields.seconds = seconds.map(Seconds);
            });
        }
    }

    /// The labels of those that run, and how long they have.
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
