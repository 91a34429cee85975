//! An aiohttp request, read when the decision asks.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use memchr::memchr;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySet, PyString, PyType};
use zeroize::Zeroizing;

use super::aiohttp;
use super::connections::Connections;
use super::notices::Notices;
use super::scopes::{Known, Scopes};
use super::url_keys::UrlKeys;
use crate::client::{CLIENT_FIELDS, ClientField, TrustedProxies, is_local};
use crate::credential::{Place as _, XApiKey};
use crate::exempt::Route;
use crate::keys::{self, Entry, KeyId, KeyStore};
use crate::legible::is_legible;
use crate::request::{self, Field, Handler, Now};

/// Makes header names: multidict's `istr`, which it finds without folding their case again.
pub fn header_names(py: Python<'_>) -> PyResult<impl Fn(&str) -> PyResult<Py<PyAny>>> {
    let istr = py.import("multidict")?.getattr("istr")?;
    Ok(move |name: &str| istr.call1((name,)).map(Bound::unbind))
}

/// What the glue looks up once.
pub struct Names {
    authorization: Py<PyAny>,
    x_api_key: Py<PyAny>,
    cookie: Py<PyAny>,
    host: Py<PyAny>,
    origin: Py<PyAny>,
    sec_fetch_site: Py<PyAny>,
    sec_fetch_mode: Py<PyAny>,
    sec_fetch_dest: Py<PyAny>,
    sec_purpose: Py<PyAny>,
    upgrade: Py<PyAny>,
    sec_websocket_key: Py<PyAny>,
    sec_websocket_version: Py<PyAny>,
    accept: Py<PyAny>,
    accept_language: Py<PyAny>,
    referer: Py<PyAny>,
    user_agent: Py<PyAny>,
    traceparent: Py<PyAny>,
    access_control_request_method: Py<PyAny>,
    x_original_method: Py<PyAny>,
    x_forwarded_method: Py<PyAny>,
    x_forwarded_host: Py<PyAny>,
    x_forwarded_proto: Py<PyAny>,
    /// The field that names the client, and the fields that other proxies use for it.
    client: Py<PyAny>,
    clients: Vec<Py<PyAny>>,
    /// The class of a request's header fields, and its `get` as a function: calling a method costs as much as two look-ups.
    fields: Py<PyAny>,
    get: Py<PyAny>,
    static_resource: Py<PyAny>,
    /// aiohttp's other resource classes. Asking whether something is a `StaticResource`, the child of an abstract
    /// class, is slow.
    other_resources: [Py<PyAny>; 2],
}

impl Names {
    pub fn new(py: Python<'_>, client: &ClientField) -> PyResult<Self> {
        let name = header_names(py)?;
        let fields = py.import("multidict")?.getattr("CIMultiDictProxy")?;
        let web = py.import("aiohttp.web")?;
        let class = |name: &str| web.getattr(name).map(Bound::unbind);
        Ok(Self {
            authorization: name("Authorization")?,
            x_api_key: name(XApiKey::NAME)?,
            cookie: name("Cookie")?,
            host: name("Host")?,
            origin: name("Origin")?,
            sec_fetch_site: name("Sec-Fetch-Site")?,
            sec_fetch_mode: name("Sec-Fetch-Mode")?,
            sec_fetch_dest: name("Sec-Fetch-Dest")?,
            sec_purpose: name("Sec-Purpose")?,
            upgrade: name("Upgrade")?,
            sec_websocket_key: name("Sec-WebSocket-Key")?,
            sec_websocket_version: name("Sec-WebSocket-Version")?,
            accept: name("Accept")?,
            accept_language: name("Accept-Language")?,
            referer: name("Referer")?,
            user_agent: name("User-Agent")?,
            traceparent: name("traceparent")?,
            access_control_request_method: name("Access-Control-Request-Method")?,
            x_original_method: name("X-Original-Method")?,
            x_forwarded_method: name("X-Forwarded-Method")?,
            x_forwarded_host: name("X-Forwarded-Host")?,
            x_forwarded_proto: name("X-Forwarded-Proto")?,
            client: name(client.name())?,
            clients: CLIENT_FIELDS.into_iter().map(&name).collect::<PyResult<_>>()?,
            get: fields.getattr("get")?.unbind(),
            fields: fields.unbind(),
            static_resource: class("StaticResource")?,
            other_resources: [class("PlainResource")?, class("DynamicResource")?],
        })
    }

