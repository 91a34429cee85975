//! Facts about an aiohttp request, read when the decision asks for them.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::ops::ControlFlow;

use memchr::memchr;
use pyo3::exceptions::PyKeyError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use super::sockets::LiveSockets;
use super::url_keys::UrlKeys;
use crate::client::TrustedProxies;
use crate::decide::{Facts, Field, Visit};
use crate::exempt::Route;

/// What the glue looks up once: header names as multidict's `istr`, which it finds without folding their case again.
pub struct Names {
    authorization: Py<PyAny>,
    x_api_key: Py<PyAny>,
    cookie: Py<PyAny>,
    host: Py<PyAny>,
    origin: Py<PyAny>,
    sec_fetch_site: Py<PyAny>,
    sec_fetch_mode: Py<PyAny>,
    sec_fetch_dest: Py<PyAny>,
    upgrade: Py<PyAny>,
    sec_websocket_key: Py<PyAny>,
    sec_websocket_version: Py<PyAny>,
    accept: Py<PyAny>,
    access_control_request_method: Py<PyAny>,
    x_forwarded_for: Py<PyAny>,
    x_original_method: Py<PyAny>,
    x_forwarded_method: Py<PyAny>,
    x_forwarded_host: Py<PyAny>,
    static_resource: Py<PyAny>,
    /// The other resources of aiohttp's. Asking whether something is a `StaticResource`, an abstract class's child, is slow.
    other_resources: [Py<PyAny>; 2],
}

impl Names {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let istr = py.import("multidict")?.getattr("istr")?;
        let name = |name: &str| istr.call1((name,)).map(Bound::unbind);
        let web = py.import("aiohttp.web")?;
        let class = |name: &str| web.getattr(name).map(Bound::unbind);
        Ok(Self {
            authorization: name("Authorization")?,
            x_api_key: name(crate::credential::header::NAME)?,
            cookie: name("Cookie")?,
            host: name("Host")?,
            origin: name("Origin")?,
            sec_fetch_site: name("Sec-Fetch-Site")?,
            sec_fetch_mode: name("Sec-Fetch-Mode")?,
            sec_fetch_dest: name("Sec-Fetch-Dest")?,
            upgrade: name("Upgrade")?,
            sec_websocket_key: name("Sec-WebSocket-Key")?,
            sec_websocket_version: name("Sec-WebSocket-Version")?,
            accept: name("Accept")?,
            access_control_request_method: name("Access-Control-Request-Method")?,
            x_forwarded_for: name("X-Forwarded-For")?,
            x_original_method: name("X-Original-Method")?,
            x_forwarded_method: name("X-Forwarded-Method")?,
            x_forwarded_host: name("X-Forwarded-Host")?,
            static_resource: class("StaticResource")?,
            other_resources: [class("PlainResource")?, class("DynamicResource")?],
        })
    }

    fn of(&self, field: Field) -> &Py<PyAny> {
        match field {
            Field::Authorization => &self.authorization,
            Field::XApiKey => &self.x_api_key,
            Field::Cookie => &self.cookie,
            Field::Host => &self.host,
            Field::Origin => &self.origin,
            Field::SecFetchSite => &self.sec_fetch_site,
            Field::SecFetchMode => &self.sec_fetch_mode,
            Field::SecFetchDest => &self.sec_fetch_dest,
            Field::Upgrade => &self.upgrade,
            Field::SecWebSocketKey => &self.sec_websocket_key,
            Field::SecWebSocketVersion => &self.sec_websocket_version,
            Field::Accept => &self.accept,
            Field::AccessControlRequestMethod => &self.access_control_request_method,
            Field::XOriginalMethod => &self.x_original_method,
            Field::XForwardedMethod => &self.x_forwarded_method,
            Field::XForwardedHost => &self.x_forwarded_host,
        }
    }
}

/// One request. A Python exception while reading a fact makes that fact absent, so that the request is refused rather
/// than admitted, and is kept for the caller to raise.
pub struct Request<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
    headers: Bound<'py, PyAny>,
    names: &'a Names,
    trusted: &'a TrustedProxies,
    sockets: &'a LiveSockets,
    url_keys: Option<&'a Py<PyAny>>,
    resolved: OnceCell<Option<Resolved<'py>>>,
    client: OnceCell<Option<IpAddr>>,
    error: RefCell<Option<PyErr>>,
}

/// What the router found: the resource's canonical path and, below a static mount, the file.
struct Resolved<'py> {
    canonical: Bound<'py, PyString>,
    file: Option<Bound<'py, PyString>>,
}

impl<'a, 'py> Request<'a, 'py> {
    pub fn new(
        object: &'a Bound<'py, PyAny>,
        names: &'a Names,
        trusted: &'a TrustedProxies,
        sockets: &'a LiveSockets,
        url_keys: Option<&'a Py<PyAny>>,
    ) -> PyResult<Self> {
        let headers = headers(object)?;
        let (resolved, client, error) = (OnceCell::new(), OnceCell::new(), RefCell::new(None));
        Ok(Self { object, headers, names, trusted, sockets, url_keys, resolved, client, error })
    }

