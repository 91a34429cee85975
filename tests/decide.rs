//! The policy as tables, one or more for each numbered rule of `decide`: name, request, result.

#![allow(clippy::unwrap_used)]

mod requests;

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use comfy_auth_rs::credential::Source;
use comfy_auth_rs::decide::{MAX_COOKIES, MAX_CREDENTIALS, MAX_HEADER, Policy, decide, open_socket};
use comfy_auth_rs::decision::{Admission, Decision, Denial, Grant, Level};
use comfy_auth_rs::exempt::{Application, Exemptions, Route};
use comfy_auth_rs::keys::{Attributes, Entry, KeyId, Keys, Quota, Scope, Scopes, parse_file};
use comfy_auth_rs::origin::OwnOrigins;
use comfy_auth_rs::prompt::take_place;
use comfy_auth_rs::request::{self as core, Field, Handler, Now, Question, Wanted};
use comfy_auth_rs::scope::Table;
use comfy_auth_rs::session;
use comfy_auth_rs::state::State;
use comfy_auth_rs::state::sockets::MAX_OF_ONE;
use comfy_auth_rs::state::throttle::{FIRST_LOCK, MAX_FAILURES};
use comfy_auth_rs::trace::Trace;
use comfy_auth_rs::validity::still_admits;
use requests::{HOST, Request, get, request};

const KEY: &str = "right";
const OTHER_KEY: &str = "right-too";
/// Keys of 32 characters, one of them kept as a digest, and of 31.
const LONG_KEY: &str = "right-with-exactly-32-characters";
const DIGEST_KEY: &str = "right-as-a-digest-32-characters-";
const NEARLY_LONG_KEY: &str = "right-and-of-31-characters-only";
const SHORT_DIGEST_KEY: &str = "right-digest";
const UNIX: u64 = 1_800_000_000;
const START: Duration = Duration::from_secs(100);

/// A request of a browser that logged in.
trait LoggedIn {
    fn cookie(self, server: &Server) -> Self;
}

impl LoggedIn for Request {
    fn cookie(self, server: &Server) -> Self {
        self.with(Field::Cookie, server.cookie(KEY))
    }
}

/// A server with two keys.
struct Server {
    keys: Keys,
    state: State,
    exemptions: Exemptions,
    scopes: Table,
    own_origins: OwnOrigins,
    clock: Cell<Duration>,
}

impl Server {
    fn new() -> Self {
        Self::with(&[], false)
    }

    fn with(patterns: &[&str], require_ws: bool) -> Self {
        Self::of(Application::ComfyUi { require_ws }, patterns)
    }

    fn of(application: Application, patterns: &[&str]) -> Self {
        Self {
            keys: keys(&[
                KEY,
                OTHER_KEY,
                LONG_KEY,
                NEARLY_LONG_KEY,
                "sha256:7147b363c46d6bfe32fd4483c1e875eda7feb4dea3c1465286b1cf9d824a13b3",
                "sha256:2435370d98377d2e2b6ffa0c0b42b3bf723ceaa3fec5ef23510d4c1ddc8b0601",
            ]),
            state: State::default(),
            exemptions: Exemptions::new(application, patterns).unwrap(),
            scopes: Table::ComfyUi,
            own_origins: OwnOrigins::default(),
            clock: Cell::new(START),
        }
    }

    /// A server to whose own pages these origins belong.
    fn at(origins: &[&str]) -> Self {
        Self { own_origins: OwnOrigins::parse(origins).unwrap(), ..Self::new() }
    }

    fn now(&self) -> Now {
        Now { monotonic: self.clock.get(), unix: UNIX + self.clock.get().as_secs(), ..Now::at(UNIX) }
    }

    fn policy<'a>(&'a self, trace: Option<&'a Trace>) -> Policy<'a> {
        let Self { keys, state, exemptions, scopes, own_origins, .. } = self;
        Policy { keys, state, exemptions, scopes, own_origins, trace }
    }

    fn ask(&self, question: Question<'_>, request: &impl core::Request) -> Decision<'_> {
        decide(&self.policy(None), request, question, self.now())
    }

    /// The decision in a word: who was admitted, or the cause of the refusal.
    fn outcome(&self, request: &Request) -> String {
        word(Question::Access, &self.ask(Question::Access, request))
    }

    fn log_in(&self, request: &Request, form: &str) -> String {
        self.answer(Question::LogIn(Some(form)), request)
    }

    fn answer(&self, question: Question<'_>, request: &Request) -> String {
        word(question, &self.ask(question, request))
    }

    /// A `Cookie` field value of a browser that logged in with `key`.
    fn cookie(&self, key: &str) -> String {
        let entry = self.keys.verify(key.as_bytes(), Now::at(UNIX)).ok().unwrap();
        format!("comfyui_session_8188={}", session::issue(entry, session::BROWSER, self.now().unix))
    }

    /// Ten distinct guesses.
    fn lock(&self) {
        for number in 0..MAX_FAILURES {
            assert_eq!(self.outcome(&get().bearer(&format!("guess-{number}"))), "invalid_credential");
        }
    }

    /// Enough further guesses that no more are evaluated.
    fn guess_on(&self) {
        for number in 0..3000 {
            assert_eq!(self.outcome(&get().bearer(&format!("more-{number}"))), "locked");
        }
    }
}

fn keys(all: &[&str]) -> Keys {
    Keys::new(&parse_file("keys", all.join("\n").as_bytes()).unwrap())
}

fn word(question: Question<'_>, decision: &Decision<'_>) -> String {
    match decision {
        Decision::Granted(grant) => format!("{:?}", grant.source),
        Decision::Exempt | Decision::ExemptSocket => "anonymous".to_owned(),
        Decision::Preflight => "preflight".to_owned(),
        Decision::Denied(denial) | Decision::SentToLogin(denial) => denial.row(question).cause.to_owned(),
    }
}

fn denial(decision: &Decision<'_>) -> Denial {
    match decision {
        Decision::Denied(denial) | Decision::SentToLogin(denial) => *denial,
        _ => panic!("not refused"),
    }
}

fn basic(user_and_password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(user_and_password))
}

fn check(server: &Server, table: &[(&str, Request, &str)]) {
    for (name, request, expected) in table {
        assert_eq!(server.outcome(request), *expected, "{name}");
    }
}

/// Checks every case on its own server, so that wrong credentials don't add up.
fn check_apart(table: Vec<(&str, Request, &str)>) {
    for case in table {
        check(&Server::new(), &[case]);
    }
}

#[test]
fn rule_1_every_source_admits() {
    use Field::{Authorization, Cookie, XApiKey};
    let server = Server::new();
    let session = server.cookie(KEY);
    let cookie = |value: &str| get().with(Cookie, value);
    check(
        &server,
        &[
            ("nothing", get(), "missing_credential"),
            ("Bearer", get().bearer(KEY), "Bearer"),
            ("Bearer, the other key", get().bearer(OTHER_KEY), "Bearer"),
            ("scheme in small letters", get().with(Authorization, format!("bearer {KEY}")), "Bearer"),
            ("scheme in capitals, two spaces", get().with(Authorization, format!("BEARER  {KEY}")), "Bearer"),
            ("Basic", get().with(Authorization, basic("user:right")), "Basic"),
            ("Basic without a user", get().with(Authorization, basic(":right")), "Basic"),
            ("X-API-Key", get().with(XApiKey, KEY), "Header"),
            ("X-API-Key among spaces", get().with(XApiKey, " right\t"), "Header"),
            ("?api_key=", get().query("a=1&api_key=right&b"), "Query"),
            ("?token=", get().query("token=right"), "Query"),
            ("percent-encoded in the query", get().query("api_ke%79=%72ight"), "Query"),
            ("before the path", get().url_key(KEY), "UrlPrefix"),
            ("cookie", cookie(&session), "Cookie"),
            ("cookie among others", cookie(&format!("a=b; {session}; c=d")), "Cookie"),
            ("cookie in a second field", cookie("a=b").with(Cookie, &session), "Cookie"),
            ("without an address (a Unix socket)", get().bearer(KEY).from(None), "Bearer"),
        ],
    );
}

#[test]
fn rule_1_what_is_empty_or_does_not_verify_is_absent() {
    use Field::{Authorization, Cookie, XApiKey};
    let server = Server::new();
    let session = server.cookie(KEY);
    let (_, value) = session.split_once('=').unwrap();
    let mut gone = Server::new();
    gone.keys = keys(&["gone"]);
    check(
        &server,
        &[
            ("empty Authorization", get().with(Authorization, ""), "missing_credential"),
            ("Bearer alone", get().with(Authorization, "Bearer"), "missing_credential"),
            ("Bearer and a space", get().with(Authorization, "Bearer "), "missing_credential"),
            ("Basic with an empty password", get().with(Authorization, basic("user:")), "missing_credential"),
            ("another scheme", get().with(Authorization, "Digest username=\"right\""), "missing_credential"),
            ("a bare key is no scheme", get().with(Authorization, KEY), "missing_credential"),
            ("empty X-API-Key", get().with(XApiKey, ""), "missing_credential"),
            ("empty ?api_key=", get().query("api_key=&token="), "missing_credential"),
            ("?api_key", get().query("api_key"), "missing_credential"),
            ("the name in capitals", get().query("API_KEY=right"), "missing_credential"),
            ("empty cookie", get().with(Cookie, "comfyui_session_8188="), "missing_credential"),
            ("forged cookie", get().with(Cookie, "comfyui_session_8188=AAAA"), "missing_credential"),
            ("the key as cookie", get().with(Cookie, "comfyui_session_8188=right"), "missing_credential"),
            (
                "cookie of another port",
                get().with(Cookie, format!("comfyui_session_8189={value}")),
                "missing_credential",
            ),
            ("cookie of a key that is gone", get().with(Cookie, gone.cookie("gone")), "missing_credential"),
            (
                "cookie of this server, asked under another port",
                get().without(Field::Host).with(Field::Host, "comfy.example:9").with(Cookie, session),
                "missing_credential",
            ),
        ],
    );
}

#[test]
fn rule_1_wrong_and_malformed_are_invalid() {
    use Field::{Authorization, Cookie, XApiKey};
    check_apart(vec![
        ("Bearer", get().bearer("wrong"), "invalid_credential"),
        ("a key's beginning", get().bearer("righ"), "invalid_credential"),
        ("a key and more", get().bearer("right-"), "invalid_credential"),
        ("a key in capitals", get().bearer("RIGHT"), "invalid_credential"),
        ("Bearer, two words", get().bearer("right right"), "invalid_credential"),
        ("Bearer, not ASCII", get().bearer("right\u{fffd}"), "invalid_credential"),
        ("Basic", get().with(Authorization, basic("right:wrong")), "invalid_credential"),
        ("Basic, not base64", get().with(Authorization, "Basic !"), "invalid_credential"),
        ("Basic, no colon", get().with(Authorization, basic(KEY)), "invalid_credential"),
        ("X-API-Key", get().with(XApiKey, "wrong"), "invalid_credential"),
        ("X-API-Key with a scheme", get().with(XApiKey, "Bearer right"), "invalid_credential"),
        ("?api_key=", get().query("api_key=wrong"), "invalid_credential"),
        ("before the path", get().url_key("wrong"), "invalid_credential"),
        ("? with a plus", get().query("api_key=+right"), "invalid_credential"),
        (
            "wrong beside a forged cookie",
            get().bearer("wrong").with(Cookie, "comfyui_session_8188=A"),
            "invalid_credential",
        ),
    ]);
}

#[test]
fn rule_1_a_bad_one_never_vetoes_a_good_one() {
    use Field::{Authorization, Cookie, XApiKey};
    let server = Server::new();
    let session = server.cookie(KEY);
    check(
        &server,
        &[
            ("wrong Bearer, right X-API-Key", get().bearer("wrong").with(XApiKey, KEY), "Header"),
            ("right Bearer, wrong X-API-Key", get().bearer(KEY).with(XApiKey, "wrong"), "Bearer"),
            ("junk Authorization, right X-API-Key", get().with(Authorization, "Basic !").with(XApiKey, KEY), "Header"),
            ("wrong headers, right query", get().bearer("wrong").with(XApiKey, "wrong").query("token=right"), "Query"),
            (
                "wrong everywhere, right cookie",
                get().bearer("wrong").query("token=no").with(Cookie, &session),
                "Cookie",
            ),
            ("two Authorization fields, the second right", get().bearer("wrong").bearer(KEY), "Bearer"),
            ("two Authorization fields, the first right", get().bearer(KEY).bearer("wrong"), "Bearer"),
            ("two X-API-Key fields", get().with(XApiKey, "wrong").with(XApiKey, KEY), "Header"),
            ("?token= wrong, ?api_key= right", get().query("token=wrong&api_key=right"), "Query"),
            (
                "wrong elsewhere, right before the path",
                get().bearer("wrong").query("token=no").url_key(KEY),
                "UrlPrefix",
            ),
            ("before the path, twice", get().url_key("wrong").url_key(KEY), "UrlPrefix"),
            ("wrong before the path, right query", get().url_key("wrong").query("token=right"), "Query"),
            ("wrong before the path, right cookie", get().url_key("wrong").with(Cookie, &session), "Cookie"),
            ("?api_key= twice", get().query("api_key=wrong&api_key=right"), "Query"),
            (
                "a forged cookie before the right one",
                get().with(Cookie, format!("comfyui_session_8188=A; {session}")),
                "Cookie",
            ),
            ("all right: headers come before the query", get().with(XApiKey, KEY).query("api_key=right"), "Header"),
            (
                "all right: the cookie comes before the query",
                get().query("api_key=right").with(Cookie, &session),
                "Cookie",
            ),
        ],
    );
}