    /// The first value of a field, with one look-up.
    fn get<'py>(&self, headers: &Bound<'py, PyAny>, name: &Py<PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if headers.get_type_ptr().cast() != self.fields.as_ptr() {
            return first_if_there(headers, name);
        }
        let first = self.get.bind(headers.py()).call1((headers, name))?;
        Ok((!first.is_none()).then_some(first))
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
            Field::SecPurpose => &self.sec_purpose,
            Field::Upgrade => &self.upgrade,
            Field::SecWebSocketKey => &self.sec_websocket_key,
            Field::SecWebSocketVersion => &self.sec_websocket_version,
            Field::Accept => &self.accept,
            Field::AcceptLanguage => &self.accept_language,
            Field::Referer => &self.referer,
            Field::UserAgent => &self.user_agent,
            Field::Traceparent => &self.traceparent,
            Field::AccessControlRequestMethod => &self.access_control_request_method,
            Field::XOriginalMethod => &self.x_original_method,
            Field::XForwardedMethod => &self.x_forwarded_method,
            Field::XForwardedHost => &self.x_forwarded_host,
            Field::XForwardedProto => &self.x_forwarded_proto,
        }
    }
}

/// A text of a request. Bytes that are not UTF-8 reach Python as surrogates; they become U+FFFD, which no key and no path
/// holds.
pub enum Text<'py> {
    Python(Bound<'py, PyString>, OnceCell<Zeroizing<String>>),
    Copied(Zeroizing<String>),
}

impl<'py> Text<'py> {
    fn of(value: Bound<'py, PyAny>) -> Option<Self> {
        Some(Self::Python(value.cast_into().ok()?, OnceCell::new()))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Python(text, lossy) => match text.to_str() {
                Ok(text) => text,
                Err(_) => lossy.get_or_init(|| Zeroizing::new(text.to_string_lossy().into_owned())),
            },
            Self::Copied(text) => text,
        }
    }
}

/// One request. A Python exception while reading a fact makes that fact absent, so that the request is refused rather
/// than admitted, and is kept for the caller to raise.
pub struct Request<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
    headers: Bound<'py, PyAny>,
    reader: &'a Reader,
    resolved: OnceCell<Option<Resolved<'py>>>,
    remote: OnceCell<Option<IpAddr>>,
    client: OnceCell<Option<IpAddr>>,
    error: RefCell<Option<PyErr>>,
}

/// What requests are read with.
pub struct Reader {
    pub names: Names,
    pub trusted: TrustedProxies,
    pub client_field: ClientField,
    pub notices: Notices,
    pub connections: Connections,
    /// The name under which a request keeps the keys before its path.
    pub url_keys: OnceLock<Py<PyAny>>,
    pub keys: Arc<KeyStore>,
    pub scopes: Scopes,
    pub known: Known,
    /// The routes that this package has added.
    pub our_own: Py<PySet>,
}

/// What the router found: the resource's canonical path and, below a static mount, the file.
struct Resolved<'py> {
    canonical: Text<'py>,
    file: Option<Text<'py>>,
}

impl<'a, 'py> Request<'a, 'py> {
    pub fn new(object: &'a Bound<'py, PyAny>, reader: &'a Reader) -> PyResult<Self> {
        let headers = aiohttp::headers(object)?;
        Ok(Self {
            object,
            headers,
            reader,
            resolved: OnceCell::new(),
            remote: OnceCell::new(),
            client: OnceCell::new(),
            error: RefCell::default(),
        })
    }

