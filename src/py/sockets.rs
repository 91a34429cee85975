//! Which `clientId`s belong to live WebSockets that were opened with a credential.
//!
//! ComfyUI gives a socket that asks for a `clientId` everything that was meant for the socket that had it before. An
//! anonymous socket must not get at somebody's pictures this way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt as _;

/// From this many entries on, the closed ones are swept out before one is added.
const SWEEP: usize = 256;

/// Client ids and the transports of the sockets that own them.
///
/// Asking a transport whether it is open may let another thread run: whoever waits for the lock gives up the interpreter.
#[derive(Default)]
pub struct LiveSockets(Mutex<Owners>);

#[derive(Default)]
struct Owners {
    transports: HashMap<String, Py<PyAny>>,
    sweep_at: usize,
}

impl LiveSockets {
    /// Notes the `clientId` that a request with a credential opens a socket for, if it names one.
    pub fn opened(&self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = request.py();
        let Some(id) = client_id(request)? else { return Ok(()) };
        let transport = request.getattr(intern!(py, "transport"))?;
        let mut owners = self.lock(py);
        if owners.transports.len() >= owners.sweep_at.max(SWEEP) {
            owners.transports.retain(|_, transport| is_open(transport.bind(py)));
            owners.sweep_at = owners.transports.len() * 2;
        }
        owners.transports.insert(id, transport.unbind());
        Ok(())
    }

    /// Whether a request asks for a `clientId` that a live socket owns.
    pub fn owned(&self, request: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = request.py();
        let Some(id) = client_id(request)? else { return Ok(false) };
        let owner = self.lock(py).transports.get(&id).map(|transport| transport.clone_ref(py));
        Ok(owner.is_some_and(|transport| is_open(transport.bind(py))))
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Owners> {
        self.0.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `clientId` as ComfyUI reads it: the first in the query.
fn client_id(request: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = request.py();
    let query = request.getattr(intern!(py, "query"))?;
    let id: Option<String> = query.call_method1(intern!(py, "get"), (intern!(py, "clientId"),))?.extract()?;
    Ok(id.filter(|id| !id.is_empty()))
}

/// In doubt it is open.
fn is_open(transport: &Bound<'_, PyAny>) -> bool {
    if transport.is_none() {
        return false;
    }
    let closing = transport.call_method0(intern!(transport.py(), "is_closing"));
    !closing.and_then(|closing| closing.extract()).unwrap_or(false)
}