#[test]
fn rule_1_one_request_carries_only_so_many_guesses() {
    let guesses = |number: usize| (0..number).fold(get(), |request, guess| request.bearer(&format!("guess-{guess}")));
    let server = Server::new();
    let session = server.cookie(KEY);
    check_apart(vec![
        ("the last one that counts", guesses(MAX_CREDENTIALS - 1).bearer(KEY), "Bearer"),
        ("one too many", guesses(MAX_CREDENTIALS).bearer(KEY), "invalid_credential"),
        ("one too many, in another source", guesses(MAX_CREDENTIALS).with(Field::XApiKey, KEY), "invalid_credential"),
    ]);
    // The cookie is signed, so it is not a guess.
    assert_eq!(server.outcome(&guesses(MAX_CREDENTIALS).with(Field::Cookie, session)), "Cookie");
    let behind = |forged: usize| format!("{}{}", "comfyui_session_8188=A; ".repeat(forged), server.cookie(KEY));
    assert_eq!(server.outcome(&get().with(Field::Cookie, behind(MAX_COOKIES - 1))), "Cookie");
    assert_eq!(server.outcome(&get().with(Field::Cookie, behind(MAX_COOKIES))), "missing_credential");
}

#[test]
fn rule_1_a_session_ends_by_time_by_logout_and_with_its_key() {
    let mut server = Server::new();
    let mine = get().with(Field::Cookie, server.cookie(KEY));
    let other = get().with(Field::Cookie, server.cookie(OTHER_KEY));
    server.clock.set(START + session::BROWSER.saturating_sub(Duration::from_secs(1)));
    assert_eq!(server.outcome(&mine), "Cookie");
    server.clock.set(START + session::BROWSER);
    assert_eq!(server.outcome(&mine), "missing_credential");

    server.clock.set(START);
    let Decision::Granted(grant) = server.ask(Question::LogOut, &mine) else { panic!("no session to end") };
    server.state.log_outs.add(&grant.session.unwrap(), grant.key, server.now());
    assert_eq!(server.outcome(&mine), "missing_credential");
    assert_eq!(server.outcome(&other), "Cookie");

    server.keys = keys(&[KEY]);
    assert_eq!(server.outcome(&other), "missing_credential");
}

#[test]
fn rule_2_from_a_locked_address_sessions_and_long_keys_known_there() {
    let server = Server::new();
    for key in [KEY, LONG_KEY, DIGEST_KEY, NEARLY_LONG_KEY, SHORT_DIGEST_KEY] {
        assert_eq!(server.outcome(&get().bearer(key)), "Bearer", "{key}");
    }
    let unknown = server.cookie(OTHER_KEY);
    let foreign = |request: Request| request.cookie(&server).with(Field::SecFetchSite, "cross-site");
    let elsewhere = Some([192, 0, 2, 2].into());
    server.lock();
    server.guess_on();
    check(
        &server,
        &[
            ("a wrong key", get().bearer("wrong"), "locked"),
            ("one that was wrong before", get().bearer("guess-1"), "locked"),
            ("what cannot be one", get().with(Field::Authorization, "Basic !"), "locked"),
            ("a long key that was good before", get().bearer(LONG_KEY), "Bearer"),
            ("one that is kept as a digest", get().bearer(DIGEST_KEY), "Bearer"),
            ("a short key that was", get().bearer(KEY), "locked"),
            ("a short one that is kept as a digest", get().bearer(SHORT_DIGEST_KEY), "locked"),
            ("one that is nearly long", get().bearer(NEARLY_LONG_KEY), "locked"),
            ("a session", get().cookie(&server), "Cookie"),
            ("a session that is new here", get().with(Field::Cookie, unknown), "Cookie"),
            ("a session beside a short key", get().bearer(KEY).cookie(&server), "Cookie"),
            ("a session beside a wrong key", get().bearer("wrong").cookie(&server), "Cookie"),
            ("a long key beside a short one", get().bearer(KEY).with(Field::XApiKey, LONG_KEY), "Header"),
            ("a session of a foreign page", request("POST", Route::Path("/prompt")).cookie(&server), "cross_origin"),
            ("nothing", get(), "missing_credential"),
            ("somebody else", get().bearer(OTHER_KEY).from(elsewhere), "Bearer"),
            ("an exempt route", request("GET", Route::Path("/auth_login.html")).bearer("wrong"), "anonymous"),
            ("health, with a guess", request("GET", Route::Path("/health")).bearer("wrong"), "locked"),
            ("health, with a short key", request("GET", Route::Path("/health")).bearer(KEY), "locked"),
            ("health, without one", request("GET", Route::Path("/health")), "anonymous"),
            ("a foreign page's session", foreign(request("POST", Route::Path("/prompt"))), "cross_origin"),
        ],
    );
    let denial = denial(&server.ask(Question::Access, &get().bearer("wrong")));
    assert_eq!(denial, Denial::Locked { retry_after: FIRST_LOCK.as_secs() });
    server.clock.set(START + FIRST_LOCK);
    assert_eq!(server.outcome(&get().bearer(KEY)), "Bearer");
}

#[test]
fn rule_2_a_long_key_that_is_new_there_is_evaluated_like_any_other() {
    let server = Server::new();
    server.lock();
    assert_eq!(server.outcome(&get().bearer(LONG_KEY)), "Bearer", "one of ten");
    server.guess_on();
    assert_eq!(server.outcome(&get().bearer(LONG_KEY)), "Bearer", "good from there before now");
    assert_eq!(server.outcome(&get().bearer(DIGEST_KEY)), "locked");
}

#[test]
fn rule_2_ten_keys_are_evaluated_in_a_lock() {
    let root = || request("GET", Route::Path("/auth_verify"));
    let log_in = || request("POST", Route::Path("/auth_session"));
    for (name, wrong, right) in [("right ones", 0, 10), ("both", 7, 3), ("wrong ones", 10, 0)] {
        let server = Server::new();
        server.lock();
        for number in 0..wrong {
            assert_eq!(server.outcome(&get().bearer(&format!("more-{number}"))), "locked", "{name}");
        }
        for _ in 0..right {
            assert_eq!(server.outcome(&get().bearer(KEY)), "Bearer", "{name}");
        }
        assert_eq!(server.outcome(&get().bearer(KEY)), "locked", "{name}");
        assert_eq!(server.log_in(&log_in(), KEY), "locked", "{name}: nor at a log-in");
        assert_eq!(
            server.answer(Question::ForwardAuth(Wanted::Nothing), &root().bearer(KEY)),
            "locked",
            "{name}: nor for a proxy"
        );
    }
    let server = Server::new();
    server.lock();
    for _ in 0..10 {
        assert_eq!(server.outcome(&log_in().bearer(KEY)), "anonymous", "the route asks by itself");
        assert_eq!(server.log_in(&log_in().bearer(KEY), ""), "Bearer", "each is evaluated once");
    }
    assert_eq!(server.log_in(&log_in().bearer(KEY), ""), "locked");

    let server = Server::new();
    server.lock();
    let many = (0..MAX_FAILURES).fold(get(), |request, number| request.with(Field::XApiKey, format!("more-{number}")));
    assert_eq!(server.outcome(&many), "locked");
    assert_eq!(server.outcome(&get().bearer(KEY)), "locked", "it is keys that are counted, not requests");

    let server = Server::new();
    server.lock();
    for _ in 0..3 * MAX_FAILURES {
        assert_eq!(server.outcome(&get().bearer(KEY).cookie(&server)), "Cookie", "a session passes as it is");
        assert_eq!(server.outcome(&get().with(Field::Authorization, "Basic !")), "locked");
        assert_eq!(server.outcome(&get()), "missing_credential");
    }
    assert_eq!(server.outcome(&get().bearer(KEY)), "Bearer", "none of these was a key");
}

#[test]
fn rule_2_nothing_but_the_lock_is_told_about_keys() {
    let foreign = |key: &str| {
        let password = format!("u:{key}");
        request("POST", Route::Path("/prompt"))
            .with(Field::Authorization, basic(&password))
            .with(Field::SecFetchSite, "cross-site")
    };
    let server = Server::new();
    assert_eq!(server.outcome(&foreign(KEY)), "cross_origin");
    for number in 0..MAX_FAILURES {
        assert_eq!(server.outcome(&foreign(&format!("guess-{number}"))), "invalid_credential");
    }
    for _ in 0..3 {
        assert_eq!(server.outcome(&foreign(KEY)), "locked");
        assert_eq!(server.outcome(&foreign("wrong")), "locked");
    }
    let socket = |key: &str| Request { takes_over: true, ..request("GET", Route::Path("/ws")) }.bearer(key);
    let server = Server::new();
    server.lock();
    server.guess_on();
    assert_eq!(server.outcome(&socket(KEY)), server.outcome(&socket("wrong")));
}