    pub fn py(&self) -> Python<'py> {
        self.object.py()
    }

    /// The exception that reading a fact raised.
    pub fn take_error(&self) -> Option<PyErr> {
        self.error.take()
    }

    /// Tells the operator about a page that was refused.
    pub fn tell_of_foreign_page(&self) {
        self.reader.notices.foreign_page(self);
    }

    /// The label of a key.
    pub fn label_of(&self, key: KeyId) -> Option<String> {
        self.reader.keys.current().by_id(key, Now::at(0))?.label().map(str::to_owned)
    }

    /// Whether it queues a prompt in ComfyUI.
    pub fn is_a_prompt(&self) -> bool {
        self.reader.scopes.in_comfyui() && request::is_a_prompt(self)
    }

    fn read<T>(&self, fact: impl FnOnce() -> PyResult<T>) -> Option<T> {
        fact().map_err(|error| *self.error.borrow_mut() = Some(error)).ok()
    }

    fn getall(&self, name: &Py<PyAny>) -> Option<Bound<'py, PyList>> {
        let py = self.object.py();
        let all = self.read(|| self.headers.call_method1(intern!(py, "getall"), (name, py.None())))?;
        all.cast_into().ok()
    }

    /// Whether the request line has no `?`, so that the URL need not be parsed to find no query.
    fn has_no_query(&self) -> bool {
        let target = aiohttp::target(self.object).ok().and_then(Text::of);
        target.is_some_and(|target| memchr(b'?', target.as_bytes()).is_none())
    }

    fn resolve(&self) -> PyResult<Option<Resolved<'py>>> {
        let py = self.object.py();
        let resource = aiohttp::resource(self.object)?;
        if resource.is_none() {
            return Ok(None);
        }
        let names = &self.reader.names;
        let class = resource.get_type();
        let is_static = !names.other_resources.iter().any(|other| class.is(other))
            && resource.is_instance(names.static_resource.bind(py))?;
        let file = || self.object.getattr(intern!(py, "match_info"))?.get_item(intern!(py, "filename"));
        let file = is_static.then(file).transpose()?;
        let canonical = Text::of(resource.getattr(intern!(py, "canonical"))?);
        Ok(canonical.map(|canonical| Resolved { canonical, file: file.and_then(Text::of) }))
    }

    fn remote_name(&self) -> PyResult<Bound<'py, PyAny>> {
        self.object.getattr(intern!(self.object.py(), "remote"))
    }

    fn remote(&self) -> Option<IpAddr> {
        let address = || {
            // Link-local IPv6 addresses name their interface: fe80::1%eth0.
            let remote = self.read(|| self.remote_name()).and_then(Text::of)?;
            remote.split('%').next().unwrap_or_default().parse().ok()
        };
        *self.remote.get_or_init(address)
    }

    /// What the proxies say about the client.
    fn forwarded(&self) -> String {
        let all = self.getall(&self.reader.names.client);
        let values = all.into_iter().flatten().filter_map(Text::of).map(|value| value.to_owned());
        values.collect::<Vec<_>>().join(",")
    }

    fn address(&self) -> Option<IpAddr> {
        let Reader { names, trusted, client_field, notices, .. } = self.reader;
        let peer = self.remote()?;
        let has = |name: &Py<PyAny>| self.headers.contains(name).unwrap_or(false);
        if !trusted.contains(peer) {
            if is_local(peer) && notices.unnamed_proxy.is_due() && (has(&names.client) || names.clients.iter().any(has))
            {
                notices.unnamed_proxy(self.py(), peer);
            }
            return Some(peer.to_canonical());
        }
        let value = self.forwarded();
        if notices.no_client.is_due() {
            if client_field.names_a_client(&value) {
                notices.no_client.settle();
            } else {
                notices.no_client(self.py(), peer, client_field);
            }
        }
        Some(trusted.client(peer, client_field, &value))
    }
}

/// The first value of a field. Asks first whether it is there: most requests lack it, and asking costs less than looking it
/// up.
fn first_if_there<'py>(headers: &Bound<'py, PyAny>, name: &Py<PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    headers.contains(name)?.then(|| headers.get_item(name)).transpose()
}

/// The values of one field. All but the first are looked up only when they are asked for.
struct Values<'r, 'a, 'py> {
    request: &'r Request<'a, 'py>,
    field: Field,
    /// How many were returned.
    told: usize,
    all: Option<Bound<'py, PyList>>,
}

impl<'py> Values<'_, '_, 'py> {
    /// The first value, in the way that costs least for this field.
    fn first(&mut self) -> Option<Bound<'py, PyAny>> {
        let name = self.request.reader.names.of(self.field);
        let headers = &self.request.headers;
        match self.field {
            // All of them are looked at.
            Field::SecFetchSite => {
                self.all = self.request.getall(name);
                self.listed()
            }
            // Most requests have these.
            Field::Authorization | Field::Host | Field::Cookie => {
                self.request.read(|| self.request.reader.names.get(headers, name)).flatten()
            }
            _ => self.request.read(|| first_if_there(headers, name)).flatten(),
        }
    }

    fn listed(&self) -> Option<Bound<'py, PyAny>> {
        let all = self.all.as_ref().filter(|all| self.told < all.len())?;
        all.get_item(self.told).ok()
    }
}

impl<'py> Iterator for Values<'_, '_, 'py> {
    type Item = Text<'py>;

    fn next(&mut self) -> Option<Text<'py>> {
        let value = if self.told == 0 {
            self.first()
        } else {
            if self.all.is_none() {
                self.all = self.request.getall(self.request.reader.names.of(self.field));
            }
            self.listed()
        };
        self.told += 1;
        value.and_then(Text::of)
    }
}

