//! Whether a browser's request comes from this server's own pages.
//!
//! `Sec-Fetch-Site` (W3C Fetch Metadata) says so where browsers send it: on HTTPS and on loopback. Elsewhere `Origin`
//! (RFC 6454) is compared with `Host`. A request that says neither is not known to be ours. No script can set these fields.

use crate::request::{Field, Question, Request, combined, has, host};

/// What `Sec-Fetch-Site` says of a request from our own pages, and of one by the person at the address bar.
const OURS: [&str; 2] = ["same-origin", "none"];

/// For requests that change something: they must be known to come from our own pages, or from the person.
pub fn is_same_origin<R: Request>(request: &R, question: Question<'_>) -> bool {
    match combined(request, Field::SecFetchSite) {
        Some(site) => OURS.contains(&site.as_str()),
        None => combined(request, Field::Origin).is_some_and(|origin| {
            combined(request, host(request, question)).is_some_and(|host| is_origin_of(&origin, &host))
        }),
    }
}

/// Whether a page of another origin sends this. For a log-in, which has its own credential: a program that says nothing may
/// send it, a foreign page must not, or it could log the person in with a key of its own.
pub fn is_foreign<R: Request>(request: &R, question: Question<'_>) -> bool {
    (has(request, Field::SecFetchSite) || has(request, Field::Origin)) && !is_same_origin(request, question)
}

/// For reads: a page of another origin (another port of this host, whose requests carry even a Strict cookie) may link
/// here, but not embed what it finds: no `<img>`, `fetch` or `<iframe>`.
pub fn may_read<R: Request>(request: &R) -> bool {
    combined(request, Field::SecFetchSite).is_none_or(|site| {
        OURS.contains(&site.as_str())
            || (combined(request, Field::SecFetchMode).as_deref() == Some("navigate")
                && combined(request, Field::SecFetchDest).as_deref() == Some("document"))
    })
}

/// Whether `origin` (`scheme://host[:port]`) names the server that `host` (`host[:port]`) names. A missing port is the
/// scheme's default.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (name, port) = split_port(authority);
    let (host_name, host_port) = split_port(host);
    !name.is_empty() && name.eq_ignore_ascii_case(host_name) && port.unwrap_or(default) == host_port.unwrap_or(default)
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
#[path = "../tests/units/origin.rs"]
mod tests;
