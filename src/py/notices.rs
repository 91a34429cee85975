//! What an operator should change about the proxies in front: one log line each, when requests first show it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use super::log;
use super::request::Request;
use crate::client::ClientField;
use crate::origin::page_and_address;

/// Which lines have not been logged yet.
#[derive(Default)]
pub struct Notices {
    pub unnamed_proxy: Once,
    pub no_client: Once,
    foreign_page: Once,
}

/// A line that is logged at most once, and never once it is known to be untrue.
#[derive(Default)]
pub struct Once(AtomicBool);

impl Once {
    pub fn is_due(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    /// Never log it from now on.
    pub fn settle(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn say(&self, py: Python<'_>, message: impl FnOnce() -> String) {
        if !self.0.swap(true, Ordering::Relaxed) {
            // What a handler of `logging` raises must not decide about a request.
            let _ = log::warning(py, &message());
        }
    }
}

impl Notices {
    /// A proxy that is not trusted forwards requests of others.
    #[cold]
    pub fn unnamed_proxy(&self, py: Python<'_>, peer: IpAddr) {
        self.unnamed_proxy.say(py, || {
            format!(
                "comfy-auth-rs: {peer} forwards requests of other clients, but is not a trusted proxy: all its clients \
                 count as one address, and one that guesses keys locks out the others. Start with --auth-trusted-proxy \
                 {peer}, and name the header in which it sends the client's address with --auth-client-field"
            )
        });
    }

    /// A trusted proxy does not say whose request it is.
    #[cold]
    pub fn no_client(&self, py: Python<'_>, peer: IpAddr, field: &ClientField) {
        self.no_client.say(py, || {
            format!(
                "comfy-auth-rs: the trusted proxy {peer} doesn't name the client in {}: all its clients count as one \
                 address, and one that guesses keys locks out the others. Have it set that field, or name the \
                 field that it sets with --auth-client-field",
                field.name()
            )
        });
    }

    /// A page of another origin than the browser used was refused.
    #[cold]
    pub fn foreign_page(&self, request: &Request<'_, '_>) {
        let Some((page, address)) = page_and_address(request).filter(|_| self.foreign_page.is_due()) else { return };
        self.foreign_page.say(request.py(), || {
            format!(
                "comfy-auth-rs: a page from {page} was refused, because its request was for {address}. If {page} is \
                 where you open this server, have the proxy pass the host on (nginx: proxy_set_header Host $http_host), or send it \
                 in X-Forwarded-Host and be named with --auth-trusted-proxy; or start with --auth-origin {page}"
            )
        });
    }
}
