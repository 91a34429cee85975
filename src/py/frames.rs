//! Filters what an unauthenticated WebSocket client sends, before aiohttp's parser.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::frames::{Event, Frames, REST_AFTER, text};

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct FrameFilter {
    frames: Mutex<Frames>,
    parser: Py<PyAny>,
    is_welcome: Py<PyAny>,
    end: Py<PyAny>,
    rest: Py<PyAny>,
    /// Bytes since the last pause.
    arrived: AtomicUsize,
}

#[pymethods]
impl FrameFilter {
    #[new]
    #[pyo3(signature = (parser, *, is_welcome, end, rest))]
    fn new(parser: Py<PyAny>, is_welcome: Py<PyAny>, end: Py<PyAny>, rest: Py<PyAny>) -> Self {
        Self { frames: Mutex::default(), parser, is_welcome, end, rest, arrived: AtomicUsize::new(0) }
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts by value")]
    fn feed_data<'py>(&self, py: Python<'py>, data: Cow<'_, [u8]>) -> PyResult<Bound<'py, PyAny>> {
        let arrived = data.len() + self.arrived.fetch_add(data.len(), Ordering::Relaxed);
        if arrived >= REST_AFTER {
            self.arrived.store(0, Ordering::Relaxed);
            self.rest.call1(py, (arrived,))?;
        }
        let events = self.frames.lock().unwrap_or_else(PoisonError::into_inner).feed(&data);
        let mut passed = Vec::new();
        for event in events {
            match event {
                Event::Control(frame) => passed.extend(frame),
                Event::Message(message) => {
                    if self.is_welcome.bind(py).call1((PyBytes::new(py, &message),))?.is_truthy()? {
                        passed.extend(text(&message));
                    }
                }
                Event::End(code) => drop(self.end.call1(py, (code,))?),
            }
        }
        self.parser.bind(py).call_method1(intern!(py, "feed_data"), (PyBytes::new(py, &passed),))
    }

    fn feed_eof(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.parser.call_method0(py, intern!(py, "feed_eof"))
    }

    /// aiohttp's connection holds this, and the parser here holds the connection.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.parser)?;
        visit.call(&self.is_welcome)?;
        visit.call(&self.end)?;
        visit.call(&self.rest)
    }
}
