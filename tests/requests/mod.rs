//! Requests as tests describe them.

#![allow(dead_code, reason = "each of those that include it uses a part")]

use std::net::IpAddr;

use comfy_auth_rs::exempt::Route;
use comfy_auth_rs::keys::{Entry, Scopes};
use comfy_auth_rs::legible::is_legible;
use comfy_auth_rs::request::{self, Field, Handler};

pub const HOST: &str = "comfy.example:8188";

/// A request as a test describes it.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub struct Request {
    pub method: &'static str,
    pub target: &'static str,
    pub route: Route<'static>,
    pub fields: Vec<(Field, String)>,
    pub query: Option<String>,
    pub url_keys: Vec<String>,
    pub client: Option<IpAddr>,
    pub takes_over: bool,
    pub proxied: bool,
    pub handles_options: bool,
    pub client_unknown: bool,
    pub handler: Handler,
    pub user_files: Option<Vec<String>>,
}

pub fn request(method: &'static str, route: Route<'static>) -> Request {
    Request {
        method,
        target: "/",
        route,
        fields: vec![(Field::Host, HOST.to_owned())],
        query: None,
        url_keys: Vec::new(),
        client: Some([192, 0, 2, 1].into()),
        takes_over: false,
        proxied: false,
        handles_options: false,
        client_unknown: false,
        handler: Handler::ComfyUi,
        user_files: None,
    }
}

/// `GET` of a route that needs the key.
pub fn get() -> Request {
    request("GET", Route::Path("/prompt"))
}

impl Request {
    pub fn with(mut self, field: Field, value: impl Into<String>) -> Self {
        self.fields.push((field, value.into()));
        self
    }

    pub fn without(mut self, field: Field) -> Self {
        self.fields.retain(|(name, _)| *name != field);
        self
    }

    pub fn bearer(self, key: &str) -> Self {
        self.with(Field::Authorization, format!("Bearer {key}"))
    }

    pub fn query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned());
        self
    }

    pub fn url_key(mut self, key: &str) -> Self {
        self.url_keys.push(key.to_owned());
        self
    }

    pub fn from(mut self, client: Option<IpAddr>) -> Self {
        self.client = client;
        self
    }

    pub fn upgrade(self) -> Self {
        self.with(Field::Upgrade, "websocket")
    }
}

impl request::Request for Request {
    type Text = String;

    fn values(&self, field: Field) -> impl Iterator<Item = String> {
        self.fields.iter().filter(move |(name, _)| *name == field).map(|(_, value)| value.clone())
    }

    fn has(&self, field: Field) -> bool {
        self.values(field).next().is_some()
    }

    fn header_size(&self) -> usize {
        self.fields.iter().map(|(_, value)| value.len()).sum()
    }

    fn query(&self) -> Option<String> {
        self.query.clone()
    }

    fn is_legible(&self) -> bool {
        is_legible(self.target)
    }

    fn url_keys(&self) -> impl Iterator<Item = String> {
        self.url_keys.iter().cloned()
    }

    fn method(&self) -> String {
        self.method.to_owned()
    }

    fn route(&self) -> Route<'_> {
        self.route
    }

    fn handles_options(&self) -> bool {
        self.handles_options
    }

    fn peer(&self) -> Option<u64> {
        None
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn client_is_peer(&self) -> bool {
        false
    }

    fn proxied(&self) -> bool {
        self.proxied
    }

    fn known_client(&self) -> Option<IpAddr> {
        self.client.filter(|_| !self.client_unknown)
    }

    fn is_our_own(&self) -> bool {
        matches!(self.route, Route::Path("/" | "/health" | "/auth_session" | "/auth_login.html"))
    }

    fn handler(&self) -> Handler {
        self.handler
    }

    fn known_scopes(&self) -> Option<Scopes> {
        None
    }

    fn remember_scopes(&self, _: Scopes) {}

    fn user_files(&self, _: &Entry) -> Option<Vec<String>> {
        self.user_files.clone()
    }

    fn needed_scopes(&self) -> Scopes {
        Scopes::ALL
    }

    fn takes_over(&self, _: Option<&str>) -> bool {
        self.takes_over
    }
}
