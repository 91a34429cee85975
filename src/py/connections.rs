//! The requests in flight, and what each was admitted by.
//!
//! WebSockets are noted when they are opened, other requests only if they are still in flight at the next check.
//!
//! ComfyUI sends a socket that asks for a `clientId` everything that was meant for the previous socket with that id. To
//! keep users from getting each other's pictures this way, the table also records who owns which `clientId`.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt as _;
use pyo3::types::PyString;

use crate::decision::Admission;
use crate::metrics::Sockets;
use crate::state::sockets::Seat;

/// By the protocol object, which is the connection's own: it handles one request at a time.
///
/// Asking a transport whether it is open may let another thread run, so release the interpreter to wait for the lock.
#[derive(Default)]
pub struct Connections(Mutex<HashMap<usize, Connection>>);

struct Connection {
    request: Py<PyAny>,
    /// `None`: nothing, or it is being ended.
    admitted_by: Option<Admission>,
    socket: Option<Socket>,
}

struct Socket {
    /// The owner, a user or a key. `None`: it needs no credential, and keeps its seat while it is open.
    owner: Option<String>,
    client_id: Option<String>,
    _seat: Option<Seat>,
    /// Set once it is prepared.
    response: Option<Py<PyAny>>,
}

/// A request to end, and its `WebSocketResponse`, if it has one.
pub type Ending = (Py<PyAny>, Option<Py<PyAny>>);

impl Connections {
    /// Notes a WebSocket, and the `clientId` that it asks for. If it has a credential, returns the sockets without one
    /// that lose this `clientId` to it.
    pub fn opened(
        &self,
        request: &Bound<'_, PyAny>,
        admitted_by: Option<Admission>,
        owner: Option<String>,
        seat: Option<Seat>,
    ) -> PyResult<Vec<Ending>> {
        let py = request.py();
        let (protocol, client_id) = (protocol(request)?, client_id(request)?);
        let mut connections = self.lock(py);
        let mut displaced = Vec::new();
        if owner.is_some() && client_id.is_some() {
            for connection in connections.values() {
                if let Some(socket) = &connection.socket
                    && (socket.owner.as_ref(), &socket.client_id) == (None, &client_id)
                {
                    displaced.push(connection.ending(py));
                }
            }
        }
        let socket = Some(Socket { owner, client_id, _seat: seat, response: None });
        connections.insert(protocol, Connection { request: request.clone().unbind(), admitted_by, socket });
        Ok(displaced)
    }

    /// Notes the response by which a WebSocket can be closed. Returns whether it was opened with a credential; `None`
    /// if it was never asked for one.
    pub fn prepared(&self, request: &Bound<'_, PyAny>, response: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
        let protocol = protocol(request)?;
        let mut connections = self.lock(request.py());
        let Some(Connection { socket: Some(socket), .. }) = connections.get_mut(&protocol) else { return Ok(None) };
        socket.response = Some(response.clone().unbind());
        Ok(Some(socket.owner.is_some()))
    }

    /// Forgets a WebSocket whose handler has ended.
    pub fn closed(&self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = protocol(request)?;
        let mut connections = self.lock(request.py());
        if connections.get(&protocol).is_some_and(|known| known.request.is(request)) {
            connections.remove(&protocol);
        }
        Ok(())
    }

    /// Whether a request asks for a `clientId` of a live socket that does not belong to `by`.
    pub fn owned(&self, request: &Bound<'_, PyAny>, by: Option<&str>) -> PyResult<bool> {
        let py = request.py();
        let Some(id) = client_id(request)? else { return Ok(false) };
        let connections = self.lock(py);
        Ok(connections.values().any(|connection| {
            connection.socket.as_ref().is_some_and(|socket| {
                socket.client_id.as_ref() == Some(&id) && socket.owner.is_some() && socket.owner.as_deref() != by
            }) && is_open(connection.request.bind(py))
        }))
    }

