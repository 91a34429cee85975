//! A refusal, as Python sees it.

use std::net::IpAddr;

use pyo3::prelude::*;

use crate::error;

/// Why a request is refused. Turning it into a response is the Python side's business.
#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct Denial {
    reason: error::Denial,
    client: Option<IpAddr>,
    /// Whether it is a browser loading a page, which is led to the login page.
    #[pyo3(get)]
    leads_to_login: bool,
}

impl Denial {
    pub fn new(reason: error::Denial, client: Option<IpAddr>, leads_to_login: bool) -> Self {
        Self { reason, client, leads_to_login }
    }
}

#[pymethods]
impl Denial {
    /// The HTTP status code.
    #[getter]
    fn status(&self) -> u16 {
        self.reason.status()
    }

    /// A fixed word for logs and JSON bodies.
    #[getter]
    fn cause(&self) -> &'static str {
        self.reason.cause()
    }

    /// Seconds until the client may try again, where it is locked.
    #[getter]
    fn retry_after(&self) -> Option<u64> {
        match self.reason {
            error::Denial::Locked { retry_after } => Some(retry_after),
            _ => None,
        }
    }

    /// The client's address, behind trusted proxies.
    #[getter]
    fn client(&self) -> Option<String> {
        self.client.map(|address| address.to_string())
    }

    fn __repr__(&self) -> String {
        format!("Denial({:?})", self.reason)
    }
}
