//! A refusal, as Python sees it.

use std::borrow::Cow;
use std::net::IpAddr;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::request::Request;
use crate::decision::{self, Level, Row};
use crate::request::{Question, Request as _};

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct Denial {
    reason: decision::Denial,
    row: Row,
    #[pyo3(get)]
    message: Cow<'static, str>,
    #[pyo3(get)]
    is_of_a_prompt: bool,
    /// Every `WWW-Authenticate`.
    #[pyo3(get)]
    challenges: Py<PyTuple>,
    client: Option<IpAddr>,
    #[pyo3(get)]
    leads_to_login: bool,
}

impl Denial {
    #[cold]
    pub fn new(
        denial: decision::Denial,
        request: &Request<'_, '_>,
        question: Question<'_>,
        leads_to_login: bool,
    ) -> PyResult<Self> {
        if denial == decision::Denial::CrossOrigin && !question.is_quiet() {
            request.tell_of_foreign_page();
        }
        let row = denial.row(question);
        let challenges: Vec<_> = denial.challenges(&row, request, question).collect();
        let challenges = PyTuple::new(request.py(), challenges)?.unbind();
        let label = if let decision::Denial::Scope { key, .. } = denial { request.label_of(key) } else { None };
        let message = denial.message(&row, label.as_deref());
        let is_of_a_prompt = question == Question::Access && request.is_a_prompt();
        Ok(Self { reason: denial, row, message, is_of_a_prompt, challenges, client: request.client(), leads_to_login })
    }
}

#[pymethods]
impl Denial {
    #[getter]
    fn status(&self) -> u16 {
        self.row.status
    }

    #[getter]
    fn error(&self) -> &'static str {
        self.row.error
    }

    #[getter]
    fn cause(&self) -> &'static str {
        self.row.cause
    }

    #[getter]
    fn login_error(&self) -> Option<&'static str> {
        self.row.login_error
    }

    #[getter]
    fn level(&self) -> u8 {
        match self.row.level {
            Level::Debug => 10,
            Level::Warning => 30,
        }
    }

    #[getter]
    fn retry_after(&self) -> Option<u64> {
        match self.reason {
            decision::Denial::Locked { retry_after } => Some(retry_after),
            decision::Denial::Quota { left, .. } => left.reached().map(|reached| reached.retry_after.into()),
            _ => None,
        }
    }

    #[getter]
    fn limits(&self) -> Vec<(&'static str, String)> {
        match self.reason {
            decision::Denial::Quota { left, .. } => left.fields(),
            _ => Vec::new(),
        }
    }

    #[getter]
    fn client(&self) -> Option<String> {
        self.client.map(|address| address.to_string())
    }

    fn __repr__(&self) -> String {
        format!("Denial({:?})", self.reason)
    }
}
