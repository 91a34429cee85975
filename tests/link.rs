//! What links to our pages may do, as tables: name, request, result.

#![allow(clippy::unwrap_used)]

mod requests;

use std::time::Duration;

use comfy_auth_rs::check::Context;
use comfy_auth_rs::decide::{Policy, decide};
use comfy_auth_rs::exempt::{Application, Exemptions, Route};
use comfy_auth_rs::keys::{Keys, parse_file};
use comfy_auth_rs::link::{Link, follow, key_in, site};
use comfy_auth_rs::origin::OwnOrigins;
use comfy_auth_rs::request::{Field, Now, Question};
use comfy_auth_rs::scope::Table;
use comfy_auth_rs::session;
use comfy_auth_rs::state::State;
use requests::{Request, request};

const KEY: &str = "right+/=";
const OTHER_KEY: &str = "right-too";
const NOW: Now = Now { monotonic: Duration::from_secs(100), unix: 1_800_000_000, ahead: 1_800_000_000_000 };

struct Server {
    keys: Keys,
    state: State,
    exemptions: Exemptions,
    own_origins: OwnOrigins,
}

impl Server {
    fn new() -> Self {
        let text = format!("{KEY} mine\n{OTHER_KEY}");
        Self {
            keys: Keys::new(&parse_file("keys", text.as_bytes()).unwrap()),
            state: State::default(),
            exemptions: Exemptions::new::<&str>(Application::ComfyUi { require_ws: false }, &[]).unwrap(),
            own_origins: OwnOrigins::default(),
        }
    }

    fn ask<T>(&self, request: &Request, answer: impl FnOnce(&Context<'_, '_, Request>, &Policy<'_>) -> T) -> T {
        let Self { keys, state, exemptions, own_origins } = self;
        let scopes = &Table::ComfyUi;
        let policy = Policy { keys, state, exemptions, scopes, own_origins, trace: None };
        answer(&Context { policy: &policy, request, question: Question::LogInByLink, now: NOW }, &policy)
    }

    /// What becomes of a link, in a word, and the key that would be sent.
    fn follow(&self, request: &Request) -> &'static str {
        self.ask(request, |context, policy| {
            match follow(context, &decide(policy, request, Question::LogInByLink, NOW)) {
                Link::Page => "page",
                Link::GoOn => "go on",
                Link::LogIn(_) => "log in",
                Link::Ask { grant, by_itself } => {
                    assert_eq!(key_in(context, grant.key).unwrap().as_str(), KEY);
                    if by_itself { "ask the browser" } else { "ask" }
                }
            }
        })
    }

    fn site(&self, request: &Request) -> &'static str {
        self.ask(request, |context, _| site(context))
    }

    fn cookie(&self, key: &str) -> String {
        let entry = self.keys.verify(key.as_bytes(), NOW).ok().unwrap();
        format!("comfyui_session_8188={}", session::issue(entry, session::BROWSER, NOW.unix))
    }
}

fn plain() -> Request {
    request("GET", Route::Path("/")).with(Field::Accept, "text/html")
}

/// A browser over plain HTTP, which doesn't say where a request comes from.
fn browser() -> Request {
    plain().with(Field::UserAgent, "Mozilla/5.0")
}

/// A browser that says it.
fn from(site: &str) -> Request {
    let opened = browser().with(Field::SecFetchMode, "navigate").with(Field::SecFetchDest, "document");
    opened.with(Field::SecFetchSite, site)
}

fn embedded(site: &str, mode: &str, destination: &str) -> Request {
    let embedded = browser().with(Field::SecFetchSite, site).with(Field::SecFetchMode, mode);
    embedded.with(Field::SecFetchDest, destination)
}

