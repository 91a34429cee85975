//! What happens to every response whose headers are about to be sent.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet, PyString};

use super::aiohttp;
use super::middleware::AuthMiddleware;
use super::request::header_names;
use crate::caching::{PRIVATE, made_private};
use crate::sandbox::{BYTES, Treatment, as_attachment, is_sandboxed, policy, treatment};

#[pyclass(frozen, module = "comfy_auth_rs._core")]
pub struct BeforeSending {
    middleware: Py<AuthMiddleware>,
    leave_packed: Py<PyAny>,
    /// The resources whose page gets the login script, and the function that adds it.
    pages: Py<PySet>,
    finish_page: Py<PyAny>,
    names: Names,
    ordinary: Py<PyAny>,
    socket: Py<PyAny>,
    /// What is known about routes: a `Found` for each, and one under `None` for requests without a route.
    known: Py<PyDict>,
    done: Py<Done>,
}

/// The header names of responses.
struct Names {
    cache_control: Py<PyAny>,
    content_disposition: Py<PyAny>,
    content_encoding: Py<PyAny>,
    content_security_policy: Py<PyAny>,
    content_type: Py<PyAny>,
    x_content_type_options: Py<PyAny>,
}

#[pyclass(frozen)]
struct Found {
    /// Whether its answers to reads are public, if that is the same for all of them.
    public: Option<bool>,
    /// Whether it answers with what clients can write.
    written: bool,
}

#[pymethods]
impl BeforeSending {
    #[new]
    #[pyo3(signature = (middleware, *, leave_packed, pages, finish_page))]
    fn new(
        py: Python<'_>,
        middleware: Py<AuthMiddleware>,
        leave_packed: Py<PyAny>,
        pages: Py<PySet>,
        finish_page: Py<PyAny>,
    ) -> PyResult<Self> {
        Ok(Self {
            middleware,
            leave_packed,
            pages,
            finish_page,
            names: Names::new(py)?,
            ordinary: py.import("aiohttp.web")?.getattr("Response")?.unbind(),
            socket: py.import("aiohttp.web")?.getattr("WebSocketResponse")?.unbind(),
            known: PyDict::new(py).unbind(),
            done: Py::new(py, Done)?,
        })
    }

    fn __call__<'py>(&self, request: &Bound<'py, PyAny>, response: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = request.py();
        if !response.get_type().is(&self.ordinary) && response.is_instance(self.socket.bind(py))? {
            self.middleware.get().prepared(request, response)?;
        }
        if aiohttp::headers(request)?.contains(&self.names.content_encoding)? {
            self.leave_packed.bind(py).call1((request,))?;
        }
        let (headers, cache_control) = (aiohttp::headers(response)?, &self.names.cache_control);
        let reads = reads(request)?;
        let found = self.found(request, reads)?;
        let found = found.get();
        if found.written {
            self.names.sandbox(response, &headers)?;
        }
        if headers.contains(cache_control)? {
            let control: Vec<String> = all(&headers, cache_control)?;
            if let Some(control) = made_private(&control.join(", "))
                && !(reads && self.is_public(request, found)?)
            {
                headers.set_item(cache_control, control)?;
            }
        // Caches keep answers to other methods only if the answers say so (RFC 9110, section 9.2.3).
        } else if reads && !self.is_public(request, found)? {
            headers.set_item(cache_control, intern!(py, PRIVATE))?;
        }
        if aiohttp::is_marked(request) && reads && self.pages.bind(py).contains(aiohttp::resource(request)?)? {
            return self.finish_page.bind(py).call1((request, response));
        }
        Ok(self.done.bind(py).clone().into_any())
    }

    /// The resources hold the application, which holds this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.middleware)?;
        visit.call(&self.leave_packed)?;
        visit.call(&self.pages)?;
        visit.call(&self.finish_page)?;
        visit.call(&self.known)
    }
}

