//! The device probe, with the interpreter released while drivers answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::MutexExt as _;
use pyo3::types::{PyDict, PyList};

use crate::probe::{self, Device, Environment, FLIGHT_TIME, Sampler};

#[pyfunction]
pub fn probe_devices(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    list(py, &py.detach(probe::probe_devices))
}

#[pyfunction]
pub fn probe_device(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let devices = py.detach(probe::probe_devices);
    devices.first().map_or_else(|| Ok(PyDict::new(py)), |device| dict(py, device))
}

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct DeviceSampler {
    sampler: Sampler,
    /// The last list that was made, and when its figures were taken.
    told: Mutex<Option<(Instant, Py<PyList>)>>,
}

#[pymethods]
impl DeviceSampler {
    #[new]
    fn new() -> Self {
        let environment = Environment::from_process();
        Self { sampler: Sampler::new(move || probe::probe(&environment).devices), told: Mutex::default() }
    }

    fn fresh<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        let Some(sample) = self.sampler.fresh(Instant::now()) else { return Ok(None) };
        let told = self.told.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        if let Some((taken, devices)) = &*told
            && *taken == sample.taken
        {
            return Ok(Some(devices.bind(py).clone()));
        }
        drop(told);
        let devices = list(py, &sample.devices)?;
        let mut told = self.told.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        let before = told.replace((sample.taken, devices.clone().unbind()));
        drop(told); // released before the old list, whose end may run Python
        drop(before);
        Ok(Some(devices))
    }

    fn sample<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let devices: Arc<[Device]> = py.detach(|| match self.sampler.sample(FLIGHT_TIME) {
            Ok(sample) => sample.devices,
            Err(_) => probe::system_devices().into(),
        });
        list(py, &devices)
    }
}

impl DeviceSampler {
    /// The last known figures, and their age. If no driver has answered yet, those that need none. Never waits.
    pub fn last(&self) -> (Arc<[Device]>, Duration) {
        match self.sampler.last() {
            Some(sample) => (sample.devices, sample.taken.elapsed()),
            None => (probe::system_devices().into(), Duration::ZERO),
        }
    }
}

fn list<'py>(py: Python<'py>, devices: &[Device]) -> PyResult<Bound<'py, PyList>> {
    let devices = devices.iter().map(|device| dict(py, device)).collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, devices)
}

fn dict<'py>(py: Python<'py>, device: &Device) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &device.name)?;
    dict.set_item("type", device.kind.as_str())?;
    dict.set_item("index", device.index)?;
    dict.set_item("uuid", device.uuid.as_deref())?;
    dict.set_item("total", device.total)?;
    dict.set_item("free", device.free)?;
    Ok(dict)
}