#[test]
fn rule_2_what_any_page_can_send_has_a_budget_and_a_lock_of_its_own() {
    use Field::{Origin, Referer, SecFetchSite};
    const OWN: &str = "http://comfy.example:8188";
    type Presented = (&'static str, fn(&str) -> Request);
    let of_pages: &[Presented] = &[
        ("in the query", |key| get().query(&format!("api_key={key}"))),
        ("by its other name", |key| get().query(&format!("token={key}"))),
        ("before the path", |key| get().url_key(key)),
        ("in the query, by our own page", |key| get().query(&format!("token={key}")).with(SecFetchSite, "same-origin")),
        ("a header, from another site", |key| get().bearer(key).with(SecFetchSite, "cross-site")),
        ("a header, from another port", |key| get().bearer(key).with(SecFetchSite, "same-site")),
        ("a header, from a page with no origin", |key| get().bearer(key).with(Origin, "null")),
        ("a header, from another origin", |key| get().with(Field::XApiKey, key).with(Origin, "http://evil.example")),
        ("by another scheme", |key| get().bearer(key).with(Origin, "ftp://comfy.example:8188")),
        ("a header, from another port's origin", |key| get().bearer(key).with(Origin, "http://comfy.example:1")),
        ("a header, by a referrer", |key| get().bearer(key).with(Referer, "http://evil.example/comfy.example:8188/")),
        ("without a path", |key| get().bearer(key).with(Referer, "http://evil.example")),
        ("by a referrer that hides", |key| get().bearer(key).with(Referer, format!("http://evil.example?{OWN}/"))),
        ("by one that begins alike", |key| get().bearer(key).with(Referer, format!("{OWN}.evil.example/"))),
    ];
    let of_clients: &[Presented] = &[
        ("a program's", |key| get().bearer(key)),
        ("in another field", |key| get().with(Field::XApiKey, key)),
        ("as a password", |key| get().with(Field::Authorization, basic(&format!("u:{key}")))),
        ("our own page's", |key| get().bearer(key).with(SecFetchSite, "same-origin")),
        ("the person's", |key| get().bearer(key).with(SecFetchSite, "none").with(Referer, "http://evil.example/")),
        ("our own page's, by its origin", |key| get().bearer(key).with(Origin, OWN)),
        ("by its referrer", |key| get().bearer(key).with(Referer, format!("{OWN}/a?b#c"))),
        ("by that without a path", |key| get().bearer(key).with(Referer, OWN)),
    ];
    let budgets = [("any page", of_pages), ("client", of_clients)];
    for (budget, locked) in budgets {
        let server = Server::new();
        for number in 0..MAX_FAILURES {
            let (name, guess) = locked[number % locked.len()];
            assert_eq!(server.outcome(&guess(&format!("guess-{number}"))), "invalid_credential", "{name}");
        }
        for number in 0..400 {
            let (name, guess) = locked[number % locked.len()];
            assert_eq!(server.outcome(&guess(&format!("more-{number}"))), "locked", "{budget}: {name}");
        }
        for (other, free) in budgets {
            for (name, present) in free {
                let expected = if other == budget { "locked" } else { "invalid_credential" };
                assert_eq!(server.outcome(&present("one-more")), expected, "{budget} is locked: {name}");
                let outcome = server.outcome(&present(KEY));
                assert_eq!(outcome == "locked", other == budget, "{budget} is locked: {name}, {outcome}");
            }
        }
        let log_in = request("POST", Route::Path("/auth_session")).with(Origin, OWN);
        let outcome = if budget == "client" { "locked" } else { "Form" };
        assert_eq!(server.log_in(&log_in, KEY), outcome, "{budget}");
    }
}

#[test]
fn rule_2_guesses_count_in_their_budget_whatever_is_beside_them() {
    // A key in the query, whose budget is locked, doesn't hide one in a header. Nor does a session of a foreign page.
    type Beside = (&'static str, fn(&Server, Request) -> Request, &'static str);
    let beside: [Beside; 2] = [
        ("a locked one", |_, request| request.query("token=right"), "locked"),
        (
            "a session",
            |server, request| Request { method: "POST", ..request }.cookie(server).with(Field::Origin, "null"),
            "cross_origin",
        ),
    ];
    for (name, put, expected) in beside {
        let server = Server::new();
        for number in 0..400 {
            server.outcome(&get().query(&format!("token={number}")));
        }
        for number in 0..MAX_FAILURES {
            let guess = get().bearer(&format!("guess-{number}"));
            assert_eq!(server.outcome(&put(&server, guess)), expected, "{name}");
        }
        let from_a_page = get().bearer(KEY).with(Field::Origin, "null");
        let later = if expected == "locked" { get().bearer(KEY) } else { from_a_page };
        for _ in 0..MAX_FAILURES {
            server.outcome(&later.clone().with(Field::XApiKey, "more"));
        }
        assert_eq!(server.outcome(&later), "locked", "{name}");
    }
}

#[test]
fn rule_1_what_is_no_attack_never_locks() {
    let server = Server::new();
    for _ in 0..10 * MAX_FAILURES {
        assert_eq!(server.outcome(&get().bearer("the-same-again-and-again")), "invalid_credential");
        assert_eq!(server.outcome(&get()), "missing_credential");
        assert_eq!(server.outcome(&get().with(Field::Authorization, "Basic !")), "invalid_credential");
        assert_eq!(server.outcome(&get().with(Field::Cookie, "comfyui_session_8188=A")), "missing_credential");
    }
    for number in 0..10 * MAX_FAILURES {
        let wrong_beside_right = get().bearer(&number.to_string()).with(Field::XApiKey, KEY);
        assert_eq!(server.outcome(&wrong_beside_right), "Header");
        assert_eq!(server.outcome(&get().bearer(&number.to_string()).from(None)), "invalid_credential");
    }
    assert_eq!(server.outcome(&get().bearer("wrong")), "invalid_credential");
}

#[test]
fn rule_1_the_tokens_of_another_login_are_no_guesses() {
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0";
    let tokens = |server: &Server, expected: &str| {
        for number in 0..10 * MAX_FAILURES {
            assert_eq!(server.outcome(&get().bearer(&format!("{TOKEN}.{number}"))), expected);
        }
    };
    let server = Server::new();
    tokens(&server, "missing_credential");
    assert_eq!(server.outcome(&request("GET", Route::Path("/health")).bearer(&format!("{TOKEN}.a"))), "anonymous");
    assert_eq!(server.outcome(&get().bearer(&format!("{TOKEN}.a")).with(Field::XApiKey, KEY)), "Header");
    let post = request("POST", Route::Path("/auth_session")).bearer(&format!("{TOKEN}.a"));
    assert_eq!(server.log_in(&post, KEY), "Form");
    assert_eq!(server.log_in(&post, "wrong"), "invalid_credential");

    let mut digests = Server::new();
    digests.keys = keys(&[&format!("sha256:{}", "a".repeat(64)), KEY]);
    tokens(&digests, "missing_credential");

    let own = format!("{TOKEN}.c2VjcmV0");
    let server = Server::new();
    for number in 0..MAX_FAILURES {
        let place = get().with(Field::XApiKey, format!("{TOKEN}.{number}"));
        assert_eq!(server.outcome(&place), "invalid_credential", "where no gateway puts one");
    }
    let mut such = Server::new();
    such.keys = keys(&[KEY, &own]);
    assert_eq!(such.outcome(&get().bearer(&own)), "Bearer");
    for number in 0..MAX_FAILURES {
        assert_eq!(such.outcome(&get().bearer(&format!("{TOKEN}.{number}"))), "invalid_credential");
    }
    assert_eq!(such.outcome(&get().bearer(&format!("{TOKEN}.x"))), "locked", "a key has that shape");
}

#[test]
fn rule_1_at_a_log_in_whose_own_key_is_valid_nothing_is_counted() {
    let server = Server::new();
    for number in 0..10 * MAX_FAILURES {
        let post =
            request("POST", Route::Path("/auth_session")).with(Field::Authorization, basic(&format!("u:{number}")));
        assert_eq!(server.outcome(&post), "anonymous", "the route asks by itself");
        assert_eq!(server.log_in(&post, KEY), "Form");
    }
    assert_eq!(server.outcome(&get().bearer(OTHER_KEY)), "Bearer", "not locked");
}

#[test]
fn rule_1_a_log_in_form_bears_its_own_key() {
    use Field::{Origin, SecFetchSite};
    let post = || request("POST", Route::Path("/auth_session"));
    let from = |site: &str| post().with(SecFetchSite, site);
    for (name, request, form, expected) in [
        ("right", from("same-origin"), KEY, "Form"),
        ("wrong", from("same-origin"), "wrong", "invalid_credential"),
        ("empty", from("same-origin"), "", "missing_credential"),
        ("a program's, which says nothing", post(), KEY, "Form"),
        ("an older browser's", post().with(Origin, format!("http://{HOST}")), KEY, "Form"),
        ("another site's", from("cross-site"), KEY, "cross_origin"),
        ("another port's", from("same-site"), KEY, "cross_origin"),
        ("a page's with no origin", post().with(Origin, "null"), KEY, "cross_origin"),
        ("wrong, from another site: not even evaluated", from("cross-site"), "wrong", "cross_origin"),
    ] {
        assert_eq!(Server::new().log_in(&request, form), expected, "{name}");
    }
}

#[test]
fn rule_2_the_cookie_alone_changes_things_from_our_own_pages_only() {
    use Field::{Origin, SecFetchSite};
    let server = Server::new();
    let with_cookie = |method| request(method, Route::Path("/prompt")).cookie(&server);
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get"] {
        check(
            &server,
            &[
                ("same-origin", with_cookie(method).with(SecFetchSite, "same-origin"), "Cookie"),
                ("none: the person themselves", with_cookie(method).with(SecFetchSite, "none"), "Cookie"),
                ("same-site: another port", with_cookie(method).with(SecFetchSite, "same-site"), "cross_origin"),
                ("cross-site", with_cookie(method).with(SecFetchSite, "cross-site"), "cross_origin"),
                ("an unknown word", with_cookie(method).with(SecFetchSite, "ours"), "cross_origin"),
                ("our Origin", with_cookie(method).with(Origin, format!("http://{HOST}")), "Cookie"),
                ("our Origin by TLS", with_cookie(method).with(Origin, format!("https://{HOST}")), "Cookie"),
                ("another Origin", with_cookie(method).with(Origin, "http://evil.example:8188"), "cross_origin"),
                (
                    "ours, as no browser writes it",
                    with_cookie(method).with(Origin, format!("HTTP://{HOST}")),
                    "cross_origin",
                ),
                ("another port's Origin", with_cookie(method).with(Origin, "http://comfy.example:80"), "cross_origin"),
                ("no Origin", with_cookie(method).with(Origin, "null"), "cross_origin"),
                ("neither", with_cookie(method), "cross_origin"),
                (
                    "Sec-Fetch-Site counts before Origin",
                    with_cookie(method).with(SecFetchSite, "cross-site").with(Origin, format!("http://{HOST}")),
                    "cross_origin",
                ),
                (
                    "with a key no page can set",
                    with_cookie(method).bearer(KEY).with(SecFetchSite, "cross-site"),
                    "Bearer",
                ),
                (
                    "with a wrong key beside it",
                    with_cookie(method).bearer("no").with(SecFetchSite, "cross-site"),
                    "cross_origin",
                ),
            ],
        );
    }
}

#[test]
fn rule_2_the_manager_answers_scripts_of_our_own_pages() {
    use Field::{Accept, Authorization, SecFetchDest, SecFetchMode, SecFetchSite};
    let server = Server::new();
    let routes = [
        Route::Path("/manager/reboot"),
        Route::Path("/api/v2/manager/queue/update_all"),
        Route::Static { prefix: "", file: "snapshot/restore" },
    ];
    for route in routes {
        let with_cookie = || request("GET", route).cookie(&server);
        let of_ours = |dest| with_cookie().with(SecFetchSite, "same-origin").with(SecFetchDest, dest);
        let picture = "image/avif,image/webp,*/*;q=0.8";
        check(
            &server,
            &[
                ("a script", of_ours("empty"), "Cookie"),
                ("a script's POST", request("POST", route).cookie(&server).with(SecFetchSite, "same-origin"), "Cookie"),
                ("a script, by plain HTTP", with_cookie().with(Accept, "*/*"), "Cookie"),
                ("a picture", of_ours("image"), "cross_origin"),
                ("a style sheet", of_ours("style"), "cross_origin"),
                ("a frame", of_ours("iframe"), "cross_origin"),
                ("a film", of_ours("video"), "cross_origin"),
                ("a link in a page of ours", of_ours("document").with(SecFetchMode, "navigate"), "cross_origin"),
                ("a picture, by plain HTTP", with_cookie().with(Accept, picture), "cross_origin"),
                ("a link, by plain HTTP", with_cookie().with(Accept, "text/html,*/*;q=0.8"), "cross_origin"),
                (
                    "another port's link",
                    with_cookie()
                        .with(SecFetchSite, "same-site")
                        .with(SecFetchMode, "navigate")
                        .with(SecFetchDest, "document"),
                    "cross_origin",
                ),
                ("the address bar", with_cookie().with(SecFetchSite, "none").with(SecFetchDest, "document"), "Cookie"),
                ("a key that no element has", of_ours("image").bearer(KEY), "Bearer"),
                (
                    "a picture, by Basic",
                    request("GET", route).with(Authorization, basic("any:right")).with(SecFetchDest, "image"),
                    "cross_origin",
                ),
                ("a program, by Basic", request("GET", route).with(Authorization, basic("any:right")), "Basic"),
            ],
        );
    }
    let picture = request("GET", Route::Path("/view")).cookie(&server).with(SecFetchDest, "image");
    check(&server, &[("other pictures", picture.with(SecFetchSite, "same-origin"), "Cookie")]);
}

/// What a browser sends, but a program with only an address doesn't.
const MARKS: [(Field, &str); 9] = [
    (Field::SecFetchSite, "none"),
    (Field::SecFetchMode, "cors"),
    (Field::SecFetchDest, "empty"),
    (Field::Origin, "null"),
    (Field::Cookie, "a=b"),
    (Field::Referer, "http://evil.example/"),
    (Field::AcceptLanguage, "en"),
    (Field::Accept, "text/html"),
    (Field::UserAgent, "Mozilla/5.0 (X11; Linux x86_64)"),
];

#[test]
fn rule_2_basic_of_a_browser_is_judged_like_the_cookie() {
    use Field::{AcceptLanguage, Authorization, Origin, SecFetchDest, SecFetchMode, SecFetchSite, UserAgent};
    let server = Server::new();
    let with_basic = |method| request(method, Route::Path("/prompt")).with(Authorization, basic("any:right"));
    check(
        &server,
        &[
            ("a program's read", with_basic("GET"), "Basic"),
            ("a program's POST", with_basic("POST").with(UserAgent, "python-requests/2.32"), "Basic"),
            ("a program's socket", with_basic("GET").upgrade(), "Basic"),
            ("our page's POST", with_basic("POST").with(SecFetchSite, "same-origin"), "Basic"),
            ("our page's POST, by its Origin", with_basic("POST").with(Origin, format!("http://{HOST}")), "Basic"),
            ("another site's POST", with_basic("POST").with(SecFetchSite, "cross-site"), "cross_origin"),
            ("another site's socket", with_basic("GET").upgrade().with(Origin, "http://evil.example"), "cross_origin"),
            ("a browser's that says nothing of where", with_basic("POST").with(AcceptLanguage, "en"), "cross_origin"),
            ("a browser's read", with_basic("GET").with(UserAgent, "Mozilla/5.0"), "Basic"),
            (
                "another site's picture",
                with_basic("GET").with(SecFetchSite, "cross-site").with(SecFetchMode, "no-cors"),
                "cross_origin",
            ),
            (
                "another site's link",
                with_basic("GET")
                    .with(SecFetchSite, "cross-site")
                    .with(SecFetchMode, "navigate")
                    .with(SecFetchDest, "document"),
                "Basic",
            ),
            (
                "Bearer, which no browser adds",
                request("POST", Route::Path("/prompt")).bearer(KEY).with(SecFetchSite, "cross-site"),
                "Bearer",
            ),
        ],
    );
    for (field, value) in MARKS.into_iter().filter(|(field, _)| *field != SecFetchSite) {
        assert_eq!(server.outcome(&with_basic("POST").with(field, value)), "cross_origin", "{field:?}");
    }
}

#[test]
fn rule_2_sockets_by_the_cookie_come_from_our_own_pages_only() {
    use Field::{Origin, SecFetchSite};
    for (server, path) in [(Server::with(&[], true), "/ws"), (Server::new(), "/custom_socket")] {
        let socket = || request("GET", Route::Path(path)).upgrade().cookie(&server);
        check(
            &server,
            &[
                ("same-origin", socket().with(SecFetchSite, "same-origin"), "Cookie"),
                ("our Origin", socket().with(Origin, format!("http://{HOST}")), "Cookie"),
                ("another port", socket().with(SecFetchSite, "same-site"), "cross_origin"),
                ("cross-site", socket().with(SecFetchSite, "cross-site"), "cross_origin"),
                ("another Origin", socket().with(Origin, "http://evil.example"), "cross_origin"),
                ("neither", socket(), "cross_origin"),
            ],
        );
    }
}

