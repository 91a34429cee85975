//! The Python interface of the core: `comfy_auth_rs._core`. The only files that use PyO3.

mod aiohttp;
mod clock;
mod connections;
mod denial;
mod error;
mod frames;
mod identity;
mod interpreter;
mod key_file;
mod key_store;
mod link;
mod log;
mod middleware;
mod notices;
mod probe;
mod profile;
mod prompts;
mod quiet;
mod request;
mod responses;
mod scopes;
mod state;
mod url_keys;

use pyo3::prelude::*;

/// The compiled core of `comfy_auth_rs`. Import the package, not this module.
///
/// Needs no GIL: all shared data is protected by locks and atomics.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::interpreter::claim(module.py())
    }

    #[pymodule_export]
    use super::denial::Denial;
    #[pymodule_export]
    use super::frames::FrameFilter;
    #[pymodule_export]
    use super::identity::Identity;
    #[pymodule_export]
    use super::key_file::{KeyEntry, key_file_entries, key_line};
    #[pymodule_export]
    use super::key_store::KeyStore;
    #[pymodule_export]
    use super::link::{Link, LoginOffer};
    #[pymodule_export]
    use super::middleware::{AuthMiddleware, SessionCookie};
    #[pymodule_export]
    use super::probe::{DeviceSampler, probe_device, probe_devices};
    #[pymodule_export]
    use super::profile::{profile_may_be_asked_for, profile_of_user};
    #[pymodule_export]
    use super::prompts::{Asker, PromptLedger};
    #[pymodule_export]
    use super::responses::BeforeSending;
    #[pymodule_export]
    use super::scopes::scope_of;
    #[pymodule_export]
    use super::state::{SharedState, describe, revocation_record};
    #[pymodule_export]
    use super::url_keys::{UrlKeys, split_url_keys};
    #[pymodule_export]
    use super::{generate_key, inject_script, strip_credentials};

    #[pymodule_export]
    const REDACTED: &str = crate::keys::REDACTED;
}

#[pyfunction]
fn generate_key() -> String {
    crate::secret::generate_key().to_string()
}

#[pyfunction]
#[pyo3(signature = (page, source = "auth_inject.js"))]
fn inject_script(page: &[u8], source: &str) -> PyResult<Vec<u8>> {
    if source.contains(['"', '&', '<', '>']) {
        return Err(error::value_error(&"source: must be a URL without the characters \" & < >"));
    }
    Ok(crate::inject::inject_script(page, source))
}

#[pyfunction]
fn strip_credentials(query: &str) -> String {
    crate::credential::query::without_credentials(query)
}
