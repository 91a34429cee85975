//! Who was admitted, as Python sees it.

use std::fmt::Write as _;

use pyo3::prelude::*;

use crate::decision::Grant;

#[pyclass(frozen, get_all, eq, hash, module = "comfy_auth_rs")]
#[derive(PartialEq, Eq, Hash)]
pub struct Identity {
    label: Option<String>,
    key_id: String,
    source: &'static str,
}

impl Identity {
    pub fn new(grant: &Grant<'_>) -> Self {
        Self {
            label: grant.key.label().map(str::to_owned),
            key_id: grant.key.id().to_string(),
            source: grant.source.name(),
        }
    }
}

#[pymethods]
impl Identity {
    fn __repr__(&self) -> String {
        let mut text = String::from("Identity(");
        if let Some(label) = &self.label {
            let _ = write!(text, "label={label:?}, ");
        }
        let _ = write!(text, "key_id={:?}, source={:?})", self.key_id, self.source);
        text
    }
}