#[test]
fn rule_2_the_origin_that_the_browser_used_is_the_one_that_a_trusted_proxy_tells() {
    use Field::{Cookie, Origin, SecFetchSite, XForwardedHost, XForwardedProto};
    let server = Server::new();
    let value = server.cookie(KEY).split_once('=').unwrap().1.to_owned();
    // The cookie's name has the port that the browser used.
    let post = |proxied, port: Option<u16>| {
        let name = port.map_or("comfyui_session".to_owned(), |port| format!("comfyui_session_{port}"));
        let request = request("POST", Route::Path("/prompt")).with(Cookie, format!("{name}={value}"));
        Request { proxied, ..request }
    };
    let forwarded = |host: &str, port| post(true, port).with(XForwardedHost, host);
    check(
        &server,
        &[
            ("its host", forwarded("pod.example", None).with(Origin, "https://pod.example"), "Cookie"),
            (
                "its host and port",
                forwarded("pod.example:99", Some(99)).with(Origin, "http://pod.example:99"),
                "Cookie",
            ),
            (
                "the first of several",
                forwarded("pod.example:99, in:1", Some(99)).with(Origin, "http://pod.example:99"),
                "Cookie",
            ),
            ("another port", forwarded("pod.example", None).with(Origin, "http://pod.example:8188"), "cross_origin"),
            (
                "our own address now is another",
                forwarded("pod.example", None).with(Origin, format!("http://{HOST}")),
                "cross_origin",
            ),
            (
                "told by anybody",
                post(false, Some(8188)).with(XForwardedHost, "evil.example").with(Origin, "http://evil.example"),
                "cross_origin",
            ),
            (
                "told by anybody, the cookie's port",
                post(false, Some(99)).with(XForwardedHost, "a:99"),
                "missing_credential",
            ),
            ("a proxy that tells none", post(true, Some(8188)).with(Origin, format!("http://{HOST}")), "Cookie"),
            ("no page", forwarded("pod.example", None), "cross_origin"),
            (
                "Sec-Fetch-Site counts before",
                forwarded("pod.example", None).with(SecFetchSite, "cross-site").with(Origin, "https://pod.example"),
                "cross_origin",
            ),
        ],
    );
    let told = |proto: &str, origin: &str| post(true, Some(8188)).with(XForwardedProto, proto).with(Origin, origin);
    let [http, https] = ["http", "https"].map(|scheme| format!("{scheme}://{HOST}"));
    check(
        &server,
        &[
            ("its scheme", told("https", &https), "Cookie"),
            ("its scheme, in capitals", told("HTTPS", &https), "Cookie"),
            ("the first of several", told("https, http", &https), "Cookie"),
            ("a WebSocket's", told("wss", &https), "Cookie"),
            ("a WebSocket's in plain text", told("ws", &http), "Cookie"),
            ("another scheme", told("https", &http), "cross_origin"),
            ("another scheme, the other way round", told("http", &https), "cross_origin"),
            ("a scheme that nobody knows tells nothing", told("gopher", &http), "Cookie"),
            ("told by anybody", Request { proxied: false, ..told("https", &http) }, "Cookie"),
            (
                "both",
                forwarded("pod.example", None).with(XForwardedProto, "https").with(Origin, "https://pod.example:443"),
                "Cookie",
            ),
            (
                "both, of another scheme",
                forwarded("pod.example", None).with(XForwardedProto, "https").with(Origin, "http://pod.example"),
                "cross_origin",
            ),
        ],
    );
}

#[test]
fn rule_2_origins_that_the_operator_names_are_our_own() {
    use Field::{Origin, SecFetchDest, SecFetchMode, SecFetchSite};
    let server = Server::at(&["https://pod.example", "http://10.0.0.1:8000"]);
    let post = || request("POST", Route::Path("/prompt")).cookie(&server);
    let socket = |path| request("GET", Route::Path(path)).upgrade().cookie(&server);
    check(
        &server,
        &[
            ("one of them", post().with(Origin, "https://pod.example"), "Cookie"),
            ("the other", post().with(Origin, "http://10.0.0.1:8000"), "Cookie"),
            ("in other words", post().with(Origin, "https://POD.example:443"), "Cookie"),
            (
                "from another site",
                post().with(Origin, "https://pod.example").with(SecFetchSite, "cross-site"),
                "Cookie",
            ),
            ("its socket", socket("/custom_socket").with(Origin, "https://pod.example"), "Cookie"),
            ("its /ws", socket("/ws").with(Origin, "https://pod.example"), "Cookie"),
            ("the address in Host still is", post().with(Origin, format!("http://{HOST}")), "Cookie"),
            ("another scheme", post().with(Origin, "http://pod.example"), "cross_origin"),
            ("another port", post().with(Origin, "https://pod.example:8443"), "cross_origin"),
            ("a name below it", post().with(Origin, "https://a.pod.example"), "cross_origin"),
            ("two", post().with(Origin, "https://pod.example").with(Origin, "https://pod.example"), "cross_origin"),
            ("no origin", post().with(Origin, "null"), "cross_origin"),
            (
                "a picture there, which says no origin",
                {
                    let get = request("GET", Route::Path("/view")).cookie(&server).with(SecFetchSite, "cross-site");
                    get.with(SecFetchMode, "no-cors").with(SecFetchDest, "image")
                },
                "cross_origin",
            ),
        ],
    );
    let log_in = |origin: &str| server.log_in(&request("POST", Route::Path("/auth_session")).with(Origin, origin), KEY);
    assert_eq!(log_in("https://pod.example"), "Form");
    assert_eq!(log_in("https://evil.example"), "cross_origin");
}

#[test]
fn rule_2_reads_by_the_cookie_are_not_embedded_elsewhere() {
    use Field::{SecFetchDest, SecFetchMode, SecFetchSite};
    let server = Server::new();
    for method in ["GET", "HEAD"] {
        let load = |site: &str, mode: &str, destination: &str| {
            let request = request(method, Route::Path("/view")).cookie(&server);
            request.with(SecFetchSite, site).with(SecFetchMode, mode).with(SecFetchDest, destination)
        };
        check(
            &server,
            &[
                ("a program", request(method, Route::Path("/view")).cookie(&server), "Cookie"),
                ("our <img>", load("same-origin", "no-cors", "image"), "Cookie"),
                ("the address bar", load("none", "navigate", "document"), "Cookie"),
                ("a link on another port's page", load("same-site", "navigate", "document"), "Cookie"),
                ("a link on another site", load("cross-site", "navigate", "document"), "Cookie"),
                ("another port's <img>", load("same-site", "no-cors", "image"), "cross_origin"),
                ("another port's <script>", load("same-site", "no-cors", "script"), "cross_origin"),
                ("another port's <iframe>", load("same-site", "navigate", "iframe"), "cross_origin"),
                ("another port's fetch()", load("same-site", "cors", "empty"), "cross_origin"),
                ("another site's <video>", load("cross-site", "no-cors", "video"), "cross_origin"),
            ],
        );
    }
}

#[test]
fn rule_2_a_proxy_that_asks_about_a_request_gets_that_request_judged() {
    use Field::{Origin, SecFetchDest, SecFetchMode, SecFetchSite, SecWebSocketKey, XForwardedMethod, XOriginalMethod};
    let server = Server::new();
    let ask = || request("GET", Route::Path("/auth_verify"));
    let by_cookie = || ask().cookie(&server);
    let ours = format!("http://{HOST}");
    let (mine, foreign) = (|| by_cookie().with(Origin, &ours), || by_cookie().with(Origin, "http://evil.example"));
    // Traefik asks like this, with its own address in `Host`.
    let elsewhere = |proxied, host| {
        let request = by_cookie().without(Field::Host).with(Field::Host, "127.0.0.1:9");
        Request { proxied, ..request.with(Field::XForwardedHost, host) }
    };
    let link = || {
        let request = by_cookie().with(SecFetchSite, "cross-site");
        request.with(SecFetchMode, "navigate").with(SecFetchDest, "document")
    };
    for (name, request, expected) in [
        ("nothing", ask(), "missing_credential"),
        ("a key before the path", ask().url_key(KEY), "UrlPrefix"),
        ("a key in the query", ask().query("api_key=right"), "Query"),
        ("a key, whatever is asked", ask().bearer(KEY).with(XOriginalMethod, "POST"), "Bearer"),
        ("a key from elsewhere", ask().bearer(KEY).with(Origin, "http://evil.example"), "Bearer"),
        ("a read", by_cookie(), "Cookie"),
        ("a read that says so", by_cookie().with(XOriginalMethod, "GET"), "Cookie"),
        (
            "a read that says so twice",
            by_cookie().with(XOriginalMethod, "HEAD").with(XForwardedMethod, "GET"),
            "Cookie",
        ),
        ("our page's read", by_cookie().with(SecFetchSite, "same-origin"), "Cookie"),
        ("a link", link(), "Cookie"),
        ("a link that says so", link().with(XForwardedMethod, "GET"), "Cookie"),
        ("a form that was linked", link().with(XOriginalMethod, "POST"), "cross_origin"),
        ("a form, by its Origin alone", link().with(Origin, "http://evil.example"), "cross_origin"),
        ("a form of a page without address", link().with(Origin, "null"), "cross_origin"),
        ("another page's picture", by_cookie().with(SecFetchSite, "same-site"), "cross_origin"),
        ("our page's POST", mine().with(XOriginalMethod, "POST"), "Cookie"),
        ("a foreign POST", foreign().with(XOriginalMethod, "POST"), "cross_origin"),
        ("a foreign POST that nobody calls so", foreign(), "cross_origin"),
        ("a foreign POST that calls itself GET", foreign().with(XForwardedMethod, "GET"), "cross_origin"),
        ("a POST from who knows where", by_cookie().with(XOriginalMethod, "POST"), "cross_origin"),
        ("the same in Traefik's words", by_cookie().with(XForwardedMethod, "POST"), "cross_origin"),
        (
            "one that the client calls GET",
            by_cookie().with(XForwardedMethod, "GET").with(XOriginalMethod, "PUT"),
            "cross_origin",
        ),
        ("the same, repeated", by_cookie().with(XOriginalMethod, "GET").with(XOriginalMethod, "PUT"), "cross_origin"),
        ("a method in small letters", by_cookie().with(XOriginalMethod, "post"), "cross_origin"),
        ("an empty method", by_cookie().with(XOriginalMethod, ""), "cross_origin"),
        ("our socket", mine().with(SecWebSocketKey, "k").with(XOriginalMethod, "GET"), "Cookie"),
        ("a foreign socket", foreign().with(SecWebSocketKey, "k").with(XOriginalMethod, "GET"), "cross_origin"),
        ("a socket from who knows where", by_cookie().with(SecWebSocketKey, "k"), "cross_origin"),
        ("the same by its upgrade", by_cookie().upgrade().with(XOriginalMethod, "GET"), "cross_origin"),
        ("at the host that a proxy names", elsewhere(true, HOST), "Cookie"),
        ("at the host that anybody names", elsewhere(false, HOST), "missing_credential"),
        ("at another port's", elsewhere(true, "comfy.example:9"), "missing_credential"),
        ("our page's POST there", elsewhere(true, HOST).with(Origin, &ours), "Cookie"),
        ("a foreign one", elsewhere(true, HOST).with(Origin, "http://127.0.0.1:9"), "cross_origin"),
    ] {
        assert_eq!(server.answer(Question::ForwardAuth(Wanted::Nothing), &request), expected, "{name}");
    }
}

#[test]
fn rule_2_what_is_exempt_needs_no_cookie_and_so_no_origin() {
    let server = Server::new();
    let load = |route| request("GET", route).cookie(&server).with(Field::SecFetchSite, "cross-site");
    check(
        &server,
        &[
            ("the login page", load(Route::Path("/auth_login.html")), "anonymous"),
            ("a script of the frontend", load(Route::Static { prefix: "", file: "assets/index.js" }), "anonymous"),
            ("health tells only whether a credential is good", load(Route::Path("/health")), "cross_origin"),
        ],
    );
}

#[test]
fn rule_3_exempt_routes() {
    let static_file = |prefix, file| Route::Static { prefix, file };
    let table = [
        ("GET", Route::Path("/auth_login.html"), "anonymous"),
        ("HEAD", Route::Path("/api/auth_login.html"), "anonymous"),
        ("GET", Route::Path("/auth_inject.js"), "anonymous"),
        ("GET", Route::Path("/api/auth_inject.js"), "anonymous"),
        ("POST", Route::Path("/auth_login.html"), "missing_credential"),
        ("GET", Route::Path("/health"), "anonymous"),
        ("HEAD", Route::Path("/api/health"), "anonymous"),
        ("POST", Route::Path("/health"), "missing_credential"),
        ("GET", Route::Path("/ws"), "anonymous"),
        ("GET", Route::Path("/api/ws"), "anonymous"),
        ("POST", Route::Path("/auth_session"), "anonymous"),
        ("GET", Route::Path("/auth_session"), "missing_credential"),
        ("GET", Route::Path("/auth_verify"), "anonymous"),
        ("GET", Route::Path("/"), "missing_credential"),
        ("GET", Route::Path("/api/"), "missing_credential"),
        ("GET", Route::Path("/docs/{path}"), "anonymous"),
        ("POST", Route::Path("/docs/{path}"), "missing_credential"),
        ("GET", Route::Path("/templates/{path}"), "anonymous"),
        ("GET", Route::Path("/extensions"), "missing_credential"),
        ("GET", static_file("/extensions/node", "any.thing"), "anonymous"),
        ("POST", static_file("/extensions/node", "any.thing"), "missing_credential"),
        ("GET", static_file("/extensions/node", ".env"), "missing_credential"),
        ("HEAD", static_file("/extensions/node", "a/.git/config"), "missing_credential"),
        ("GET", static_file("/docs", ".env"), "missing_credential"),
        ("GET", static_file("", ".git/x.js"), "missing_credential"),
        ("GET", static_file("", "assets/index-abc.js"), "anonymous"),
        ("GET", static_file("", "fonts/x.WOFF2"), "anonymous"),
        ("GET", static_file("", "notes.txt"), "missing_credential"),
        ("GET", static_file("", "../secret.json"), "missing_credential"),
        ("GET", static_file("/my_images", "x.png"), "missing_credential"),
        ("GET", static_file("/extensionsx", "x.png"), "missing_credential"),
        ("GET", Route::Path("/userdata/{file}"), "missing_credential"),
        ("GET", Route::Path("/prompt.json"), "missing_credential"),
        ("GET", Route::Path("/api/prompt"), "missing_credential"),
        ("GET", Route::Path("/internal/health"), "missing_credential"),
        ("GET", Route::Path("/{tail}"), "missing_credential"),
        ("GET", Route::Unmatched, "missing_credential"),
    ];
    let server = Server::new();
    for (method, route, expected) in table {
        assert_eq!(server.outcome(&request(method, route)), expected, "{method} {route:?}");
    }
}