impl<'py> request::Request for Request<'_, 'py> {
    type Text = Text<'py>;

    fn values(&self, field: Field) -> impl Iterator<Item = Text<'py>> {
        Values { request: self, field, told: 0, all: None }
    }

    fn has(&self, field: Field) -> bool {
        self.read(|| self.headers.contains(self.reader.names.of(field))).unwrap_or(false)
    }

    fn header_size(&self) -> usize {
        let fields = || self.object.getattr(intern!(self.py(), "raw_headers"))?.extract();
        let fields: Vec<(Bound<'_, PyBytes>, Bound<'_, PyBytes>)> = self.read(fields).unwrap_or_default();
        fields.iter().map(|(name, value)| name.as_bytes().len() + value.as_bytes().len()).sum()
    }

    fn query(&self) -> Option<Text<'py>> {
        if self.has_no_query() {
            return None;
        }
        let py = self.object.py();
        let query = || self.object.getattr(intern!(py, "rel_url"))?.getattr(intern!(py, "raw_query_string"));
        self.read(query).and_then(Text::of)
    }

    fn is_legible(&self) -> bool {
        // Bytes that are not UTF-8 become surrogates, which no log can write.
        let is_legible = || Ok(aiohttp::target(self.object)?.cast::<PyString>()?.to_str().is_ok_and(is_legible));
        self.read(is_legible).unwrap_or(false)
    }

    fn url_keys(&self) -> impl Iterator<Item = Text<'py>> {
        let state = self.reader.url_keys.get().and_then(|name| self.read(|| aiohttp::state(self.object, name)));
        let keys = state.and_then(|keys| Some(keys.cast::<UrlKeys>().ok()?.get().keys()));
        keys.into_iter().flatten().map(Text::Copied)
    }

    fn method(&self) -> Text<'py> {
        let method = self.read(|| aiohttp::method(self.object)).and_then(Text::of);
        method.unwrap_or_else(|| Text::Copied(Zeroizing::default()))
    }

    fn route(&self) -> Route<'_> {
        match self.resolved.get_or_init(|| self.read(|| self.resolve()).flatten()) {
            None => Route::Unmatched,
            Some(Resolved { canonical, file: None }) => Route::Path(canonical),
            Some(Resolved { canonical, file: Some(file) }) => Route::Static { prefix: canonical, file },
        }
    }

    /// A class has a function for each method.
    fn handles_options(&self) -> bool {
        let py = self.object.py();
        let options = || {
            let route = aiohttp::route(self.object)?;
            let handler = route.getattr(intern!(py, "handler"))?;
            let of_class = handler.is_instance_of::<PyType>() && handler.hasattr(intern!(py, "options"))?;
            let is_found = !route.getattr(intern!(py, "resource"))?.is_none();
            Ok(is_found && (of_class || route.getattr(intern!(py, "method"))?.eq(intern!(py, "OPTIONS"))?))
        };
        self.read(options).unwrap_or(false)
    }

    fn peer(&self) -> Option<u64> {
        if !self.reader.trusted.is_empty() {
            return None;
        }
        // A string remembers its hash, and this one stays with the connection.
        Some(aiohttp::peer_address(self.object)?.cast::<PyString>().ok()?.hash().ok()?.cast_unsigned() as u64)
    }

    fn client(&self) -> Option<IpAddr> {
        *self.client.get_or_init(|| self.address())
    }

    fn known_client(&self) -> Option<IpAddr> {
        let Reader { names, trusted, client_field, .. } = self.reader;
        let peer = self.remote()?;
        if trusted.contains(peer) {
            return trusted.known_client(peer, client_field, &self.forwarded());
        }
        let has = |name: &Py<PyAny>| self.headers.contains(name).unwrap_or(true);
        let is_a_proxy = is_local(peer) && (has(&names.client) || names.clients.iter().any(has));
        (!is_a_proxy).then(|| peer.to_canonical())
    }

    fn is_our_own(&self) -> bool {
        let is_our_own = || {
            Ok(aiohttp::is_marked(self.object)
                && self.reader.our_own.bind(self.py()).contains(aiohttp::route(self.object)?)?)
        };
        self.read(is_our_own).unwrap_or(false)
    }

    fn handler(&self) -> Handler {
        self.read(|| self.reader.scopes.handler(self.object)).unwrap_or(Handler::Unknown)
    }

    fn known_scopes(&self) -> Option<keys::Scopes> {
        self.read(|| self.reader.known.get(self.object)).flatten()
    }

    fn remember_scopes(&self, needed: keys::Scopes) {
        let _ = self.read(|| self.reader.known.set(self.object, needed));
    }

    fn user_files(&self, key: &Entry) -> Option<Vec<String>> {
        self.read(|| self.reader.scopes.user_files(self.object, key)).flatten()
    }

    fn needed_scopes(&self) -> keys::Scopes {
        self.read(|| self.reader.scopes.needed(self.object)).unwrap_or(keys::Scopes::ALL)
    }

    fn client_is_peer(&self) -> bool {
        // A middleware before ours may have put another address there.
        let (Some(peer), Ok(remote)) = (aiohttp::peer_address(self.object), self.remote_name()) else { return false };
        self.reader.trusted.is_empty() && remote.eq(peer).unwrap_or(false)
    }

    fn proxied(&self) -> bool {
        let trusted = &self.reader.trusted;
        !trusted.is_empty() && self.remote().is_some_and(|peer| trusted.contains(peer))
    }

    fn takes_over(&self, by: Option<&str>) -> bool {
        self.read(|| self.reader.connections.owned(self.object, by)).unwrap_or(true)
    }
}