    /// The exception that reading a fact raised.
    pub fn into_error(self) -> Option<PyErr> {
        self.error.into_inner()
    }

    /// Whether it asks for another protocol, as a WebSocket does.
    pub fn is_upgrade(&self) -> bool {
        self.read(|| self.headers.contains(self.names.of(Field::Upgrade))).unwrap_or(true)
    }

    /// Whether it was resolved to a function that is called for whatever method. (A class has a function for each.)
    pub fn is_for_every_method(&self) -> bool {
        let py = self.object.py();
        let is_catch_all = || {
            let route = self.object.getattr(intern!(py, "match_info"))?.getattr(intern!(py, "route"))?;
            Ok(route.getattr(intern!(py, "method"))?.eq(intern!(py, "*"))?
                && !route.getattr(intern!(py, "resource"))?.is_none()
                && !route.getattr(intern!(py, "handler"))?.is_instance_of::<PyType>())
        };
        self.read(is_catch_all).unwrap_or(true)
    }

    fn read<T>(&self, fact: impl FnOnce() -> PyResult<T>) -> Option<T> {
        fact().map_err(|error| *self.error.borrow_mut() = Some(error)).ok()
    }

    fn values(&self, name: &Py<PyAny>, each: Visit<'_>) -> PyResult<()> {
        // Not `get`: calling a method costs more than both of these.
        if !self.headers.contains(name)? {
            return Ok(());
        }
        self.values_of(name, &self.headers.get_item(name)?, each)
    }

    /// `values` of a field all of which are looked at.
    fn all_values(&self, name: &Py<PyAny>, each: Visit<'_>) -> PyResult<()> {
        let py = self.object.py();
        let all = self.headers.call_method1(intern!(py, "getall"), (name, py.None()))?;
        if let Ok(all) = all.cast::<PyList>() {
            let _ = all.iter().try_for_each(|value| visit(&value, each));
        }
        Ok(())
    }

    /// `values` of a field that hardly any request lacks that is asked for it: an exception is dear, but rare.
    fn expected_values(&self, name: &Py<PyAny>, each: Visit<'_>) -> PyResult<()> {
        match self.headers.get_item(name) {
            Ok(first) => self.values_of(name, &first, each),
            Err(error) if error.is_instance_of::<PyKeyError>(self.object.py()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn values_of(&self, name: &Py<PyAny>, first: &Bound<'py, PyAny>, each: Visit<'_>) -> PyResult<()> {
        if visit(first, each).is_break() {
            return Ok(());
        }
        let all = self.headers.call_method1(intern!(self.object.py(), "getall"), (name,))?;
        for value in all.cast::<PyList>()?.iter().skip(1) {
            if visit(&value, each).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Whether the request line holds no `?`, so that the address need not be taken apart to find no query.
    fn has_no_query(&self) -> Option<bool> {
        let py = self.object.py();
        let target = self.object.getattr(intern!(py, "_message")).ok()?.getattr(intern!(py, "path")).ok()?;
        Some(memchr(b'?', target.cast::<PyString>().ok()?.to_str().ok()?.as_bytes()).is_none())
    }

    fn resolve(&self) -> PyResult<Option<Resolved<'py>>> {
        let py = self.object.py();
        let resource = resource(self.object)?;
        if resource.is_none() {
            return Ok(None);
        }
        let canonical = resource.getattr(intern!(py, "canonical"))?.cast_into()?;
        let class = resource.get_type();
        let is_static = !self.names.other_resources.iter().any(|other| class.is(other))
            && resource.is_instance(self.names.static_resource.bind(py))?;
        let file = || self.object.getattr(intern!(py, "match_info"))?.get_item(intern!(py, "filename"));
        let file = is_static.then(file).transpose()?;
        Ok(Some(Resolved { canonical, file: file.map(Bound::cast_into).transpose()? }))
    }

    /// The address at the other end of the connection as aiohttp keeps it. `remote`, which is made of it, is a Python
    /// function, and costs more than everything else that an admitted request is asked.
    fn peer_address(&self) -> Option<Bound<'py, PyAny>> {
        let name = self.object.getattr(intern!(self.object.py(), "_transport_peername")).ok()?;
        name.cast::<PyTuple>().ok()?.get_item(0).ok()
    }

    fn remote_name(&self) -> PyResult<Bound<'py, PyAny>> {
        self.object.getattr(intern!(self.object.py(), "remote"))
    }

    fn remote(&self) -> PyResult<Option<IpAddr>> {
        let remote = self.remote_name()?;
        if remote.is_none() {
            return Ok(None);
        }
        let remote = remote.cast::<PyString>()?.to_string_lossy();
        // Link-local IPv6 addresses name their interface: fe80::1%eth0.
        Ok(remote.split('%').next().unwrap_or_default().parse().ok())
    }

    fn address(&self) -> PyResult<Option<IpAddr>> {
        let Some(peer) = self.remote()? else { return Ok(None) };
        if self.trusted.is_empty() {
            return Ok(Some(peer));
        }
        let mut forwarded = String::new();
        self.values(&self.names.x_forwarded_for, &mut |value| {
            forwarded.push(',');
            forwarded.push_str(value);
            ControlFlow::Continue(())
        })?;
        Ok(Some(self.trusted.client(peer, &forwarded)))
    }
}

/// The header fields of a request or a response: what the property returns, without what a property costs.
pub fn headers<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = message.py();
    message.getattr(intern!(py, "_headers")).or_else(|_| message.getattr(intern!(py, "headers")))
}

/// The method of a request as sent.
pub fn method<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    request.getattr(intern!(py, "_method")).or_else(|_| request.getattr(intern!(py, "method")))
}

