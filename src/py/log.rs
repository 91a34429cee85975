//! What happened to the key files, into Python's `logging`.

use pyo3::intern;
use pyo3::prelude::*;

use crate::keys::Reload;

/// Logs each event to the logger `comfy_auth_rs`.
#[cold]
pub fn reloads(py: Python<'_>, events: &[Reload]) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1(intern!(py, "getLogger"), ("comfy_auth_rs",))?;
    for event in events {
        match event {
            Reload::Loaded { path, keys } => {
                let message =
                    format!("comfy-auth-rs: {}: the key file changed; {keys} keys are in force", path.display());
                logger.call_method1(intern!(py, "info"), ("%s", message))?;
            }
            Reload::Kept { fault } => {
                let message = format!("comfy-auth-rs: {fault}; the keys read before stay in force");
                logger.call_method1(intern!(py, "error"), ("%s", message))?;
            }
        }
    }
    Ok(())
}