#[test]
fn rule_3_health_refuses_what_is_invalid() {
    let health = || request("GET", Route::Path("/health"));
    let server = Server::new();
    check(
        &server,
        &[
            ("nothing", health(), "anonymous"),
            ("an empty credential", health().with(Field::XApiKey, ""), "anonymous"),
            ("right", health().bearer(KEY), "Bearer"),
            ("wrong", health().bearer("wrong"), "invalid_credential"),
            ("malformed", health().bearer("two words"), "invalid_credential"),
        ],
    );
    for number in 0..MAX_FAILURES {
        server.outcome(&health().bearer(&number.to_string()));
    }
    assert_eq!(server.outcome(&health().bearer("one more")), "locked", "such tries count");
}

#[test]
fn rule_0_preflights_are_answered_at_the_gate() {
    let preflight = |route| request("OPTIONS", route).with(Field::AccessControlRequestMethod, "POST");
    check(
        &Server::new(),
        &[
            ("a preflight", preflight(Route::Path("/prompt")), "preflight"),
            ("with a key", preflight(Route::Path("/prompt")).bearer(KEY), "preflight"),
            ("with a wrong key", preflight(Route::Path("/prompt")).bearer("wrong"), "preflight"),
            ("of an exempt route", preflight(Route::Path("/health")), "preflight"),
            ("of an unknown path", preflight(Route::Unmatched), "preflight"),
            ("OPTIONS by itself", request("OPTIONS", Route::Path("/prompt")), "missing_credential"),
            ("OPTIONS with a key", request("OPTIONS", Route::Path("/prompt")).bearer(KEY), "Bearer"),
            ("the field by itself", get().with(Field::AccessControlRequestMethod, "POST"), "missing_credential"),
        ],
    );
}

#[test]
fn rule_0_control_characters_are_refused_for_everybody() {
    let illegible = |request: Request| Request { target: "/x%0ay", ..request };
    let health = || request("GET", Route::Path("/health"));
    let preflight = || request("OPTIONS", Route::Unmatched).with(Field::AccessControlRequestMethod, "POST");
    let server = Server::new();
    check(
        &server,
        &[
            ("without a key", illegible(get()), "control_character"),
            ("with the key", illegible(get().bearer(KEY)), "control_character"),
            ("a host that would begin a line", health().with(Field::Host, "x\u{2028}y"), "missing_credential"),
            ("an origin that would", health().with(Field::Origin, "x\ty"), "missing_credential"),
            ("one that would not", health().with(Field::Origin, "http://x y"), "anonymous"),
            (
                "a preflight with one that would",
                preflight().with(Field::Origin, "http://x\u{2028}y"),
                "missing_credential",
            ),
            ("or with such a host", preflight().with(Field::Host, "x\u{85}y"), "missing_credential"),
            ("one that would not", preflight().with(Field::Origin, "http://x y"), "preflight"),
            ("with a wrong key", illegible(get().bearer("wrong")), "control_character"),
            ("with the cookie", illegible(get().cookie(&server)), "control_character"),
            ("of an exempt route", illegible(request("GET", Route::Path("/health"))), "control_character"),
            ("of a page", illegible(get().with(Field::Accept, "text/html")), "control_character"),
            ("a preflight", illegible(preflight()), "control_character"),
        ],
    );
    for number in 0..2 * MAX_FAILURES {
        assert_eq!(server.outcome(&illegible(get().bearer(&number.to_string()))), "control_character");
    }
    assert_eq!(server.outcome(&get().bearer("wrong")), "invalid_credential", "they are no guesses");
    assert!(matches!(server.ask(Question::Access, &illegible(get())), Decision::Denied(_)), "never led to the login");
}

#[test]
fn rule_3_preflights_in_applications_of_ones_own() {
    let preflight = |route| request("OPTIONS", route).with(Field::AccessControlRequestMethod, "POST");
    let made_for_it = |request| Request { handles_options: true, ..request };
    let (prompt, wrong) = (|| preflight(Route::Path("/prompt")), preflight(Route::Path("/prompt")).bearer("wrong"));
    check(
        &Server::of(Application::Own, &[]),
        &[
            ("where a handler was made for it", made_for_it(prompt()), "anonymous"),
            ("with a wrong key, which browsers never send", made_for_it(wrong), "anonymous"),
            ("where none was", prompt(), "missing_credential"),
            ("where none was, with a key", prompt().bearer(KEY), "Bearer"),
            ("of an unknown path", preflight(Route::Unmatched), "missing_credential"),
            ("OPTIONS by itself", made_for_it(request("OPTIONS", Route::Path("/prompt"))), "missing_credential"),
            (
                "the field by itself",
                made_for_it(get().with(Field::AccessControlRequestMethod, "POST")),
                "missing_credential",
            ),
        ],
    );
}

#[test]
fn rule_3_sockets() {
    let socket = || request("GET", Route::Path("/ws")).upgrade();
    let taking_over = |request: Request| Request { takes_over: true, ..request };
    check(
        &Server::new(),
        &[
            ("anonymous", socket(), "anonymous"),
            ("with a wrong key", socket().bearer("wrong"), "anonymous"),
            ("a handshake beyond ASCII", socket().with(Field::SecWebSocketKey, "\u{fffd}"), "missing_credential"),
            ("a version beyond ASCII", socket().with(Field::SecWebSocketVersion, "13\u{e9}"), "missing_credential"),
            ("the same with the key", socket().bearer(KEY).with(Field::SecWebSocketKey, "\u{e9}"), "Bearer"),
            (
                "a page whose origin would begin a line",
                socket().with(Field::Origin, "http://x\u{85}y"),
                "missing_credential",
            ),
            ("anonymous, with somebody's clientId", taking_over(socket()), "client_id_taken"),
            ("wrong, with somebody's clientId", taking_over(socket().bearer("wrong")), "client_id_taken"),
            ("with the key, with somebody's clientId", taking_over(socket().bearer(KEY)), "Bearer"),
            ("not the socket", taking_over(request("GET", Route::Path("/auth_login.html"))), "anonymous"),
        ],
    );
    let strict = Server::with(&[], true);
    let cookie = socket().cookie(&strict).with(Field::SecFetchSite, "same-origin");
    check(
        &strict,
        &[
            ("anonymous where a key is required", socket(), "missing_credential"),
            ("its twin", request("GET", Route::Path("/api/ws")).upgrade(), "missing_credential"),
            ("with the key", socket().query("api_key=right"), "Query"),
            ("a browser", cookie, "Cookie"),
        ],
    );
}

#[test]
fn rule_3_pages_at_sockets_without_a_valid_credential() {
    use Field::{Host, Origin, SecFetchSite};
    let server = Server::new();
    let at = |host: &str| request("GET", Route::Path("/ws")).without(Host).with(Host, host).upgrade();
    let value = server.cookie(KEY).split_once('=').unwrap().1.to_owned();
    let with_cookie =
        |request: Request, port: &str| request.with(Field::Cookie, format!("comfyui_session{port}={value}"));
    for (name, origin, site, by_cookie, anonymous) in [
        ("our own page", "http://comfy.example:8188", None, "Cookie", "anonymous"),
        ("the same, as newer browsers say it", "http://comfy.example:8188", Some("same-origin"), "Cookie", "anonymous"),
        ("another port", "http://comfy.example:8247", None, "anonymous", "anonymous"),
        (
            "another port, as newer browsers say it",
            "http://comfy.example:8247",
            Some("same-site"),
            "anonymous",
            "anonymous",
        ),
        ("another port by TLS", "https://comfy.example", None, "anonymous", "anonymous"),
        ("another host", "https://evil.example", None, "cross_origin", "cross_origin"),
        (
            "another host, as newer browsers say it",
            "https://evil.example",
            Some("cross-site"),
            "cross_origin",
            "cross_origin",
        ),
        ("another host at our port", "http://evil.example:8188", None, "cross_origin", "cross_origin"),
        ("a host below ours", "http://a.comfy.example:8188", Some("same-site"), "cross_origin", "cross_origin"),
        ("a host that begins like ours", "http://comfy.example.evil:8188", None, "cross_origin", "cross_origin"),
        ("a page without an origin", "null", None, "cross_origin", "cross_origin"),
        ("a file", "file://", None, "cross_origin", "cross_origin"),
        ("no page", "", Some("cross-site"), "cross_origin", "cross_origin"),
    ] {
        let from = |request: Request| {
            let request = if origin.is_empty() { request } else { request.with(Origin, origin) };
            if let Some(site) = site { request.with(SecFetchSite, site) } else { request }
        };
        let socket = || from(at(HOST));
        check(
            &server,
            &[
                (name, with_cookie(socket(), "_8188"), by_cookie),
                (name, socket(), anonymous),
                (name, socket().bearer("wrong"), anonymous),
                (name, socket().bearer(KEY), "Bearer"),
                (name, socket().query("token=right"), "Query"),
                (
                    name,
                    Request { takes_over: true, ..socket() },
                    if anonymous == "anonymous" { "client_id_taken" } else { anonymous },
                ),
            ],
        );
    }
    check(
        &server,
        &[
            ("a program", at(HOST), "anonymous"),
            ("a program with a cookie", with_cookie(at(HOST), "_8188"), "anonymous"),
            (
                "a proxy without ports",
                with_cookie(at("comfy.example"), "").with(Origin, "http://comfy.example:8247"),
                "anonymous",
            ),
            (
                "the same at an address",
                with_cookie(at("127.0.0.1"), "").with(Origin, "http://127.0.0.1:8247"),
                "anonymous",
            ),
            (
                "the same at an IPv6 address",
                with_cookie(at("[::1]"), "").with(Origin, "http://[::1]:8247"),
                "anonymous",
            ),
            ("another name of this host", at("127.0.0.1").with(Origin, "http://localhost:8247"), "cross_origin"),
            (
                "no host",
                request("GET", Route::Path("/ws")).without(Host).upgrade().with(Origin, "http://a"),
                "cross_origin",
            ),
            (
                "only there",
                request("GET", Route::Path("/custom"))
                    .upgrade()
                    .cookie(&server)
                    .with(Origin, "http://comfy.example:8247"),
                "cross_origin",
            ),
        ],
    );
}

#[test]
fn nobody_with_another_key_takes_over_a_socket() {
    let server = Server::new();
    for (takes_over, expected) in [(false, Ok(false)), (true, Err(Denial::ClientIdTaken))] {
        let request = Request { takes_over, ..request("GET", Route::Path("/ws")).upgrade().bearer(KEY) };
        let Decision::Granted(grant) = server.ask(Question::Access, &request) else { panic!("it has the key") };
        assert_eq!(open_socket(&server.state, Some(&grant), &request).map(|seat| seat.is_some()), expected);
    }
}

#[test]
fn those_without_a_credential_may_open_only_so_many_sockets() {
    let server = Server::new();
    let anonymous =
        || Request { client: Some(IpAddr::from([192, 0, 2, 7])), ..request("GET", Route::Path("/ws")).upgrade() };
    let open = |request: &Request| open_socket(&server.state, None, request);
    assert!(matches!(server.ask(Question::Access, &anonymous()), Decision::ExemptSocket));
    let plain = request("GET", Route::Path("/ws"));
    assert!(matches!(server.ask(Question::Access, &plain), Decision::Exempt), "no WebSocket");
    let held: Vec<_> = std::iter::from_fn(|| open(&anonymous()).ok()).collect();
    assert_eq!(held.len(), MAX_OF_ONE);
    assert_eq!(open(&anonymous()).err(), Some(Denial::Sockets));
    assert!(open(&Request { client: Some(IpAddr::from([192, 0, 2, 8])), ..anonymous() }).is_ok(), "another address");
    let Decision::Granted(grant) = server.ask(Question::Access, &anonymous().bearer(KEY)) else { panic!("the key") };
    assert!(open_socket(&server.state, Some(&grant), &anonymous()).is_ok_and(|seat| seat.is_none()), "with a key");
    drop(held);
    assert!(open(&anonymous()).is_ok(), "when they are closed");
    let long = anonymous().with(Field::UserAgent, "x".repeat(MAX_HEADER + 1));
    assert_eq!(open(&long).err(), Some(Denial::LongHeader));
    assert!(open_socket(&server.state, Some(&grant), &long).is_ok(), "with a key");
}

