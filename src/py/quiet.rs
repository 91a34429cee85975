//! Handlers that only get reads that need no more than `view`. They need no other checks: they queue nothing, and are not in
//! the audit log.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::aiohttp;
use crate::exempt::without_api;

/// Places, each for the handlers whose address leads to it.
const PLACES: usize = 256;

/// The most handlers to check, in case some aiohttp makes a new one for each request.
const MOST: usize = 4 * PLACES;

/// The handlers as the middleware gets them: aiohttp keeps one for each handler of a route, with the middlewares after us.
pub struct Quiet {
    /// Their addresses, for as long as they are kept: a lock would cost more than the look.
    addresses: [AtomicUsize; PLACES],
    kept: Mutex<[Option<Py<PyAny>>; PLACES]>,
    looked_at: AtomicUsize,
}

impl Default for Quiet {
    fn default() -> Self {
        Self {
            addresses: [const { AtomicUsize::new(0) }; PLACES],
            kept: Mutex::new([const { None }; PLACES]),
            looked_at: AtomicUsize::new(0),
        }
    }
}

impl Quiet {
    pub fn knows(&self, handler: &Bound<'_, PyAny>) -> bool {
        self.addresses[place(handler)].load(Ordering::Acquire) == address(handler)
    }

    /// Remembers the handler of such a read, if the handler gets nothing else: the same function may answer other
    /// methods and other paths.
    #[cold]
    pub fn learn(&self, request: &Bound<'_, PyAny>, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.looked_at.fetch_add(1, Ordering::Relaxed) < MOST && only_reads_one_path(request)? {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let before = kept[place(handler)].replace(handler.clone().unbind());
            self.addresses[place(handler)].store(address(handler), Ordering::Release);
            drop(kept);
            drop(before); // after its address is gone; and what is destroyed may run Python
        }
        Ok(())
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The thread that holds it is running, so nothing in it is garbage.
        let Ok(kept) = self.kept.try_lock() else { return Ok(()) };
        kept.iter().flatten().try_for_each(|handler| visit.call(handler))
    }
}

fn place(handler: &Bound<'_, PyAny>) -> usize {
    // Objects are aligned.
    (address(handler) >> 5) % PLACES
}

fn address(handler: &Bound<'_, PyAny>) -> usize {
    handler.as_ptr() as usize
}

fn only_reads_one_path(request: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = request.py();
    let route = aiohttp::route(request)?;
    let (handler, path) = (aiohttp::handler(&route)?, canonical(&route)?);
    let router = request.getattr(intern!(py, "app"))?.getattr(intern!(py, "router"))?;
    for other in router.call_method0(intern!(py, "routes"))?.try_iter()? {
        let other = other?;
        // Equal, not identical, as in aiohttp's own table of handlers: a method of an object is a new function each
        // time.
        if !aiohttp::handler(&other)?.eq(&handler)? {
            continue;
        }
        let method = other.getattr(intern!(py, "method"))?;
        let reads = matches!(method.cast::<PyString>()?.to_str()?, "GET" | "HEAD");
        if !reads || path.is_none() || canonical(&other)? != path {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The canonical path of its resource, without `/api`; of a resource in the application itself.
fn canonical(route: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let resource = route.getattr(intern!(route.py(), "resource"))?;
    if resource.is_none() {
        return Ok(None);
    }
    let path: String = resource.getattr(intern!(route.py(), "canonical"))?.extract()?;
    Ok(Some(without_api(&path).to_owned()))
}
