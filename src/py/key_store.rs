//! `KeyStore`: the keys and their files.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::clock::unix_time;
use super::error::{key_file_error, warning};
use crate::keys;
use crate::request::Now;
use crate::secret::ApiKey;

#[pyclass(frozen, module = "comfy_auth_rs")]
pub struct KeyStore(pub Arc<keys::KeyStore>);

#[pymethods]
impl KeyStore {
    #[new]
    #[pyo3(signature = (api_key = Vec::new(), api_key_file = Vec::new()))]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts lists by value")]
    fn new(api_key: Vec<Bound<'_, PyString>>, api_key_file: Vec<PathBuf>) -> PyResult<Self> {
        // Bytes on the command line that are not UTF-8 arrive as surrogates; they become U+FFFD, which no key holds.
        let inline: Vec<_> = api_key.into_iter().map(|key| ApiKey::new(key.to_string_lossy().into_owned())).collect();
        let store = keys::KeyStore::open(&inline, &api_key_file).map_err(|faults| key_file_error(&faults))?;
        Ok(Self(Arc::new(store)))
    }

    fn warnings<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.0.warnings(unix_time().as_secs()).iter().map(|found| warning(py, found)).collect()
    }

    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts paths by value")]
    fn faults(path: PathBuf) -> Vec<String> {
        keys::faults_of_file(&path)
    }

    fn unheeded_revocations(&self) -> Vec<(String, Option<String>, String)> {
        let unheeded = self.0.unheeded_revocations(Now::at(unix_time().as_secs())).into_iter();
        let place = |key: &keys::Unheeded| format!("{}:{}", key.path.to_string_lossy(), key.line);
        unheeded.map(|key| (place(&key), key.label, key.key.to_string())).collect()
    }

    fn __len__(&self) -> usize {
        self.0.current().in_force(Now::at(unix_time().as_secs()))
    }

    fn __repr__(&self) -> String {
        format!("KeyStore({} keys)", self.__len__())
    }
}