#[test]
fn a_prompt_takes_a_place_of_those_that_its_key_has() {
    let limited = |scopes: &[Scope]| {
        let quota = Quota { prompts: None, queued: Some(2) };
        Attributes { quota, ..may(scopes) }
    };
    let people = [Scope::Run, Scope::Nodes];
    let (prompt, twin) = (Route::Path("/prompt"), Route::Path("/api/prompt"));
    // Whether a place is taken, a new id is needed, and the prompt goes to the end of the queue.
    for (name, attributes, method, route, expected) in [
        ("the owner", may(&[Scope::All]), "POST", prompt, (false, false, false)),
        ("who has limits and everything", limited(&[Scope::All]), "POST", prompt, (true, false, false)),
        ("people", may(&people), "POST", prompt, (false, true, false)),
        ("people with limits", limited(&people), "POST", prompt, (true, true, true)),
        ("at the twin", limited(&people), "POST", twin, (true, true, true)),
        ("who reads the queue's length", limited(&people), "GET", prompt, (false, false, false)),
        ("who cancels", limited(&people), "POST", Route::Path("/queue"), (false, false, false)),
        ("who asks a node", limited(&people), "POST", Route::Path("/node/prompt"), (false, false, false)),
        (
            "below a folder",
            limited(&people),
            "POST",
            Route::Static { prefix: "/prompt", file: "" },
            (false, false, false),
        ),
    ] {
        let server = Server { keys: one_key(attributes), ..Server::new() };
        let entry = server.keys.verify(KEY.as_bytes(), server.now()).ok().unwrap();
        let grant = Grant { key: entry, source: Source::Bearer, session: None };
        let take = || take_place(&server.state, &grant, &request(method, route), server.now());
        let held = [take().ok().unwrap(), take().ok().unwrap()];
        let [place, _] = &held;
        assert_eq!((place.ticket.is_some(), place.by_a_new_id, place.in_turn), expected, "{name}");
        let third = take().err();
        assert_eq!(third.is_some(), expected.0, "{name}: two places are taken");
        if let Some(denial) = third {
            assert!(matches!(denial, Denial::Quota { key, .. } if key == entry.id()));
            let row = denial.row(Question::Access);
            assert_eq!((row.status, row.cause, row.challenge, row.level), (429, "quota", None, Level::Debug));
        }
        drop(held);
        assert!(take().is_ok(), "{name}: they are free again");
    }
}

#[test]
fn locks_are_told_to_others_where_they_are_of_the_same_client_there() {
    for (client, proxied, unknown, is_told) in [
        ("203.0.113.7", false, false, true),
        ("2001:db8::1", false, false, true),
        ("203.0.113.7", true, false, true),
        ("203.0.113.7", false, true, false), // may be a proxy that speaks for many
        ("203.0.113.7", true, true, false),
        ("10.0.0.7", false, false, false), // may be someone else in another network
        ("100.64.0.7", false, false, false),
        ("fd00::7", false, false, false),
        ("10.0.0.7", true, false, true), // a proxy vouches for it
        ("127.0.0.1", false, false, false),
        ("127.0.0.1", true, false, false),
        ("::1", true, false, false),
        ("169.254.0.7", true, false, false),
        ("fe80::7", true, false, false),
    ] {
        let server = Server::new();
        for number in 0..10 {
            let mut request = get().with(Field::XApiKey, format!("wrong-{number}"));
            (request.proxied, request.client_unknown) = (proxied, unknown);
            request = request.from(Some(client.parse().unwrap()));
            assert_eq!(server.outcome(&request), "invalid_credential", "{client}");
        }
        assert_eq!(server.state.changes.version(), u64::from(is_told), "{client} {proxied} {unknown}");
    }
}

#[test]
fn a_connection_lives_as_long_as_what_admitted_it() {
    let server = Server::new();
    let now = server.now();
    let policy = |keys| Policy { keys, ..server.policy(None) };
    let at = |unix| Now { unix, ..now };
    let entry = server.keys.verify(KEY.as_bytes(), Now::at(UNIX)).ok().unwrap();
    let session = |text: &str| session::verify(text, &server.keys, now).unwrap().0;
    let issue = || session(&session::issue(entry, session::BROWSER, now.unix));
    let by_key = Admission { key: entry.id(), session: None, needed: Scopes::ALL, client: None };
    let (session, other) = (issue(), issue());
    let by_session = |session| Admission { session: Some(session), ..by_key };
    let still = |admission: &Admission| still_admits(&policy(&server.keys), admission, now);
    assert!(still(&by_key) && still(&by_session(session)));
    server.state.log_outs.add(&session, entry, now);
    assert!(!still(&by_session(session)), "it was logged out");
    assert!(still(&by_session(other)) && still(&by_key), "they were not");
    assert!(still_admits(&policy(&server.keys), &by_session(other), at(other.expires - 1)));
    assert!(!still_admits(&policy(&server.keys), &by_session(other), at(other.expires)), "it has expired");
    let without = Keys::new(&parse_file("f", b"another\n").unwrap());
    for admission in [by_key, by_session(other)] {
        assert!(!still_admits(&policy(&without), &admission, now), "its key is gone");
    }
}

#[test]
fn a_connection_lives_as_long_as_its_key_may_do_that_from_there() {
    let server = Server::new();
    let client = Some([192, 0, 2, 1].into());
    let entry = |keys: &Keys| keys.verify(KEY.as_bytes(), Now::at(UNIX)).ok().unwrap().id();
    for (attributes, needed, client, expected) in [
        (Attributes { expires: Some(UNIX + 1), ..Attributes::default() }, Scope::All, client, true),
        (Attributes { expires: Some(UNIX), ..Attributes::default() }, Scope::All, client, false),
        (may(&[Scope::Run]), Scope::View, client, true),
        (may(&[Scope::View]), Scope::Run, client, false),
        (from("192.0.2.0/24"), Scope::All, client, true),
        (from("192.0.2.0/24"), Scope::All, None, false),
        (from("198.51.100.0/24"), Scope::All, client, false),
        (Attributes::default(), Scope::All, None, true),
    ] {
        let key = entry(&server.keys);
        let admission = Admission { key, session: None, needed: Scopes::needed(needed), client };
        let name = format!("{attributes:?}");
        let keys = one_key(attributes);
        let policy = Policy { keys: &keys, ..server.policy(None) };
        assert_eq!(still_admits(&policy, &admission, Now::at(UNIX)), expected, "{name}");
    }
}

fn may(scopes: &[Scope]) -> Attributes {
    Attributes { scopes: Scopes::granted(scopes.iter().copied()), ..Attributes::default() }
}

fn from(net: &str) -> Attributes {
    Attributes { from: vec![net.parse().unwrap()], ..Attributes::default() }
}

fn one_key(attributes: Attributes) -> Keys {
    let mut records = parse_file("f", format!("{KEY}\n").as_bytes()).unwrap();
    records[0].attributes = attributes;
    Keys::new(&records)
}

#[test]
fn rule_1_a_key_that_has_expired_is_an_unknown_key() {
    let server =
        Server { keys: one_key(Attributes { expires: Some(UNIX + 200), ..Attributes::default() }), ..Server::new() };
    let cookie = server.cookie(KEY);
    let by_cookie = || get().with(Field::Cookie, cookie.clone());
    server.clock.set(Duration::from_secs(199));
    assert_eq!(server.outcome(&get().bearer(KEY)), "Bearer");
    assert_eq!(server.outcome(&by_cookie()), "Cookie");
    server.clock.set(Duration::from_secs(200));
    assert_eq!(server.outcome(&get().bearer(KEY)), "invalid_credential", "it counts as a guess, too");
    assert_eq!(server.outcome(&by_cookie()), "missing_credential");
    let set_back = Now { monotonic: Duration::from_secs(201), ..Now::at(UNIX) };
    let decision = decide(&server.policy(None), &get().bearer(KEY), Question::Access, set_back);
    assert_eq!(word(Question::Access, &decision), "invalid_credential", "whatever the wall clock says now");
}

#[test]
fn rule_2_a_key_is_for_its_addresses() {
    let client = |address: &str| get().from(Some(address.parse().unwrap())).bearer(KEY);
    let server = Server { keys: one_key(from("192.0.2.0/24")), ..Server::new() };
    for (name, request, expected) in [
        ("there", client("192.0.2.7"), "Bearer"),
        ("there, as IPv6 writes it", client("::ffff:192.0.2.7"), "Bearer"),
        ("elsewhere", client("198.51.100.1"), "address"),
        ("nowhere", get().from(None).bearer(KEY), "address"),
        ("behind a proxy that tells nobody", Request { client_unknown: true, ..client("192.0.2.7") }, "address"),
        ("beside a session from elsewhere", client("198.51.100.1").cookie(&server), "address"),
    ] {
        assert_eq!(server.outcome(&request), expected, "{name}");
    }
    let elsewhere = client("198.51.100.1");
    assert_eq!(server.log_in(&elsewhere, ""), "address", "no session either");
    assert_eq!(server.answer(Question::ForwardAuth(Wanted::Nothing), &elsewhere), "address");
    assert_eq!(server.answer(Question::Identity, &elsewhere), "address");
    let log_out = elsewhere.clone().cookie(&server).with(Field::SecFetchSite, "same-origin");
    assert_eq!(server.answer(Question::LogOut, &log_out), "Cookie", "anybody may log out");
    let exempt = Request { route: Route::Path("/auth_login.html"), ..elsewhere };
    assert_eq!(server.outcome(&exempt), "anonymous");
    server.lock();
    assert_eq!(server.outcome(&client("192.0.2.1")), "Bearer", "ten are evaluated");
}

#[test]
fn rule_2_a_key_may_do_what_its_scope_says() {
    let route = |method, path| request(method, Route::Path(path)).bearer(KEY);
    let file = |prefix, file| request("GET", Route::Static { prefix, file }).bearer(KEY);
    let by_node = |request| Request { handler: Handler::Node, ..request };
    let user_file = |method, files: &[&str]| Request {
        user_files: Some(files.iter().map(|&file| file.to_owned()).collect()),
        ..route(method, "/api/userdata/{file}")
    };
    let by_unknown = |request| Request { handler: Handler::Unknown, ..request };
    for (scopes, request, expected) in [
        (&[Scope::View][..], route("GET", "/prompt"), "Bearer"),
        (&[Scope::View], route("HEAD", "/api/prompt"), "Bearer"),
        (&[Scope::View], route("POST", "/prompt"), "insufficient_scope"),
        (&[Scope::Run], route("POST", "/prompt"), "Bearer"),
        (&[Scope::Run], route("GET", "/prompt"), "Bearer"),
        (&[Scope::Run], by_node(route("POST", "/prompt")), "insufficient_scope"),
        (&[Scope::Run, Scope::Nodes], by_node(route("POST", "/prompt")), "Bearer"),
        (&[Scope::Nodes], route("GET", "/prompt"), "insufficient_scope"),
        (&[Scope::Nodes], by_node(route("POST", "/mine")), "Bearer"),
        (&[Scope::Run], by_node(route("POST", "/mine")), "insufficient_scope"),
        (&[Scope::View, Scope::Run, Scope::Nodes, Scope::Metrics], route("POST", "/nobody"), "insufficient_scope"),
        (&[Scope::All], route("POST", "/nobody"), "Bearer"),
        (&[Scope::Run, Scope::Nodes], by_unknown(route("POST", "/nobody")), "insufficient_scope"),
        (&[Scope::Run], by_unknown(route("POST", "/prompt")), "insufficient_scope"),
        (&[Scope::Run, Scope::Nodes], by_unknown(route("POST", "/prompt")), "Bearer"),
        (&[Scope::Run, Scope::Nodes], by_node(route("POST", "/api/v2/manager/reboot")), "insufficient_scope"),
        (&[Scope::Run, Scope::Nodes], by_node(route("GET", "/{path}")), "insufficient_scope"),
        (&[Scope::View], route("GET", "/api/queue"), "Bearer"),
        (&[Scope::View], route("GET", "/api/jobs"), "Bearer"),
        (&[Scope::Run], route("GET", "/api/api/jobs"), "insufficient_scope"),
        (&[Scope::View, Scope::Nodes], by_node(file("/extensions/node", "x.bin")), "Bearer"),
        (&[Scope::View], by_node(file("/extensions/node", "x.bin")), "anonymous"),
        (&[Scope::View], file("", "notes.txt"), "Bearer"),
        (&[Scope::View], file("/extensions/node", ".env"), "insufficient_scope"),
        (&[Scope::View], file("/outputs", "x.bin"), "insufficient_scope"),
        (&[Scope::Nodes], by_node(file("/outputs", "x.bin")), "Bearer"),
        (&[Scope::Nodes], by_node(file("/manager", "x.bin")), "insufficient_scope"),
        (&[Scope::Run], user_file("POST", &["workflows/x.json"]), "Bearer"),
        (&[Scope::Run], user_file("POST", &["user.css"]), "insufficient_scope"),
        (&[Scope::Run], user_file("POST", &["workflows/x.json", "user.css"]), "insufficient_scope"),
        (&[Scope::Run], Request { user_files: None, ..user_file("POST", &[]) }, "insufficient_scope"),
        (&[Scope::View], user_file("GET", &["user.css"]), "Bearer"),
        (&[Scope::View], user_file("POST", &["workflows/x.json"]), "insufficient_scope"),
        (&[Scope::View], user_file("HEAD", &["ComfyUI-Manager/config.ini"]), "insufficient_scope"),
        (&[Scope::Metrics], route("GET", "/auth_session"), "Bearer"),
        (&[Scope::Metrics], route("GET", "/"), "Bearer"),
        (&[Scope::Metrics], route("GET", "/auth_login.html"), "Bearer"),
        (&[Scope::Run], Request { route: Route::Unmatched, ..get() }.bearer(KEY), "insufficient_scope"),
        (&[Scope::Metrics], route("GET", "/ws"), "anonymous"),
    ] {
        let server = Server { keys: one_key(may(scopes)), ..Server::new() };
        assert_eq!(server.outcome(&request), expected, "{scopes:?} {} {:?}", request.method, request.route);
    }
}

