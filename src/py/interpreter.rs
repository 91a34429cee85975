//! One interpreter per process.
//!
//! PyO3 keeps types and interned strings for the whole process, and an object of one interpreter must not be used in
//! another. Python itself refuses sub-interpreters with a GIL of their own, but allows those that share one.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::error::import_error;

/// The module `sys` of the interpreter that was first: each interpreter has one of its own.
static OWNER: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Reserves this library for the interpreter that asks first.
pub fn claim(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    if OWNER.get_or_init(py, || sys.clone().unbind()).is(&sys) {
        Ok(())
    } else {
        Err(import_error(
            "comfy_auth_rs is in use in another interpreter of this process, and works in one only; \
             start the server in a process of its own",
        ))
    }
}
