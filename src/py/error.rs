//! The only place that makes Python exceptions.

use std::fmt::Display;

use pyo3::exceptions::{PyImportError, PyValueError};
use pyo3::prelude::*;

use crate::error::ConfigError;
use crate::keys::Warning;

/// The first fault of the keys, and how many more there are.
pub fn key_file_error(faults: &[ConfigError]) -> PyErr {
    raise("KeyFileError", faults)
}

/// The first fault of another setting.
pub fn config_error(faults: &[ConfigError]) -> PyErr {
    raise("SettingError", faults)
}

/// A `KeyWarning`.
pub fn warning<'py>(py: Python<'py>, warning: &Warning) -> PyResult<Bound<'py, PyAny>> {
    let ConfigError { setting, place, detail } = &warning.fault;
    class(py, "KeyWarning")?.call1((detail, setting, place, warning.kind))
}

/// A bad argument.
pub fn value_error(message: &impl Display) -> PyErr {
    PyValueError::new_err(message.to_string())
}

/// A place where this library cannot be used.
pub fn import_error(message: &'static str) -> PyErr {
    PyImportError::new_err(message)
}

fn raise(name: &str, faults: &[ConfigError]) -> PyErr {
    let [ConfigError { setting, place, detail }, more @ ..] = faults else { return value_error(&"no fault") };
    let detail = if more.is_empty() { detail.clone() } else { format!("{detail} (and {} more)", more.len()) };
    Python::attach(|py| {
        class(py, name).and_then(|class| class.call1((detail, setting, place))).map_or_else(|e| e, PyErr::from_value)
    })
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("comfy_auth_rs.errors")?.getattr(name)
}