/// The resource that the router found for a request; `None` where it found none.
pub fn resource<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = request.py();
    let read = |match_info, route, resource| request.getattr(match_info)?.getattr(route)?.getattr(resource);
    read(intern!(py, "_match_info"), intern!(py, "_route"), intern!(py, "_resource"))
        .or_else(|_: PyErr| read(intern!(py, "match_info"), intern!(py, "route"), intern!(py, "resource")))
}

/// Bytes that are not UTF-8 reach Python as surrogates; they become U+FFFD, which no key and no path holds.
fn visit(value: &Bound<'_, PyAny>, each: Visit<'_>) -> ControlFlow<()> {
    match value.cast::<PyString>() {
        Ok(text) => match text.to_str() {
            Ok(text) => each(text),
            Err(_) => each(&text.to_string_lossy()),
        },
        Err(_) => ControlFlow::Continue(()),
    }
}

impl Facts for Request<'_, '_> {
    fn visit(&self, field: Field, each: Visit<'_>) {
        let name = self.names.of(field);
        self.read(|| match field {
            Field::Host | Field::Cookie => self.expected_values(name, each),
            Field::SecFetchSite => self.all_values(name, each),
            _ => self.values(name, each),
        });
    }

    fn query(&self, each: Visit<'_>) {
        let py = self.object.py();
        if self.has_no_query() == Some(true) {
            return;
        }
        self.read(|| {
            let query = self.object.getattr(intern!(py, "rel_url"))?.getattr(intern!(py, "raw_query_string"))?;
            let _ = visit(&query, each);
            Ok(())
        });
    }

    /// Looks into the dictionary that is the request's state: its own methods are Python functions.
    fn url_prefix(&self, each: Visit<'_>) {
        let Some(name) = self.url_keys else { return };
        let py = self.object.py();
        self.read(|| {
            let state = self.object.getattr(intern!(py, "_state"))?;
            if let Some(keys) = state.cast::<PyDict>()?.get_item(name)? {
                keys.cast::<UrlKeys>()?.get().visit(each);
            }
            Ok(())
        });
    }

    fn method(&self) -> String {
        self.read(|| method(self.object)?.extract()).unwrap_or_default()
    }

    fn route(&self, judge: &mut dyn FnMut(Route<'_>)) {
        let resolved = self.resolved.get_or_init(|| self.read(|| self.resolve()).flatten());
        match resolved {
            None => judge(Route::Unmatched),
            Some(Resolved { canonical, file: None }) => judge(Route::Path(&canonical.to_string_lossy())),
            Some(Resolved { canonical, file: Some(file) }) => {
                judge(Route::Static { prefix: &canonical.to_string_lossy(), file: &file.to_string_lossy() });
            }
        }
    }

    fn peer(&self) -> Option<u64> {
        if !self.trusted.is_empty() {
            return None;
        }
        // A string remembers its hash, and this one stays with the connection.
        Some(self.peer_address()?.cast::<PyString>().ok()?.hash().ok()?.cast_unsigned() as u64)
    }

    fn client(&self) -> Option<IpAddr> {
        *self.client.get_or_init(|| self.read(|| self.address()).flatten())
    }

    fn client_is_peer(&self) -> bool {
        // A middleware in front of this one may have put another address there.
        let (Some(peer), Ok(remote)) = (self.peer_address(), self.remote_name()) else { return false };
        self.trusted.is_empty() && remote.eq(peer).unwrap_or(false)
    }

    fn proxied(&self) -> bool {
        self.read(|| self.remote()).flatten().is_some_and(|peer| self.trusted.contains(peer))
    }

    fn takes_over(&self) -> bool {
        self.read(|| self.sockets.owned(self.object)).unwrap_or(true)
    }
}
