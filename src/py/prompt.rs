//! A place in ComfyUI's queue, as Python sees it, and what is left of a key's limits.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

use super::clock::Clock;
use crate::allowance::{self, Allowance};
use crate::prompt::Place;
use crate::state::limits::Ticket;

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct PromptPlace {
    ticket: Option<Mutex<Ticket>>,
    clock: Arc<Clock>,
    #[pyo3(get)]
    by_a_new_id: bool,
    #[pyo3(get)]
    in_turn: bool,
}

impl PromptPlace {
    pub fn new(place: Place, clock: &Arc<Clock>) -> Self {
        let Place { ticket, by_a_new_id, in_turn } = place;
        Self { ticket: ticket.map(Mutex::new), clock: Arc::clone(clock), by_a_new_id, in_turn }
    }

    fn with_ticket<T>(&self, act: impl FnOnce(&mut Ticket) -> T) -> Option<T> {
        let ticket = self.ticket.as_ref()?;
        Some(act(&mut ticket.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl PromptPlace {
    fn queued(&self) {
        let now = self.clock.latest_millis();
        self.with_ticket(|ticket| ticket.queued(now));
    }

    fn end(&self) {
        self.with_ticket(Ticket::end);
    }

    fn limits(&self) -> Vec<(&'static str, String)> {
        let now = self.clock.latest_millis();
        self.with_ticket(|ticket| ticket.allowance(now).fields()).unwrap_or_default()
    }
}

/// What is left of each limit, for `/auth_session`.
#[derive(IntoPyObject)]
pub struct Told {
    prompts: Option<Prompts>,
    queued: Option<Queued>,
}

#[derive(IntoPyObject)]
struct Prompts {
    limit: u32,
    window: u64,
    left: u32,
    reset: Option<u32>,
}

#[derive(IntoPyObject)]
struct Queued {
    limit: u32,
    left: u32,
}

impl From<Allowance> for Told {
    fn from(Allowance { prompts, queued }: Allowance) -> Self {
        Self {
            prompts: prompts.map(|allowance::Prompts { rate, left, reset }| Prompts {
                limit: rate.most,
                window: rate.window.seconds(),
                left,
                reset,
            }),
            queued: queued.map(|allowance::Queued { most, left }| Queued { limit: most, left }),
        }
    }
}
