//! Everything we use of aiohttp's private API, each name beside its public fallback.
//!
//! The private attributes are slots of C objects or instances. The public ones are Python functions, each of which costs
//! more than all other checks of an admitted request together.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

/// The header fields of a request or a response.
pub fn headers<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = message.py();
    message.getattr(intern!(py, "_headers")).or_else(|_| message.getattr(intern!(py, "headers")))
}

/// The method of a request as sent.
pub fn method<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    request.getattr(intern!(py, "_method")).or_else(|_| request.getattr(intern!(py, "method")))
}

/// The target in the request line as sent.
pub fn target<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    let message = request.getattr(intern!(py, "_message"));
    let target = message.and_then(|message| message.getattr(intern!(py, "path")));
    target.or_else(|_| request.getattr(intern!(py, "raw_path")))
}

/// The route that the router found for a request.
pub fn route<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    let read = |match_info, route| request.getattr(match_info)?.getattr(route);
    read(intern!(py, "_match_info"), intern!(py, "_route"))
        .or_else(|_: PyErr| read(intern!(py, "match_info"), intern!(py, "route")))
}

/// The handler of a route.
pub fn handler<'py>(route: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = route.py();
    route.getattr(intern!(py, "_handler")).or_else(|_| route.getattr(intern!(py, "handler")))
}

/// The resource of that route; `None` where it found none.
pub fn resource<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, route) = (request.py(), route(request)?);
    route.getattr(intern!(py, "_resource")).or_else(|_| route.getattr(intern!(py, "resource")))
}

/// Whether one of our own resources resolved a request, which its class shows (`aiohttp_internals.mark_requests`). This
/// runs for every request, and looking up the route would cost more.
pub fn is_marked(request: &Bound<'_, PyAny>) -> bool {
    static MARKED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let marked = MARKED.import(request.py(), "comfy_auth_rs.aiohttp_internals", "MarkedRequest");
    marked.is_ok_and(|marked| request.get_type_ptr() == marked.as_type_ptr())
}

/// The address at the other end of the connection; `None` where it has none (a Unix socket).
pub fn peer_address<'py>(request: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = request.py();
    let public = || {
        let transport = request.getattr(intern!(py, "transport"))?;
        transport.call_method1(intern!(py, "get_extra_info"), (intern!(py, "peername"),))
    };
    let name = request.getattr(intern!(py, "_transport_peername")).or_else(|_| public()).ok()?;
    name.cast::<PyTuple>().ok()?.get_item(0).ok()
}

/// What a request holds under a name, if anything.
pub fn state<'py>(request: &Bound<'py, PyAny>, name: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    let state = request.getattr(intern!(py, "_state")).unwrap_or_else(|_| request.clone());
    state.call_method1(intern!(py, "get"), (name,))
}