#[test]
fn rule_2_a_proxy_asks_for_one_scope() {
    let server = Server { keys: one_key(may(&[Scope::Run])), ..Server::new() };
    for (words, expected) in [
        (&[][..], "Bearer"),
        (&["view"], "Bearer"),
        (&["run"], "Bearer"),
        (&["nodes"], "insufficient_scope"),
        (&["all"], "insufficient_scope"),
        (&["other"], "insufficient_scope"),
        (&[""], "insufficient_scope"),
        (&["run", "run"], "insufficient_scope"),
    ] {
        let question = Question::ForwardAuth(Wanted::of(words));
        assert_eq!(server.answer(question, &get().bearer(KEY)), expected, "{words:?}");
        assert_eq!(server.answer(question, &get()), "missing_credential", "{words:?}");
        let owners = Server::new();
        let expected =
            if words.len() > 1 || ["other", ""].iter().any(|word| *words == [*word]) { expected } else { "Bearer" };
        assert_eq!(owners.answer(question, &get().bearer(KEY)), expected, "{words:?}, a key for everything");
    }
}

#[test]
fn rule_2_a_key_that_may_not_is_not_used() {
    // A second key that may; while the address is locked, the answer must not reveal what the first may do.
    let other = "a-key-of-at-least-32-characters-for-all";
    let mut records = parse_file("f", format!("{KEY}\n{other}\n").as_bytes()).unwrap();
    records[0].attributes = may(&[Scope::View]);
    let server = Server { keys: Keys::new(&records), ..Server::new() };
    let post = || request("POST", Route::Path("/prompt"));
    assert_eq!(server.outcome(&post().bearer(KEY).with(Field::XApiKey, other)), "Header");
    assert_eq!(server.outcome(&post().bearer(KEY)), "insufficient_scope");
    assert_eq!(server.outcome(&post().bearer(KEY).with(Field::XApiKey, "wrong")), "insufficient_scope");
    for number in 0..MAX_FAILURES {
        server.outcome(&get().bearer(&format!("guess-{number}")));
    }
    server.guess_on();
    assert_eq!(server.outcome(&post().bearer(KEY)), "locked");
}

#[test]
fn an_application_of_ones_own_says_what_it_needs() {
    let words =
        |pattern: &str, words: &[&str]| (pattern.to_owned(), words.iter().map(|&word| word.to_owned()).collect());
    let patterns = [
        words("/queue", &["view"]),
        words("/jobs/*", &["run", "nodes"]),
        words("/open", &[]),
        words("/jobs/mine", &[]),
        words("/files/public/*", &["view"]),
        words("/files/secret", &["all"]),
        words("/files/*", &["run"]),
    ];
    let scopes = Table::of_patterns(&patterns).unwrap();
    let server = Server { keys: one_key(may(&[Scope::Run])), scopes, ..Server::of(Application::Own, &[]) };
    for (route, expected) in [
        (Route::Path("/queue"), "Bearer"),
        (Route::Path("/open"), "Bearer"),
        (Route::Path("/jobs/mine"), "insufficient_scope"),
        (Route::Path("/other"), "insufficient_scope"),
        (Route::Path("/auth_session"), "Bearer"),
        (Route::Static { prefix: "/jobs", file: "x" }, "insufficient_scope"),
        (Route::Static { prefix: "/files", file: "" }, "Bearer"),
        (Route::Static { prefix: "/files", file: "x" }, "Bearer"),
        (Route::Static { prefix: "/files", file: "public/x" }, "Bearer"),
        (Route::Static { prefix: "/files", file: "secret" }, "insufficient_scope"),
        (Route::Static { prefix: "/files", file: "public/../secret" }, "insufficient_scope"),
        (Route::Static { prefix: "/files", file: "./secret" }, "insufficient_scope"),
        (Route::Static { prefix: "/files", file: "secret/" }, "insufficient_scope"),
        (Route::Static { prefix: "/files", file: "/secret" }, "insufficient_scope"),
        (Route::Static { prefix: "/files", file: "public\\..\\secret" }, "insufficient_scope"),
        (Route::Unmatched, "insufficient_scope"),
    ] {
        assert_eq!(server.outcome(&request("POST", route).bearer(KEY)), expected, "{route:?}");
    }
    let faults = Table::of_patterns(&[words("/x", &["see"])]).unwrap_err();
    assert_eq!(faults[0].to_string(), "scopes: \"see\" is not a scope; write one of: view, run, nodes, metrics, all");
    let faults = Table::of_patterns(&[words("x", &[])]).unwrap_err();
    assert!(faults[0].to_string().starts_with("scopes: \"x\" must begin with /"), "{}", faults[0]);
}

#[test]
fn rule_3_the_operators_own() {
    let server = Server::with(&["/public/*", r"^/item/\{id\}"], false);
    for (method, route, expected) in [
        ("POST", Route::Path("/public/upload"), "anonymous"),
        ("GET", Route::Path("/public/{file}"), "anonymous"),
        ("GET", Route::Path("/public"), "missing_credential"),
        ("GET", Route::Path("/item/{id}"), "anonymous"),
        ("GET", Route::Path("/item/{id}/secret"), "missing_credential"),
        ("GET", Route::Path("/api/item/{id}"), "missing_credential"),
        ("GET", Route::Static { prefix: "/public", file: "x.png" }, "anonymous"),
        ("GET", Route::Static { prefix: "/public", file: "../x.png" }, "missing_credential"),
        ("GET", Route::Unmatched, "missing_credential"),
    ] {
        assert_eq!(server.outcome(&request(method, route)), expected, "{method} {route:?}");
    }
}

#[test]
fn rule_4_browsers_loading_a_page_are_led_to_the_login_page() {
    use Field::Accept;
    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let root = |method| request(method, Route::Path("/"));
    for (name, request, expected) in [
        ("a program", get(), false),
        ("curl", get().with(Accept, "*/*"), false),
        ("fetch() for JSON", get().with(Accept, "application/json"), false),
        ("an <img>", get().with(Accept, "image/avif,image/webp,*/*;q=0.8"), false),
        ("a browser", get().with(Accept, BROWSER), true),
        ("a browser, HEAD", request("HEAD", Route::Path("/prompt")).with(Accept, BROWSER), true),
        ("in capitals", get().with(Accept, "TEXT/HTML"), true),
        ("with a parameter", get().with(Accept, "text/html; charset=utf-8"), true),
        ("XHTML", get().with(Accept, "application/xhtml+xml"), true),
        ("refuses HTML", get().with(Accept, "text/html;q=0"), false),
        ("refuses HTML, in other words", get().with(Accept, "text/html; level=1; q=0.0, */*"), false),
        ("something that begins like HTML", get().with(Accept, "text/html5"), false),
        ("any text", get().with(Accept, "text/*"), false),
        ("POST", request("POST", Route::Path("/prompt")).with(Accept, BROWSER), false),
        ("OPTIONS", request("OPTIONS", Route::Path("/prompt")).with(Accept, BROWSER), false),
        ("a WebSocket", get().with(Accept, BROWSER).upgrade(), false),
        ("an unknown path", request("GET", Route::Unmatched).with(Accept, BROWSER), true),
        ("an unknown path, a program", request("GET", Route::Unmatched), false),
        ("the root, a program", root("GET"), true),
        ("the root, HEAD", root("HEAD"), true),
        ("the root's twin", request("GET", Route::Path("/api/")), true),
        ("the root, POST", root("POST"), false),
        ("the root, a WebSocket", root("GET").upgrade(), false),
        ("the root, served by a static mount", request("GET", Route::Static { prefix: "", file: "" }), true),
        ("another mount's root", request("GET", Route::Static { prefix: "/x", file: "" }), false),
    ] {
        let leads_to_login = |server: &Server, request: &Request, cause| {
            let decision = server.ask(Question::Access, request);
            assert_eq!(word(Question::Access, &decision), cause, "{name}");
            matches!(decision, Decision::SentToLogin(_))
        };
        let server = Server::new();
        assert_eq!(leads_to_login(&server, &request, "missing_credential"), expected, "{name}");
        let wrong = request.clone().bearer("wrong");
        assert_eq!(leads_to_login(&server, &wrong, "invalid_credential"), expected, "{name}, with a wrong key");
        let foreign = request.cookie(&server).with(Field::SecFetchSite, "cross-site");
        assert!(!leads_to_login(&server, &foreign, "cross_origin"), "{name}: a login would not help");
        let server = Server::new();
        server.lock();
        assert!(!leads_to_login(&server, &wrong, "locked"), "{name}: nor here");
    }
}

#[test]
fn rule_4_how_refusals_read() {
    use comfy_auth_rs::decision::Level::{Debug, Warning};
    let plain = Some("Bearer realm=\"ComfyUI\"");
    let invalid = Some("Bearer realm=\"ComfyUI\", error=\"invalid_token\"");
    let insufficient = Some("Bearer realm=\"ComfyUI\", error=\"insufficient_scope\"");
    for (denial, status, cause, challenge, login_error, level) in [
        (Denial::Missing, 401, "missing_credential", plain, Some("invalid"), Debug),
        (Denial::Invalid, 401, "invalid_credential", invalid, Some("invalid"), Warning),
        (Denial::CrossOrigin, 403, "cross_origin", None, None, Warning),
        (Denial::Profile, 403, "profile", None, None, Debug),
        (Denial::ClientIdTaken, 401, "client_id_taken", plain, None, Warning),
        (Denial::Sockets, 429, "sockets", None, None, Debug),
        (Denial::Unstored, 503, "store", None, None, Warning),
        (Denial::Address(KeyId([0; 16])), 403, "address", None, None, Warning),
        (SCOPE, 403, "insufficient_scope", insufficient, None, Debug),
        (Denial::locked(Duration::from_millis(1)), 429, "locked", None, Some("locked"), Warning),
    ] {
        let row = denial.row(Question::Access);
        assert_eq!((row.status, row.cause, row.challenge), (status, cause, challenge));
        assert_eq!((row.login_error, row.level), (login_error, level), "{cause}");
        let forwarded = denial.row(Question::ForwardAuth(Wanted::Nothing));
        let is_known = matches!(denial, Denial::Address(_) | SCOPE);
        assert_eq!(
            (forwarded.status, forwarded.cause),
            (if is_known { 403 } else { 401 }, cause),
            "nginx takes these two"
        );
        assert_eq!(forwarded.challenge, if is_known { challenge } else { challenge.or(plain) }, "{cause}");
    }
    assert_eq!(Denial::locked(Duration::from_millis(1)), Denial::Locked { retry_after: 1 });
    assert_eq!(Denial::locked(Duration::from_secs(60)), Denial::Locked { retry_after: 60 });
    assert_eq!(Denial::locked(Duration::from_millis(59_001)), Denial::Locked { retry_after: 60 });
}

const SCOPE: Denial = Denial::Scope { key: KeyId([0; 16]), granted: Scopes::NONE, needed: Scopes::NONE };

#[test]
fn rule_4_what_a_key_would_need_is_told() {
    let denial = |granted: &[Scope], needed| Denial::Scope {
        key: KeyId([0; 16]),
        granted: Scopes::granted(granted.iter().copied()),
        needed,
    };
    let (run, nodes) = (Scopes::needed(Scope::Run), Scopes::needed(Scope::Nodes));
    for (denial, label, scope, message) in [
        (
            denial(&[Scope::View], run),
            Some("wall"),
            ", scope=\"run\"",
            "The API key \"wall\" may only view: its scope is view, and this needs run.",
        ),
        (
            denial(&[Scope::Run], run.and(nodes)),
            None,
            ", scope=\"run nodes\"",
            "The API key 00000000000000000000000000000000 may not do this: its scope is run, and this needs run,nodes.",
        ),
        (denial(&[Scope::All], Scopes::NONE), None, "", "The requested scope is not valid."),
    ] {
        let row = denial.row(Question::Access);
        assert_eq!(denial.message(&row, label), message);
        let challenge = format!("Bearer realm=\"ComfyUI\", error=\"insufficient_scope\"{scope}");
        let challenges: Vec<_> = denial.challenges(&row, &get(), Question::Access).collect();
        assert_eq!(challenges, [challenge], "Basic would not help");
    }
    assert_eq!(
        Denial::Missing.message(&Denial::Missing.row(Question::Access), None),
        Denial::Missing.row(Question::Access).message
    );
}