impl BeforeSending {
    fn found<'py>(&self, request: &Bound<'py, PyAny>, reads: bool) -> PyResult<Bound<'py, Found>> {
        let (py, route) = (request.py(), aiohttp::route(request)?);
        if let Some(found) = self.known.bind(py).get_item(&route)? {
            return Ok(found.cast_into()?);
        }
        self.find_out(request, route, reads)
    }

    #[cold]
    fn find_out<'py>(
        &self,
        request: &Bound<'py, PyAny>,
        route: Bound<'py, PyAny>,
        reads: bool,
    ) -> PyResult<Bound<'py, Found>> {
        let (py, resource) = (request.py(), aiohttp::resource(request)?);
        let known = self.known.bind(py);
        // aiohttp makes a new route for each request that it finds none for.
        let key = if resource.is_none() { resource } else { route };
        if let Some(found) = known.get_item(&key)? {
            return Ok(found.cast_into()?);
        }
        let middleware = self.middleware.get();
        let (public, of_one_file) = middleware.is_public(request)?;
        // What was found for a write doesn't hold for reads: a route may be for every method.
        let public = (reads && !of_one_file).then_some(public);
        let found = Bound::new(py, Found { public, written: middleware.answers_what_clients_write(request)? })?;
        known.set_item(key, &found)?;
        Ok(found)
    }

    fn is_public(&self, request: &Bound<'_, PyAny>, found: &Found) -> PyResult<bool> {
        found.public.map_or_else(|| Ok(self.middleware.get().is_public(request)?.0), Ok)
    }
}

impl Names {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let name = header_names(py)?;
        Ok(Self {
            cache_control: name("Cache-Control")?,
            content_disposition: name("Content-Disposition")?,
            content_encoding: name("Content-Encoding")?,
            content_security_policy: name("Content-Security-Policy")?,
            content_type: name("Content-Type")?,
            x_content_type_options: name("X-Content-Type-Options")?,
        })
    }

    /// Keeps browsers from running content that clients can write, which neither refusals nor errors contain.
    fn sandbox(&self, response: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = headers.py();
        let status: u16 = response.getattr(intern!(py, "status"))?.extract()?;
        if !(200..300).contains(&status) && status != 304 {
            return Ok(());
        }
        headers.set_item(&self.x_content_type_options, intern!(py, "nosniff"))?;
        let content_type = all(headers, &self.content_type)?.join(",");
        // A second field: browsers enforce each of them, so the handler's own policy stays as it is.
        if !is_sandboxed(&all(headers, &self.content_security_policy)?.join(",")) {
            headers.call_method1(intern!(py, "add"), (&self.content_security_policy, policy(&content_type)))?;
        }
        // It has no body, and its type may be one that aiohttp made up.
        if status == 304 {
            return Ok(());
        }
        let treatment = treatment(&content_type);
        if treatment == Treatment::Disarmed {
            headers.set_item(&self.content_type, BYTES)?;
        }
        if treatment != Treatment::Shown {
            let said = all(headers, &self.content_disposition)?;
            let said = said.first().map_or("", String::as_str);
            headers.set_item(&self.content_disposition, as_attachment(said))?;
        }
        Ok(())
    }
}

/// All values of a field, which most responses lack.
fn all(headers: &Bound<'_, PyAny>, name: &Py<PyAny>) -> PyResult<Vec<String>> {
    if !headers.contains(name)? {
        return Ok(Vec::new());
    }
    headers.call_method1(intern!(headers.py(), "getall"), (name,))?.extract()
}

fn reads(request: &Bound<'_, PyAny>) -> PyResult<bool> {
    let method = aiohttp::method(request)?;
    let method = method.cast::<PyString>()?.to_str()?;
    Ok(method == "GET" || method == "HEAD")
}

/// An awaitable that has nothing to wait for: aiohttp awaits its receivers, and a coroutine that is done at once costs as
/// much as one that isn't.
#[pyclass(frozen)]
struct Done;

#[pymethods]
impl Done {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[expect(clippy::unused_self, reason = "the iterator protocol")]
    fn __next__(&self) -> Option<()> {
        None
    }
}
