//! Python's `logging`.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::request::Request;
use crate::decision::Decision;
use crate::exempt::Route;
use crate::keys::Reload;
use crate::request::{Question, Request as _};
use crate::trace::Trace;

/// The logger of decisions.
const DECISIONS: &str = "comfy_auth_rs.decisions";

/// What happened to the key files.
#[cold]
pub fn reloads(py: Python<'_>, events: &[Reload]) -> PyResult<()> {
    let logger = logger(py, "comfy_auth_rs")?;
    for event in events {
        match event {
            Reload::Loaded { path, keys: 0 } => {
                let message = format!("comfy-auth-rs: {}: the key file holds no key: it admits nobody", path.display());
                logger.call_method1(intern!(py, "error"), ("%s", message))?;
            }
            Reload::Loaded { path, keys } => {
                let message =
                    format!("comfy-auth-rs: {}: the key file changed; {keys} keys are in force", path.display());
                logger.call_method1(intern!(py, "info"), ("%s", message))?;
            }
            Reload::Kept { fault, .. } => {
                let message = format!("comfy-auth-rs: {fault}; the previous keys stay in force");
                logger.call_method1(intern!(py, "error"), ("%s", message))?;
            }
        }
    }
    Ok(())
}

/// Whether to log each decision.
#[cold]
pub fn wants_decisions(py: Python<'_>) -> bool {
    const DEBUG: u8 = 10;
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let wants = || {
        let logger = LOGGER.get_or_try_init(py, || logger(py, DECISIONS).map(Bound::unbind))?;
        logger.bind(py).call_method1(intern!(py, "isEnabledFor"), (DEBUG,))?.extract()
    };
    wants().unwrap_or(false)
}

/// One decision and its steps.
#[cold]
pub fn decision(
    decision: &Decision<'_>,
    question: Question<'_>,
    request: &Request<'_, '_>,
    trace: &Trace,
) -> PyResult<()> {
    let py = request.py();
    let decided = match decision {
        Decision::Granted(grant) => format!("granted to {} ({})", grant.key.id(), grant.source.name()),
        Decision::Exempt | Decision::ExemptSocket => "needs no credential".to_owned(),
        Decision::Preflight => "a preflight".to_owned(),
        Decision::Denied(denial) | Decision::SentToLogin(denial) => denial.row(question).cause.to_owned(),
    };
    let route = match request.route() {
        Route::Unmatched => "no route",
        Route::Path(path) => path,
        Route::Static { prefix: "", .. } => "a file below /",
        Route::Static { prefix, .. } => prefix,
    };
    let asked = match question {
        Question::LogIn(_) => "LogIn".to_owned(), // without the key in it
        other => format!("{other:?}"),
    };
    let message = format!("comfy-auth-rs: {asked}, {} {route}: {decided}; {trace}", request.method().escape_debug());
    logger(py, DECISIONS)?.call_method1(intern!(py, "debug"), ("%s", message)).map(drop)
}

/// What an operator should change.
#[cold]
pub fn warning(py: Python<'_>, message: &str) -> PyResult<()> {
    logger(py, "comfy_auth_rs")?.call_method1(intern!(py, "warning"), ("%s", message)).map(drop)
}

fn logger<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("logging")?.call_method1(intern!(py, "getLogger"), (name,))
}
