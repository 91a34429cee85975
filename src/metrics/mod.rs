//! What is counted, and the text that Prometheus reads.
//!
//! Counters that a request changes are looked up once, when they are made: an admitted request costs one addition.
//! Everything else is looked up when Prometheus asks.
//!
//! A request is counted once, by the answer that it gets. If its route asks its own question (a log-in, a log-out, a
//! proxy's `/auth_verify`), the answer to that question counts.

mod accept;
mod figures;
mod labels;
mod seconds;

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use self::accept::Format;
pub use self::figures::{Figures, Queue, Sockets};
pub use self::labels::{LONGEST, MOST, OTHER};

use self::labels::Labels;
use self::seconds::RunTimes;
use crate::decision::{Decision, Denial};
use crate::request::Question;

/// What every name begins with.
const PREFIX: &str = "comfy_auth";

/// Causes that are reported even before the first such refusal, so that the first one shows as a change.
const CAUSES: [&str; 14] = [
    "missing_credential",
    "invalid_credential",
    "client_id_taken",
    "control_character",
    "cross_origin",
    "address",
    "profile",
    "insufficient_scope",
    "sockets",
    "long_header",
    "locked",
    "quota",
    "prompt_id_taken",
    "store",
];

/// How a prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the end of its name")]
pub enum PromptStatus {
    Success,
    Error,
    Interrupted,
    Cancelled,
}

impl PromptStatus {
    /// All of them.
    pub const EACH: [Self; 4] = [Self::Success, Self::Error, Self::Interrupted, Self::Cancelled];

    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
        }
    }

    /// The one that a word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|status| status.name() == word)
    }
}

impl EncodeLabelValue for PromptStatus {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.name().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfADecision {
    outcome: &'static str,
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAPrompt {
    key_label: String,
    status: PromptStatus,
}

/// The counters of one middleware.
pub struct Metrics {
    registry: Registry,
    decisions: Family<OfADecision, Counter>,
    admitted: Counter,
    exempt: Counter,
    preflight: Counter,
    sessions_begun: Counter,
    sessions_ended: Counter,
    labels: Labels,
    prompts: Family<OfAPrompt, Counter>,
    run_times: RunTimes,
}

impl Default for Metrics {
    fn default() -> Self {
        let decisions = Family::<OfADecision, Counter>::default();
        let of = |outcome, cause| decisions.get_or_create_owned(&OfADecision { outcome, cause });
        let (admitted, exempt, preflight) = (of("admitted", ""), of("exempt", ""), of("preflight", ""));
        for cause in CAUSES {
            of("refused", cause);
        }
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            decisions,
            admitted,
            exempt,
            preflight,
            sessions_begun: Counter::default(),
            sessions_ended: Counter::default(),
            labels: Labels::default(),
            prompts: Family::default(),
            run_times: RunTimes::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The crate ends each text with a full stop.
    #[rustfmt::skip]
    fn register(&mut self) {
        let Self { registry, .. } = self;
        registry.register("decisions", "Requests by what became of them; of those that were refused, by cause", self.decisions.clone());
        registry.register("prompts", "Prompts that ended, by the label of the key that queued them and how they ended", self.prompts.clone());
        registry.register("sessions_begun", "Log-ins that set a session cookie", self.sessions_begun.clone());
        registry.register("sessions_ended", "Log-outs that ended a session", self.sessions_ended.clone());
        registry.register("build", "The version of comfy-auth-rs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    }

    /// Counts a request that a credential admitted.
    pub fn admitted(&self) {
        self.admitted.inc();
    }

    /// Counts a request that needs no credential.
    pub fn exempt(&self) {
        self.exempt.inc();
    }

    /// Counts a CORS preflight.
    pub fn preflight(&self) {
        self.preflight.inc();
    }

    /// Counts a request that is refused, unless the question is only asked in addition to another.
    #[cold]
    pub fn refused(&self, denial: Denial, question: Question<'_>) {
        if is_counted(question) {
            let labels = OfADecision { outcome: "refused", cause: denial.row(question).cause };
            self.decisions.get_or_create(&labels).inc();
        }
    }

    /// Counts a request that is not refused, by the answer to its route's own question.
    pub fn answered(&self, decision: &Decision<'_>, question: Question<'_>) {
        match decision {
            _ if !is_counted(question) => {}
            Decision::Granted(_) => self.admitted(),
            Decision::Exempt | Decision::ExemptSocket | Decision::Preflight => self.exempt(),
            Decision::Denied(_) | Decision::SentToLogin(_) => {} // counted as refused
        }
    }

    /// Counts a log-in that set a cookie.
    pub fn session_began(&self) {
        self.sessions_begun.inc();
    }

    /// Counts a log-out that ended a session.
    pub fn session_ended(&self) {
        self.sessions_ended.inc();
    }

    /// Starts the counters for a key's prompts at zero. `label` is that of a key in force; `None` means no key, or a
    /// key without a label.
    pub fn prompt_queued(&self, label: Option<&str>) {
        let key_label = self.labels.bounded(label);
        for status in PromptStatus::EACH {
            drop(self.prompts.get_or_create(&OfAPrompt { key_label: key_label.clone(), status }));
        }
        self.run_times.add(key_label, Duration::ZERO);
    }

    /// Counts a prompt that ended, and the time that it ran.
    pub fn prompt_ended(&self, label: Option<&str>, status: PromptStatus, time: Duration) {
        let key_label = self.labels.bounded(label);
        self.prompts.get_or_create(&OfAPrompt { key_label: key_label.clone(), status }).inc();
        self.run_times.add(key_label, time);
    }

    /// Everything, with the figures that were looked up for it. `running` gives the labels of the keys whose prompts
    /// are running, and for how long they have been.
    ///
    /// # Panics
    /// Never: writing to a `String` can't fail.
    #[must_use]
    pub fn page(
        &self,
        mut figures: Figures,
        running: impl FnOnce() -> Vec<(Option<String>, Duration)>,
        format: Format,
    ) -> String {
        let running =
            || running().into_iter().map(|(label, time)| (self.labels.bounded(label.as_deref()), time)).collect();
        figures.prompt_times = self.run_times.with(running);
        let mut looked_up = Registry::with_prefix(PREFIX);
        looked_up.register_collector(Box::new(figures));
        let mut page = String::with_capacity(16 * 1024);
        for registry in [&self.registry, &looked_up] {
            match format {
                Format::OpenMetrics => text::encode_registry(&mut page, registry),
                Format::Classic => prometheus_text::encode(&mut page, registry),
            }
            .expect("a String takes everything");
        }
        if format == Format::OpenMetrics {
            text::encode_eof(&mut page).expect("a String takes everything");
        }
        page
    }
}

/// Whether the answer to this question is the answer to the request.
const fn is_counted(question: Question<'_>) -> bool {
    matches!(question, Question::Access | Question::ForwardAuth(_) | Question::LogIn(_) | Question::LogOut)
}

#[cfg(test)]
#[path = "../../tests/units/metrics.rs"]
mod tests;
