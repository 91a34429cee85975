//! Who was admitted, as Python sees it.

use std::fmt::Write as _;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::date::rfc3339;
use crate::decision::Grant;

#[pyclass(frozen, eq, hash, module = "comfy_auth_rs")]
#[derive(PartialEq, Eq, Hash)]
pub struct Identity {
    #[pyo3(get)]
    label: Option<String>,
    #[pyo3(get)]
    key_id: String,
    #[pyo3(get)]
    source: &'static str,
    #[pyo3(get)]
    user: Option<String>,
    scopes: Vec<&'static str>,
    #[pyo3(get)]
    expires: Option<u64>,
    #[pyo3(get)]
    subject: String,
}

impl Identity {
    pub fn new(grant: &Grant<'_>) -> Self {
        Self {
            label: grant.key.label().map(str::to_owned),
            key_id: grant.key.id().to_string(),
            source: grant.source.name(),
            user: grant.key.attributes().user.clone(),
            scopes: grant.key.attributes().scopes.names().collect(),
            expires: grant.key.attributes().expires,
            subject: grant.key.subject(),
        }
    }
}

#[pymethods]
impl Identity {
    #[getter]
    fn expires_at(&self) -> Option<String> {
        self.expires.map(rfc3339)
    }

    #[getter]
    fn scopes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.scopes)
    }

    fn __repr__(&self) -> String {
        let mut text = String::from("Identity(");
        if let Some(label) = &self.label {
            let _ = write!(text, "label={label:?}, ");
        }
        if let Some(user) = &self.user {
            let _ = write!(text, "user={user:?}, ");
        }
        let scopes = self.scopes.join(",");
        let _ = write!(text, "key_id={:?}, source={:?}, scopes={scopes})", self.key_id, self.source);
        text
    }
}
