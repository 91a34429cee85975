//! A request to a neighbour, about which a proxy asks with a request of its own (`/auth_verify`).
//!
//! nginx's `auth_request`, Traefik's `ForwardAuth` and Caddy's `forward_auth` ask with a GET that bears the original
//! request's fields. Rule 2 judges the original: asked about somebody's POST, the cookie alone must not do because the
//! question was a GET.

use std::net::IpAddr;
use std::ops::ControlFlow;

use crate::decide::{Facts, Field, Visit, has};
use crate::exempt::Route;

/// The facts of the original request, as far as the proxy's question tells them.
pub struct Guarded<'a, F>(pub &'a F);

/// What nginx's documentation uses, and what Traefik and Caddy send. Where a proxy sets neither, a client may; so they
/// can only make the judgement stricter.
const METHODS: [Field; 2] = [Field::XOriginalMethod, Field::XForwardedMethod];

/// Browsers send `Origin` with all that may change something and with every WebSocket, but not with a link (Fetch,
/// section 3.2). Rule 2 looks at `Upgrade` itself, but proxies keep that one to themselves, unlike the handshake's key.
const CHANGES: [Field; 2] = [Field::Origin, Field::SecWebSocketKey];

impl<F: Facts> Facts for Guarded<'_, F> {
    /// `Host` is the one that the browser used: it names the session's cookie, and is what `Origin` is compared with.
    /// Traefik puts its own address into the question's.
    fn visit(&self, field: Field, each: Visit<'_>) {
        let forwarded = field == Field::Host && self.0.proxied() && has(self.0, Field::XForwardedHost);
        self.0.visit(if forwarded { Field::XForwardedHost } else { field }, each);
    }

    fn query(&self, each: Visit<'_>) {
        self.0.query(each);
    }

    /// Empty, and so no read, where the original may have been anything else.
    fn method(&self) -> String {
        let mut reads = !CHANGES.iter().any(|&field| has(self.0, field));
        for field in METHODS {
            self.0.visit(field, &mut |method| {
                reads &= ["GET", "HEAD", "OPTIONS"].contains(&method);
                ControlFlow::Continue(())
            });
        }
        if reads { self.0.method() } else { String::new() }
    }

    fn route(&self, judge: &mut dyn FnMut(Route<'_>)) {
        self.0.route(judge);
    }

    fn peer(&self) -> Option<u64> {
        self.0.peer()
    }

    fn client(&self) -> Option<IpAddr> {
        self.0.client()
    }

    fn client_is_peer(&self) -> bool {
        self.0.client_is_peer()
    }

    fn proxied(&self) -> bool {
        self.0.proxied()
    }

    fn takes_over(&self) -> bool {
        self.0.takes_over()
    }
}
