//! Where the scopes that a request needs come from.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::aiohttp;
use super::error::config_error;
use crate::exempt::without_api;
use crate::keys;
use crate::request::Handler;
use crate::scope::{self, Table};

pub enum Scopes {
    /// ComfyUI's table, and `comfy_auth_rs.comfyui.route_facts` for whose code answers a route.
    ComfyUi(Py<PyAny>),
    /// The patterns of an application's author.
    Patterns,
    /// The author's function.
    Function(Py<PyAny>),
}

impl Scopes {
    /// Reads what `setup()` makes of its argument, or ComfyUI's `RouteFacts`.
    pub fn read(given: &Bound<'_, PyAny>) -> PyResult<(Table, Self)> {
        let py = given.py();
        let object = || given.clone().unbind();
        if given.is_callable() {
            Ok((Table::Function, Self::Function(object())))
        } else if given.hasattr(intern!(py, "origin_of"))? {
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

    pub fn handler(&self, request: &Bound<'_, PyAny>) -> PyResult<Handler> {
        let Self::ComfyUi(facts) = self else { return Ok(Handler::Unknown) };
        let py = request.py();
        let origin = facts.bind(py).call_method1(intern!(py, "origin_of"), (request,))?;
        Ok(match &*origin.getattr(intern!(py, "value"))?.extract::<String>()? {
            "comfyui" => Handler::ComfyUi,
            "node" => Handler::Node,
            _ => Handler::Unknown,
        })
    }

    pub fn user_files(&self, request: &Bound<'_, PyAny>, key: &keys::Entry) -> PyResult<Option<Vec<String>>> {
        let Self::ComfyUi(facts) = self else { return Ok(None) };
        let py = request.py();
        let keys::Attributes { user, scopes, .. } = key.attributes();
        let scopes = PyTuple::new(py, scopes.names().collect::<Vec<_>>())?;
        facts.bind(py).call_method1(intern!(py, "user_files"), (request, user, scopes))?.extract()
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

/// What is known about routes: for each its handler, which nodes may replace, and what it needs.
pub struct Known(Py<PyDict>);

#[pyclass(frozen)]
struct Found {
    handler: Py<PyAny>,
    needed: keys::Scopes,
}

#[pymethods]
impl Found {
    /// A handler may be bound to an object that holds the application.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handler)
    }
}

impl Known {
    pub fn new(py: Python<'_>) -> Self {
        Self(PyDict::new(py).unbind())
    }

    pub fn get(&self, request: &Bound<'_, PyAny>) -> PyResult<Option<keys::Scopes>> {
        let route = aiohttp::route(request)?;
        let Some(found) = self.0.bind(request.py()).get_item(&route)? else { return Ok(None) };
        let found = found.cast_into::<Found>()?;
        let is_the_same = found.get().handler.is(&aiohttp::handler(&route)?);
        Ok(is_the_same.then_some(found.get().needed))
    }

    /// Routes for every method are not remembered.
    pub fn set(&self, request: &Bound<'_, PyAny>, needed: keys::Scopes) -> PyResult<()> {
        let (py, route) = (request.py(), aiohttp::route(request)?);
        if route.getattr(intern!(py, "method"))?.eq("*")? {
            return Ok(());
        }
        let found = Found { handler: aiohttp::handler(&route)?.unbind(), needed };
        self.0.bind(py).set_item(route, Py::new(py, found)?)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

#[pyfunction]
#[pyo3(signature = (path, method, *, is_folder = false))]
pub fn scope_of(path: &str, method: &str, is_folder: bool) -> Option<&'static str> {
    let plain = without_api(path);
    let found = match is_folder {
        _ if scope::is_of_the_manager(path) => Some(keys::Scope::All),
        true => scope::of_comfyuis_files(plain, method),
        false => scope::of_comfyui(plain, method),
    };
    found.map(keys::Scope::name)
}
