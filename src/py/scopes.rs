//! Who says what a request needs.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use super::error::config_error;
use crate::keys;
use crate::scope::{self, Table};

pub enum Scopes {
    /// ComfyUI's table, and `comfy_auth_rs.comfyui.route_facts` for what is behind a route.
    ComfyUi(Py<PyAny>),
    /// The patterns of an application's author.
    Patterns,
    /// A function of theirs.
    Function(Py<PyAny>),
}

impl Scopes {
    /// Of what `setup()` makes of its argument, or of ComfyUI's `RouteFacts`.
    pub fn read(given: &Bound<'_, PyAny>) -> PyResult<(Table, Self)> {
        let py = given.py();
        let object = || given.clone().unbind();
        if given.is_callable() {
            Ok((Table::Function, Self::Function(object())))
        } else if given.hasattr(intern!(py, "is_of_node"))? {
            Ok((Table::ComfyUi, Self::ComfyUi(object())))
        } else {
            let patterns: Vec<(String, Vec<String>)> = given.extract()?;
            Ok((Table::of_patterns(&patterns).map_err(|faults| config_error(&faults))?, Self::Patterns))
        }
    }

    /// Whether it is ComfyUI that is protected.
    pub fn in_comfyui(&self) -> bool {
        matches!(self, Self::ComfyUi(_))
    }

    pub fn is_of_node(&self, request: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Self::ComfyUi(facts) = self else { return Ok(false) };
        let py = request.py();
        facts.bind(py).call_method1(intern!(py, "is_of_node"), (request,))?.extract()
    }

    pub fn user_files(&self, request: &Bound<'_, PyAny>) -> PyResult<Option<Vec<String>>> {
        let Self::ComfyUi(facts) = self else { return Ok(None) };
        let py = request.py();
        facts.bind(py).call_method1(intern!(py, "user_files"), (request,))?.extract()
    }

    pub fn needed(&self, request: &Bound<'_, PyAny>) -> PyResult<keys::Scopes> {
        let Self::Function(function) = self else { return Ok(keys::Scopes::ALL) };
        let words: Vec<String> = function.bind(request.py()).call1((request,))?.extract()?;
        scope::needed(&words).map_err(|fault| config_error(&[fault]))
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::ComfyUi(object) | Self::Function(object) => visit.call(object),
            Self::Patterns => Ok(()),
        }
    }
}
