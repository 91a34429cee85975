//! The keys of a URL prefix, on their way from the router to the decision.

use pyo3::prelude::*;
use pyo3::types::PyString;
use zeroize::Zeroizing;

use crate::credential::url_prefix;

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct UrlKeys {
    keys: Vec<Zeroizing<String>>,
    #[pyo3(get)]
    depth: usize,
}

#[pymethods]
impl UrlKeys {
    #[expect(clippy::unused_self, reason = "what it holds is nobody's business")]
    fn __repr__(&self) -> &'static str {
        "UrlKeys([redacted])"
    }
}

impl UrlKeys {
    /// The keys in plain text. Callers must not store, log or return them.
    pub fn keys(&self) -> Vec<Zeroizing<String>> {
        self.keys.clone()
    }
}

// The returned path never begins with a key. A path that is not UTF-8 is not one of ours.
#[pyfunction]
pub fn split_url_keys(path: &Bound<'_, PyString>) -> Option<(UrlKeys, String)> {
    let path = path.to_str().ok()?;
    let mut keys = Vec::new();
    let mut left = path;
    while let Some((key, rest)) = url_prefix::parse(left) {
        keys.push(Zeroizing::new(key.expose_secret().to_owned()));
        left = rest;
    }
    let slashes = |path: &str| path.matches('/').count();
    (!keys.is_empty()).then(|| (UrlKeys { keys, depth: slashes(path) - slashes(left) }, left.to_owned()))
}
