//! What a key file says, and lines to write into it.

use pyo3::prelude::*;

use super::error::value_error;
use crate::date::rfc3339;
use crate::keys::{Attributes, KeyId, Record, parse_file, write_line};

#[pyclass(frozen, module = "comfy_auth_rs")]
pub struct KeyEntry(Record);

#[pymethods]
impl KeyEntry {
    #[getter]
    fn line(&self) -> usize {
        self.0.line
    }

    #[getter]
    fn id(&self) -> String {
        KeyId::of(&self.0.digest).to_string()
    }

    #[getter]
    fn label(&self) -> Option<&str> {
        self.0.label.as_deref()
    }

    #[getter]
    fn scope(&self) -> String {
        self.0.attributes.scopes.to_string()
    }

    #[getter]
    fn user(&self) -> Option<&str> {
        self.0.attributes.user.as_deref()
    }

    #[getter]
    fn expires(&self) -> Option<u64> {
        self.0.attributes.expires
    }

    #[getter]
    fn expires_at(&self) -> Option<String> {
        self.0.attributes.expires.map(rfc3339)
    }

    #[getter]
    fn addresses(&self) -> Vec<String> {
        self.0.attributes.addresses()
    }

    #[getter]
    fn prompts(&self) -> Option<String> {
        self.0.attributes.quota.prompts.map(|rate| rate.to_string())
    }

    #[getter]
    fn queued(&self) -> Option<u32> {
        self.0.attributes.quota.queued
    }

    #[getter]
    fn opens_everything(&self) -> bool {
        self.0.attributes == Attributes { user: self.0.attributes.user.clone(), ..Attributes::default() }
    }

    fn has_expired(&self, now: u64) -> bool {
        self.0.attributes.has_expired(now)
    }

    #[pyo3(signature = (key = None, *, expires = None))]
    fn write(&self, key: Option<&str>, expires: Option<u64>) -> PyResult<String> {
        self.0.write(key, expires).map_err(|faults| value_error(&faults.join("; ")))
    }

    fn __repr__(&self) -> String {
        format!("KeyEntry({})", self.id())
    }
}

/// The entries, or every fault.
#[pyfunction]
pub fn key_file_entries(place: &str, text: &[u8]) -> (Vec<KeyEntry>, Vec<String>) {
    match parse_file(place, text) {
        Ok(records) => (records.into_iter().map(KeyEntry).collect(), Vec::new()),
        Err(faults) => (Vec::new(), faults.iter().map(ToString::to_string).collect()),
    }
}

/// The line of a new key; `attributes` are names and values.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts lists by value")]
pub fn key_line(key: &str, label: Option<&str>, attributes: Vec<(String, String)>) -> PyResult<String> {
    let words: Vec<_> = attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let line = Attributes::parse(&words).and_then(|attributes| write_line(key, label, &attributes));
    line.map_err(|faults| value_error(&faults.join("; ")))
}