#[test]
fn rule_4_basic_is_offered_where_nothing_marks_a_browser() {
    let challenges = |denial: Denial, request: &Request, question| -> Vec<_> {
        denial.challenges(&denial.row(question), request, question).collect()
    };
    let plain = "Bearer realm=\"ComfyUI\"";
    let both = [plain, "Basic realm=\"ComfyUI\""];
    let program = get().with(Field::Accept, "*/*").with(Field::UserAgent, "Wget/1.21");
    for request in [get(), program.clone(), get().upgrade()] {
        assert_eq!(challenges(Denial::Missing, &request, Question::Access), both);
        assert_eq!(challenges(Denial::Missing, &request, Question::LogIn(None)), both);
        assert_eq!(challenges(Denial::Invalid, &request, Question::Access)[1], both[1]);
        assert_eq!(challenges(Denial::ClientIdTaken, &request, Question::Access), both);
        assert!(challenges(Denial::CrossOrigin, &request, Question::Access).is_empty());
        assert!(challenges(Denial::locked(FIRST_LOCK), &request, Question::Access).is_empty());
        let forwarded = challenges(Denial::Missing, &request, Question::ForwardAuth(Wanted::Nothing));
        assert_eq!(forwarded, [plain], "a proxy may hold back what marks a browser");
    }
    for (field, value) in MARKS {
        let marked = program.clone().without(field).with(field, value);
        assert_eq!(challenges(Denial::Missing, &marked, Question::Access), [plain], "{field:?}");
        assert_eq!(challenges(Denial::Missing, &get().with(field, value), Question::Access), [plain], "{field:?}");
    }
}

#[test]
fn facts_are_read_in_order_and_only_until_one_is_valid() {
    struct Counting(Request, Cell<usize>);
    impl core::Request for Counting {
        type Text = String;
        fn values(&self, field: Field) -> impl Iterator<Item = String> {
            self.0.values(field).inspect(|_| self.1.set(self.1.get() + 1))
        }
        fn header_size(&self) -> usize {
            panic!("nor how long the header is");
        }
        fn has(&self, _: Field) -> bool {
            panic!("nor what marks a browser");
        }
        fn query(&self) -> Option<String> {
            panic!("the query is not read once a header admits");
        }
        fn is_legible(&self) -> bool {
            self.0.is_legible()
        }
        fn url_keys(&self) -> impl Iterator<Item = String> {
            std::iter::once_with(|| panic!("nor the path"))
        }
        fn method(&self) -> String {
            panic!("nor the method");
        }
        fn route(&self) -> Route<'_> {
            panic!("nor the route");
        }
        fn handles_options(&self) -> bool {
            panic!("nor the route's methods");
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
            panic!("nor who passed it on");
        }
        fn known_client(&self) -> Option<IpAddr> {
            panic!("nor whether the address is sure");
        }
        fn is_our_own(&self) -> bool {
            panic!("nor whether we do");
        }
        fn handler(&self) -> Handler {
            panic!("nor who answers");
        }
        fn known_scopes(&self) -> Option<Scopes> {
            panic!("nor what it needs");
        }
        fn remember_scopes(&self, _: Scopes) {}
        fn user_files(&self, _: &Entry) -> Option<Vec<String>> {
            panic!("nor what it names");
        }
        fn needed_scopes(&self) -> Scopes {
            panic!("nor what it needs");
        }
        fn takes_over(&self, _: Option<&str>) -> bool {
            panic!("nor the clientId");
        }
    }
    let server = Server::of(Application::Own, &[]);
    let facts = Counting(get().bearer(KEY).bearer("unread").with(Field::XApiKey, "unread"), Cell::new(0));
    assert!(matches!(server.ask(Question::Access, &facts), Decision::Granted(_)));
    assert_eq!(facts.1.get(), 1);
}

#[test]
fn rule_1_a_log_in_wants_a_key_whatever_session_is_beside_it() {
    let server = Server::new();
    let post =
        || request("POST", Route::Path("/auth_session")).cookie(&server).with(Field::SecFetchSite, "same-origin");
    let log_in = |request: &Request| server.answer(Question::LogIn(None), request);
    assert_eq!(log_in(&post()), "missing_credential");
    assert_eq!(log_in(&post().with(Field::XApiKey, OTHER_KEY)), "Header");
    assert_eq!(log_in(&post().query("api_key=right")), "Query");
    for number in 0..MAX_FAILURES {
        assert_eq!(log_in(&post().with(Field::XApiKey, format!("guess-{number}"))), "invalid_credential");
    }
    assert_eq!(log_in(&post().with(Field::XApiKey, "guess")), "locked");
}

#[test]
fn rule_1_a_log_in_by_link_is_a_browsers_with_a_key_in_its_address() {
    let server = Server::new();
    let root = || request("GET", Route::Path("/"));
    let browser = || root().with(Field::Accept, "text/html");
    for (name, request, expected) in [
        ("a key in the query", browser().query("api_key=right"), "Query"),
        ("before the path", browser().url_key(KEY), "UrlPrefix"),
        ("from another site", browser().query("token=right").with(Field::SecFetchSite, "cross-site"), "Query"),
        ("a program", root().query("api_key=right"), "anonymous"),
        ("a wrong key", browser().query("api_key=wrong"), "invalid_credential"),
        ("no key", browser(), "anonymous"),
        ("a key elsewhere", browser().bearer(KEY), "anonymous"),
        ("a session", browser().cookie(&server), "anonymous"),
    ] {
        assert_eq!(server.answer(Question::LogInByLink, &request), expected, "{name}");
    }
    // A session admits the request before its address is looked at, so guesses must count here.
    let guess = |number: usize| browser().cookie(&server).query(&format!("api_key={number}"));
    let answers = (0..=MAX_FAILURES).map(|number| server.answer(Question::LogInByLink, &guess(number)));
    assert_eq!(answers.last().unwrap(), "locked");
}

#[test]
fn rule_2_a_log_in_is_our_own_pages_doing_wherever_the_key_is() {
    use Field::{Authorization, Origin, SecFetchSite, XApiKey};
    let post = || request("POST", Route::Path("/auth_session"));
    let presented = |key: &str| {
        [
            ("Bearer", post().bearer(key)),
            ("Basic", post().with(Authorization, basic(&format!("u:{key}")))),
            ("X-API-Key", post().with(XApiKey, key)),
            ("query", post().query(&format!("api_key={key}"))),
            ("path", post().url_key(key)),
            ("nowhere", post()),
        ]
    };
    for (name, field, value, is_foreign) in [
        ("a program's", Field::Accept, "*/*", false),
        ("our own page's", SecFetchSite, "same-origin", false),
        ("our own page's, in an older browser", Origin, "http://comfy.example:8188", false),
        ("another site's", SecFetchSite, "cross-site", true),
        ("another port's", SecFetchSite, "same-site", true),
        ("another site's, in an older browser", Origin, "http://evil.example", true),
        ("another port's, there", Origin, "http://comfy.example:8247", true),
        ("a page's with no origin", Origin, "null", true),
    ] {
        let server = Server::new();
        for (place, request) in presented(KEY) {
            let outcome = server.answer(Question::LogIn(None), &request.with(field, value));
            assert_eq!(outcome == "cross_origin", is_foreign, "{name}, {place}: {outcome}");
        }
        if is_foreign {
            for number in 0..400 {
                for (place, request) in presented(&format!("guess-{number}")) {
                    let outcome = server.answer(Question::LogIn(None), &request.with(field, value));
                    assert_eq!(outcome, "cross_origin", "{name}, {place}: not even evaluated");
                }
            }
            assert_eq!(server.outcome(&get().query("token=right").with(Origin, "null")), "Query", "nor counted");
        }
    }
}

#[test]
fn rule_2_a_log_out_is_our_own_pages_doing() {
    let server = Server::new();
    let delete = || request("DELETE", Route::Path("/auth_session"));
    let from = |site: &str| delete().cookie(&server).with(Field::SecFetchSite, site);
    for (name, request, expected) in [
        ("ours", from("same-origin"), "Cookie"),
        ("another site's", from("cross-site"), "cross_origin"),
        ("nothing to end", delete(), "anonymous"),
        ("nothing that another site's page shows", delete().with(Field::SecFetchSite, "cross-site"), "cross_origin"),
        ("nor by Origin", delete().with(Field::Origin, "http://evil.example"), "cross_origin"),
        ("a key ends nothing", delete().bearer(KEY), "anonymous"),
    ] {
        assert_eq!(server.answer(Question::LogOut, &request), expected, "{name}");
    }
    server.lock();
    assert_eq!(server.answer(Question::LogOut, &from("same-origin")), "Cookie", "also from a locked address");
}

#[test]
fn who_it_is_counts_nothing() {
    let server = Server::new();
    let identity = |request: &Request| server.answer(Question::Identity, request);
    assert_eq!(identity(&get().bearer(KEY)), "Bearer");
    assert_eq!(identity(&get().cookie(&server)), "Cookie");
    assert_eq!(identity(&request("GET", Route::Path("/ws"))), "missing_credential", "exempt is nobody");
    for number in 0..10 * MAX_FAILURES {
        assert_eq!(identity(&get().bearer(&format!("guess-{number}"))), "invalid_credential");
    }
    assert_eq!(server.outcome(&get().bearer(OTHER_KEY)), "Bearer", "not locked");
    server.lock();
    server.guess_on();
    let docs = || request("GET", Route::Path("/docs/a"));
    assert_eq!(identity(&docs().bearer(KEY)), "locked", "where nobody was admitted, it would tell a guesser");
    assert_eq!(server.answer(Question::Again, &get().bearer(KEY)), "Bearer", "what is open stays open");
}

#[test]
fn who_it_is_is_who_was_admitted() {
    let wrong = || get().with(Field::XApiKey, "wrong");
    let server = Server::new();
    server.lock();
    for question in [Question::Identity, Question::Introduction] {
        for (name, request, expected) in [
            ("a key that a lock holds back", get().bearer(KEY), "Bearer"),
            ("beside a wrong one", wrong().query("token=right"), "Query"),
            ("beside a session, which passes before it", get().bearer(KEY).cookie(&server), "Cookie"),
        ] {
            assert_eq!(server.outcome(&request), expected, "{name}");
            assert_eq!(server.answer(question, &request), expected, "{name}");
        }
    }
    for _ in 0..100 {
        assert_eq!(server.answer(Question::Identity, &get().bearer(OTHER_KEY)), "Bearer", "it takes no evaluation");
    }
    assert_eq!(server.outcome(&get().bearer(OTHER_KEY)), "Bearer");
}

#[test]
fn who_it_is_is_no_key_that_may_not_do_this() {
    // Both are held back; a handler would be told that the first admitted the request.
    let lines =
        format!("{KEY} scope=view user=bob\n{OTHER_KEY} scope=run user=alice\nelsewhere from=198.51.100.0/24\n");
    let server = Server { keys: keys(&[&lines]), ..Server::new() };
    server.lock();
    let post = || request("POST", Route::Path("/prompt")).with(Field::XApiKey, OTHER_KEY);
    for (name, request) in [("its scope", post().bearer(KEY)), ("its address", post().bearer("elsewhere"))] {
        assert_eq!(server.outcome(&request), "Header", "{name}");
        assert_eq!(server.answer(Question::Identity, &request), "Header", "{name}");
    }
}

#[test]
fn a_guess_beside_what_admits_counts_where_it_is_told_which_one_counts() {
    let ask = |server: &Server, request: &Request| {
        assert_eq!(server.outcome(request), "Cookie");
        server.answer(Question::Introduction, request)
    };
    let server = Server::new();
    let guess = |key: &str| request("GET", Route::Path("/auth_session")).cookie(&server).with(Field::XApiKey, key);
    for number in 0..400 {
        assert_eq!(ask(&server, &guess(&format!("guess-{number}"))), "Cookie");
    }
    assert_eq!(ask(&server, &guess(KEY)), "Cookie", "a right one tells nothing any more");
    assert_eq!(server.outcome(&get().bearer(KEY)), "locked");
}

#[test]
fn rule_2_the_first_that_passes_every_check_counts_as_used() {
    // A history that the model of the decision once judged differently than the server.
    let server = Server::new();
    assert_eq!(server.outcome(&get().url_key(LONG_KEY).url_key(DIGEST_KEY)), "UrlPrefix");
    server.lock();
    server.guess_on();
    assert_eq!(server.outcome(&get().bearer(LONG_KEY)), "Bearer");
    assert_eq!(server.outcome(&get().bearer(DIGEST_KEY)), "locked");

    let server = Server::new();
    let session = server.cookie(DIGEST_KEY);
    let foreign = get().with(Field::Cookie, session).with(Field::SecFetchSite, "cross-site");
    assert_eq!(server.outcome(&foreign.query(&format!("api_key={LONG_KEY}"))), "Query");
    server.lock();
    server.guess_on();
    assert_eq!(server.outcome(&get().bearer(LONG_KEY)), "Bearer");
    assert_eq!(server.outcome(&get().bearer(DIGEST_KEY)), "locked", "its session failed a check");
}

#[test]
fn a_trace_says_why_and_shows_no_key() {
    let server = Server::new();
    let trace = Trace::default();
    let request =
        get().bearer("canary").query("api_key=canary-too").cookie(&server).with(Field::SecFetchSite, "cross-site");
    decide(&server.policy(Some(&trace)), &request, Question::Access, server.now());
    let steps = "looked at Authorization (unknown key), X-API-Key, Cookie (cross_origin), query (unknown key), path";
    assert_eq!(trace.to_string(), steps);
}
