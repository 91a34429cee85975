//! The only place that makes Python exceptions.

use std::fmt::Display;

use pyo3::exceptions::{PyImportError, PyValueError};
use pyo3::prelude::*;

use crate::error::ConfigError;

pyo3::create_exception!(
    comfy_auth_rs,
    KeyFileError,
    PyValueError,
    "Keys that cannot be used. One line: where, what, what to do; never the key."
);

/// The first fault of the keys, and how many more there are.
pub fn key_file_error(faults: &[ConfigError]) -> PyErr {
    KeyFileError::new_err(one_line(faults))
}

/// The first fault of another setting.
pub fn config_error(faults: &[ConfigError]) -> PyErr {
    PyValueError::new_err(one_line(faults))
}

/// A bad argument.
pub fn value_error(message: &impl Display) -> PyErr {
    PyValueError::new_err(message.to_string())
}

/// A place where this library cannot be used.
pub fn import_error(message: &'static str) -> PyErr {
    PyImportError::new_err(message)
}

fn one_line(faults: &[ConfigError]) -> String {
    match faults {
        [] => String::new(),
        [only] => only.to_string(),
        [first, more @ ..] => format!("{first} (and {} more)", more.len()),
    }
}