    /// Notes the requests in flight, as `admitted_by` says, and forgets all others. Sockets stay until they are closed.
    pub fn note<'py>(
        &self,
        py: Python<'py>,
        in_flight: &[Bound<'py, PyAny>],
        admitted_by: impl Fn(&Bound<'py, PyAny>) -> Option<Admission>,
    ) -> PyResult<()> {
        let mut unknown = Vec::new();
        {
            let mut connections = self.lock(py);
            let mut seen = HashSet::with_capacity(in_flight.len());
            for request in in_flight {
                let protocol = protocol(request)?;
                let is_socket =
                    |known: &Connection| known.socket.as_ref().is_some_and(|socket| socket.response.is_some());
                let is_known = |known: &Connection| known.request.is(request) || is_socket(known);
                if connections.get(&protocol).is_some_and(is_known) {
                    seen.insert(protocol);
                } else if is_open(request) {
                    unknown.push((protocol, request));
                }
            }
            connections.retain(|protocol, connection| connection.socket.is_some() || seen.contains(protocol));
        }
        // Without the lock, because reading the request runs Python.
        let found: Vec<_> = unknown.iter().map(|(_, request)| admitted_by(request)).collect();
        let mut connections = self.lock(py);
        for ((protocol, request), admitted_by) in unknown.into_iter().zip(found) {
            let request = request.clone().unbind();
            connections.insert(protocol, Connection { request, admitted_by, socket: None });
        }
        Ok(())
    }

    /// Forgets a request. It is judged again at the next check.
    pub fn forget(&self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = protocol(request)?;
        self.lock(request.py()).remove(&protocol);
        Ok(())
    }

    /// From now on a request gets its answer, even if its key or session ends.
    pub fn spare(&self, request: &Bound<'_, PyAny>) -> PyResult<()> {
        let protocol = protocol(request)?;
        let spared = Connection { request: request.clone().unbind(), admitted_by: None, socket: None };
        self.lock(request.py()).insert(protocol, spared);
        Ok(())
    }

    /// Those whose admission is no longer valid, each returned once; and whether there are others to check later. Forgets
    /// closed sockets.
    pub fn ended(&self, py: Python<'_>, is_valid: impl Fn(&Admission) -> bool) -> (Vec<Ending>, bool) {
        let (mut ended, mut others) = (Vec::new(), false);
        let mut connections = self.lock(py);
        connections.retain(|_, connection| connection.socket.is_none() || is_open(connection.request.bind(py)));
        for connection in connections.values_mut() {
            let Some(admission) = &connection.admitted_by else { continue };
            if is_valid(admission) {
                others = true;
                continue;
            }
            connection.admitted_by = None;
            ended.push(connection.ending(py));
        }
        (ended, others)
    }

    /// How many WebSockets are open.
    pub fn sockets(&self, py: Python<'_>) -> Sockets {
        let connections = self.lock(py);
        let sockets = connections.values().filter_map(|connection| connection.socket.as_ref());
        let (with, without): (Vec<_>, Vec<_>) = sockets.partition(|socket| socket.owner.is_some());
        Sockets { with_credential: with.len(), without: without.len() }
    }

    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, HashMap<usize, Connection>> {
        self.0.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn ending(&self, py: Python<'_>) -> Ending {
        let response = self.socket.as_ref().and_then(|socket| socket.response.as_ref());
        (self.request.clone_ref(py), response.map(|response| response.clone_ref(py)))
    }
}

fn protocol(request: &Bound<'_, PyAny>) -> PyResult<usize> {
    let protocol = request.getattr(intern!(request.py(), "protocol"))?;
    Ok(protocol.as_ptr() as usize)
}

/// The `clientId` as ComfyUI reads it: the first in the query.
fn client_id(request: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = request.py();
    let query = request.getattr(intern!(py, "query"))?;
    let id = query.call_method1(intern!(py, "get"), (intern!(py, "clientId"),))?;
    let id = id.cast::<PyString>().map(|id| id.to_string_lossy().into_owned());
    Ok(id.ok().filter(|id| !id.is_empty()))
}

/// Whether a request's connection is open. If in doubt, it is.
fn is_open(request: &Bound<'_, PyAny>) -> bool {
    let py = request.py();
    let is_open = || {
        let transport = request.getattr(intern!(py, "transport"))?;
        if transport.is_none() {
            return Ok(false);
        }
        let is_closing: bool = transport.call_method0(intern!(py, "is_closing"))?.extract()?;
        PyResult::Ok(!is_closing)
    };
    is_open().unwrap_or(true)
}
