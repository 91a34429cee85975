//! `SharedState`: what a server shares with others that have the same keys.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyKeyError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::MutexExt as _;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::clock::{Clock, unix_time};
use super::error::key_file_error;
use super::key_store::KeyStore;
use crate::keys;
use crate::state::State;
use crate::state::changes::Changes;
use crate::state::fact::{Fact, Record};
use crate::state::throttle::Budget;

/// The most records that are made or read before other threads may run.
const MOST: usize = 1000;

/// Name, value and end of a record.
type Row<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyAny>);

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct SharedState {
    pub state: Arc<State>,
    pub clock: Arc<Clock>,
    pub waker: Arc<Waker>,
    keys: Arc<keys::KeyStore>,
}

/// Calls back when there is something to tell the others.
pub struct Waker {
    changes: Arc<Changes>,
    callback: Mutex<Option<Py<PyAny>>>,
}

impl Waker {
    /// Calls back if anything began since the last time. No lock may be held: Python runs.
    pub fn wake(&self, py: Python<'_>) {
        if self.changes.has_news() {
            self.call(py);
        }
    }

    #[cold]
    pub fn call(&self, py: Python<'_>) {
        let callback = {
            let callback = self.callback.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
            callback.as_ref().map(|callback| callback.clone_ref(py))
        };
        if let Some(Err(error)) = callback.map(|callback| callback.call0(py)) {
            error.write_unraisable(py, None);
        }
    }
}

#[pymethods]
impl SharedState {
    #[new]
    pub fn new(keys: &KeyStore) -> Self {
        let state = Arc::<State>::default();
        let waker = Arc::new(Waker { changes: Arc::clone(&state.changes), callback: Mutex::default() });
        Self { state, clock: Arc::new(Clock::start()), waker, keys: Arc::clone(&keys.0) }
    }

    #[getter]
    fn version(&self) -> u64 {
        self.state.changes.version()
    }

    #[getter]
    fn keys_loaded(&self) -> u64 {
        self.keys.loaded()
    }

    #[getter]
    fn nodes(&self) -> usize {
        self.state.nodes.count(self.clock.fresh())
    }

    fn changes<'py>(&self, py: Python<'py>, since: u64) -> PyResult<Option<(u64, Bound<'py, PyList>)>> {
        let changes = py.detach(|| self.state.changes_since(since, &self.keys));
        changes.map(|(version, records)| Ok((version, rows(py, &records)?))).transpose()
    }

    fn all<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyList>)> {
        let (version, records) = py.detach(|| self.state.all(&self.keys, self.clock.fresh()));
        Ok((version, rows(py, &records)?))
    }

    fn merge(&self, py: Python<'_>, records: &Bound<'_, PyList>) -> PyResult<usize> {
        let mut news = 0;
        for start in (0..records.len()).step_by(MOST) {
            let some: Vec<Row<'_>> = records.get_slice(start, start + MOST).extract()?;
            let some: Vec<_> = some.iter().map(read).collect();
            news += py.detach(|| self.state.merge(&self.keys, &some, self.clock.fresh()));
        }
        Ok(news)
    }

    fn heartbeat<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let record = py.detach(|| self.state.heartbeat(&self.keys, self.clock.fresh()));
        self.waker.wake(py);
        row(py, &record)
    }

    fn wake(&self, py: Python<'_>, callback: Py<PyAny>) {
        *self.waker.callback.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner) = Some(callback);
        self.waker.call(py);
    }

    fn stored(&self, version: u64) {
        self.state.changes.store_has(version);
    }

    fn is_stored(&self, version: u64) -> bool {
        self.state.changes.is_stored(version)
    }

    fn away(&self, is_away: bool) {
        self.state.set_away(is_away, self.clock.fresh());
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.waker.callback.try_lock() {
            Ok(callback) => callback.as_ref().map_or(Ok(()), |callback| visit.call(callback)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        if let Ok(mut callback) = self.waker.callback.try_lock() {
            callback.take();
        }
    }
}

fn read<'a>((name, value, until): &'a Row<'_>) -> Record<&'a [u8]> {
    // A number that we never write counts as no end.
    Record { name: name.as_bytes(), value: value.as_bytes(), until: until.extract().unwrap_or(u64::MAX) }
}

fn row<'py>(py: Python<'py>, record: &Record) -> PyResult<Bound<'py, PyAny>> {
    let (name, value) = (PyBytes::new(py, &record.name), PyBytes::new(py, &record.value));
    Ok((name, value, record.until).into_pyobject(py)?.into_any())
}

/// Other threads may run in between, as there may be many records.
fn rows<'py>(py: Python<'py>, records: &[Record]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for some in records.chunks(MOST) {
        for record in some {
            list.append(row(py, record)?)?;
        }
        py.detach(|| ());
    }
    Ok(list)
}

/// The record that revokes a key of a file.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts paths by value")]
pub fn revocation_record<'py>(py: Python<'py>, path: PathBuf, key_id: &str) -> PyResult<Bound<'py, PyAny>> {
    let found = keys::revocation(&path, key_id, unix_time().as_secs()).map_err(|faults| key_file_error(&faults))?;
    found.map_or_else(|| Err(PyKeyError::new_err(key_id.to_owned())), |found| row(py, &found))
}

/// What a record says, for programs without the keys: its signature is not checked.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts tuples by value")]
pub fn describe<'py>(py: Python<'py>, record: Row<'py>) -> PyResult<Bound<'py, PyDict>> {
    let Record { value, until, .. } = read(&record);
    let told = PyDict::new(py);
    told.set_item("until", until)?;
    let fact = Fact::parse(value).map(|(fact, _)| fact).filter(|fact| fact.until() == until);
    let Some(fact) = fact else {
        told.set_item("kind", "unknown")?;
        return Ok(told);
    };
    let (kind, times) = kind_and_times(&fact);
    told.set_item("kind", kind)?;
    for (name, time) in times {
        told.set_item(name, time)?;
    }
    if let Some(key) = fact.key() {
        told.set_item("key", key.to_string())?;
    }
    match fact {
        Fact::Lock { network, budget, .. } => {
            told.set_item("address", network.to_string())?;
            told.set_item("any_page", budget == Budget::AnyPage)?;
        }
        Fact::Node { id, .. } => told.set_item("node", id.to_string())?,
        _ => {}
    }
    Ok(told)
}

fn kind_and_times(fact: &Fact) -> (&'static str, Vec<(&'static str, u64)>) {
    match *fact {
        Fact::LogOut { issued, expires, .. } => ("log_out", vec![("issued", issued), ("expires", expires)]),
        Fact::EarlierSessions { issued, .. } => ("earlier_sessions", vec![("issued", issued)]),
        Fact::Revocation { at, .. } => ("revocation", vec![("at", at)]),
        Fact::Lock { .. } => ("lock", vec![]),
        Fact::Prompt { time, .. } => ("prompt", vec![("at", time / 1000)]),
        Fact::Node { seen, .. } => ("node", vec![("at", seen)]),
    }
}