#[test]
fn a_link_with_a_key_logs_in_by_itself_only_where_the_person_surely_wants_it() {
    let server = Server::new();
    let (same, other) = (server.cookie(KEY), server.cookie(OTHER_KEY));
    let link = |request: Request| request.query("api_key=wrong&api_key=right%2B/=");
    for (name, request, expected, with_another_session) in [
        ("typed", from("none"), "log in", "ask"),
        ("on a page of ours", from("same-origin"), "log in", "ask"),
        ("typed, told by less", browser().with(Field::SecFetchSite, "none"), "log in", "ask"),
        ("loaded in advance", from("none").with(Field::SecPurpose, "prefetch;prerender"), "ask the browser", "ask"),
        ("on another site's page", from("cross-site"), "ask", "ask"),
        ("on another port's page", from("same-site"), "ask", "ask"),
        ("a fetch of another port's page", embedded("same-site", "no-cors", "empty"), "ask", "ask"),
        ("a frame there", embedded("same-site", "navigate", "iframe"), "ask", "ask"),
        ("a picture there", embedded("cross-site", "no-cors", "image"), "ask", "ask"),
        ("a picture of ours", embedded("same-origin", "no-cors", "image"), "ask the browser", "ask"),
        ("a frame of ours", embedded("same-origin", "navigate", "iframe"), "ask the browser", "ask"),
        ("a field twice", from("none").with(Field::SecFetchSite, "none"), "ask", "ask"),
        ("over plain HTTP", browser(), "ask the browser", "ask"),
        ("with a referrer", plain().with(Field::Referer, "http://evil.example/"), "ask the browser", "ask"),
        ("of a program", plain(), "log in", "ask"),
        ("of HEAD", Request { method: "HEAD", ..from("none") }, "page", "page"),
    ] {
        assert_eq!(server.follow(&link(request.clone())), expected, "{name}");
        let cookies = |cookie: &str| link(request.clone().with(Field::Cookie, cookie));
        assert_eq!(server.follow(&cookies(&other)), with_another_session, "{name}, another session");
        let goes_on = if expected == "page" { "page" } else { "go on" };
        assert_eq!(server.follow(&cookies(&same)), goes_on, "{name}, a session of the same key");
        let forged = format!("{other}x");
        let marked = if expected == "log in" && name == "of a program" { "ask the browser" } else { expected };
        assert_eq!(server.follow(&cookies(&forged)), marked, "{name}, a cookie that doesn't verify");
    }
    assert_eq!(server.follow(&browser().url_key("wrong").url_key(KEY)), "ask the browser", "before the path");
}

#[test]
fn another_sites_link_is_followed_once_more() {
    let server = Server::new();
    for (name, request, expected) in [
        ("another site's", from("cross-site"), "go on"),
        ("with a wrong key", from("cross-site").query("api_key=wrong"), "go on"),
        ("ours", from("same-origin"), "page"),
        ("typed", from("none"), "page"),
        ("embedded", embedded("cross-site", "no-cors", "image"), "page"),
        ("a frame", embedded("cross-site", "navigate", "iframe"), "page"),
        ("who knows", browser(), "page"),
        ("a wrong key", from("none").query("api_key=wrong"), "page"),
        ("a program", request("GET", Route::Path("/")).query("api_key=right%2B/="), "page"),
    ] {
        assert_eq!(server.follow(&request), expected, "{name}");
    }
}

#[test]
fn where_a_visit_of_the_login_page_comes_from() {
    let server = Server::new();
    let session = server.cookie(KEY);
    let with_session = |request: Request| request.with(Field::Cookie, session.clone());
    for (name, request, expected) in [
        ("what the browser says", from("same-origin"), "same-origin"),
        ("typed", from("none"), "none"),
        ("another port", with_session(from("same-site")), "same-site"),
        ("another site", with_session(from("cross-site")), "cross-site"),
        ("no word of theirs", with_session(from("\"><script>")), ""),
        ("a field twice", with_session(from("none").with(Field::SecFetchSite, "none")), ""),
        ("who knows", browser(), ""),
        ("a Strict cookie over plain HTTP", with_session(browser()), "session"),
        ("whose referrer the page can see", with_session(browser().with(Field::Referer, "http://evil.example/")), ""),
        ("a cookie that doesn't verify", browser().with(Field::Cookie, format!("{session}x")), ""),
        ("a session of another server", browser().with(Field::Cookie, session.replace("8188", "8189")), ""),
        ("a key that the browser may add by itself", browser().bearer(KEY), ""),
    ] {
        assert_eq!(server.site(&request), expected, "{name}");
    }
}
