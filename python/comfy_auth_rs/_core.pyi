"""The compiled core. This file documents what it offers to Python."""

import os
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Final, TypeAlias, TypeVar, final

from aiohttp import web

from comfy_auth_rs.connections import Watch
from comfy_auth_rs.devices import Device
from comfy_auth_rs.errors import KeyWarning
from comfy_auth_rs.scopes import CoreScopes
from comfy_auth_rs.settings import Settings

__all__ = [
    "REDACTED",
    "Asker",
    "AuthMiddleware",
    "BeforeSending",
    "Denial",
    "DeviceSampler",
    "FrameFilter",
    "Identity",
    "KeyEntry",
    "KeyStore",
    "Link",
    "LoginOffer",
    "PromptLedger",
    "SessionCookie",
    "SharedState",
    "UrlKeys",
    "describe",
    "generate_key",
    "inject_script",
    "key_file_entries",
    "key_line",
    "probe_device",
    "probe_devices",
    "profile_may_be_asked_for",
    "profile_of_user",
    "revocation_record",
    "scope_of",
    "split_url_keys",
    "strip_credentials",
]

_T = TypeVar("_T")

@final
class KeyStore:
    """The keys that a server accepts. Files are reloaded when they change.

    `api_key` takes keys in plain text or as `sha256:<64 hex digits>`, `api_key_file` takes paths of key files. All
    these keys are valid.
    Raises `KeyFileError` for a bad key, a file that cannot be used, or no source at all.
    """

    def __new__(
        cls, api_key: Sequence[str] = ..., api_key_file: Sequence[str | os.PathLike[str]] = ...
    ) -> KeyStore: ...
    def __len__(self) -> int: ...
    def warnings(self) -> list[KeyWarning]:
        """Things an operator should fix, one line each: short keys, files that others can read."""
    def unheeded_revocations(self) -> list[tuple[str, str | None, str]]:
        """Keys that the state revokes but that are still in a file, unexpired: file and line, label, id."""
    @staticmethod
    def faults(path: str | os.PathLike[str]) -> list[str]:
        """Every fault of one key file, one line each."""

@final
class KeyEntry:
    """One entry of a key file. It never prints the key."""

    @property
    def line(self) -> int:
        """The line in the file, from 1."""
    @property
    def id(self) -> str:
        """The key's public id: 32 hexadecimal digits, the same on every server."""
    @property
    def label(self) -> str | None:
        """The key's label in its file."""
    @property
    def scope(self) -> str:
        """What the key may do, as comma-separated scopes."""
    @property
    def user(self) -> str | None:
        """The user whom the key is for."""
    @property
    def expires(self) -> int | None:
        """When the key expires, in seconds since 1970 (UTC)."""
    @property
    def expires_at(self) -> str | None:
        """When the key expires, as `2027-01-31T12:00:00Z`."""
    @property
    def addresses(self) -> list[str]:
        """The addresses and CIDR blocks that may use the key. Empty if it works from anywhere."""
    @property
    def prompts(self) -> str | None:
        """How many prompts the key may queue per unit of time, such as `60/h`."""
    @property
    def queued(self) -> int | None:
        """How many of the key's prompts may wait or run at once."""
    @property
    def opens_everything(self) -> bool:
        """Whether the key has every scope, works from anywhere, never expires and has no limits."""
    def has_expired(self, now: int) -> bool:
        """Whether the key has expired at `now`, in seconds since 1970 (UTC)."""
    def write(self, key: str | None = None, *, expires: int | None = None) -> str:
        """The entry's line, with `key` if given, otherwise with the key's digest.

        The key expires at `expires`, but never later than before.
        Raises `ValueError` if the line cannot be written.
        """

def key_file_entries(place: str, text: bytes) -> tuple[list[KeyEntry], list[str]]:
    """The entries of a key file and its faults, one line each, which call the file `place`."""

def key_line(key: str, label: str | None, attributes: Sequence[tuple[str, str]]) -> str:
    """The line of a key, without a line end. `attributes` are names and values such as `("scope", "view")`.

    Raises `ValueError` if the line cannot be written. The message never contains the key.
    """

@final
class Denial:
    """Why a request is refused."""

    @property
    def status(self) -> int:
        """The HTTP status code."""
    @property
    def error(self) -> str:
        """The `error` in the JSON body, which depends on the status."""
    @property
    def cause(self) -> str:
        """A fixed word for logs and JSON bodies."""
    @property
    def message(self) -> str:
        """The message for people."""
    @property
    def is_of_a_prompt(self) -> bool:
        """Whether to answer in the form that ComfyUI's page expects for errors of a prompt."""
    @property
    def challenges(self) -> tuple[str, ...]:
        """Every `WWW-Authenticate` (RFC 6750, section 3; RFC 7617, section 2)."""
    @property
    def login_error(self) -> str | None:
        """The login page's word for it; `None` if a form gets the same answer as other requests."""
    @property
    def level(self) -> int:
        """The log level, as a number of `logging`."""
    @property
    def retry_after(self) -> int | None:
        """Seconds until the client may try again, if it is locked out or has reached a limit of its key."""
    @property
    def limits(self) -> list[tuple[str, str]]:
        """Header fields that say what is left of the key's limits, if it has reached one."""
    @property
    def client(self) -> str | None:
        """The client's address, behind trusted proxies."""
    @property
    def leads_to_login(self) -> bool:
        """Whether a browser is loading a page, and should get the login page."""

@final
class SessionCookie:
    """The cookie that a log-in sets."""

    @property
    def name(self) -> str:
        """The cookie's name, which contains the port that the browser used."""
    @property
    def value(self) -> str:
        """The signed value, valid only for the key of this server that logged in."""
    @property
    def max_age(self) -> int | None:
        """The lifetime in seconds; `None` for a cookie that ends with the browser session."""

@final
class Link:
    """A link that was opened. It is followed again from our own page, without its key, unless there is an offer."""

    @property
    def cookie(self) -> SessionCookie | None:
        """The session for the key in the link, if the person certainly wants to log in."""
    @property
    def offer(self) -> LoginOffer | None:
        """The log-in that the person is asked to confirm."""

@final
class LoginOffer:
    """A log-in with the key in a link. It never prints the key."""

    @property
    def label(self) -> str | None:
        """The key's label in its file."""
    @property
    def by_itself(self) -> bool:
        """Whether the browser may confirm it by itself: no other key is logged in, and no other site led here."""
    def expose_secret(self) -> str:
        """The key. Callers must not store or log it."""

@final
class AuthMiddleware:
    """An aiohttp middleware that admits requests with a valid key. Made by `comfy_auth_rs.create_auth_middleware`."""

    __middleware_version__: Final = 1

    def __new__(
        cls,
        keys: KeyStore,
        settings: Settings,
        *,
        refuse: Callable[[web.Request, Denial], Awaitable[web.StreamResponse]],
        answer_preflight: Callable[[web.Request], Awaitable[web.StreamResponse]],
        scopes: CoreScopes,
    ) -> AuthMiddleware: ...
    def __call__(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[_T]]
    ) -> Awaitable[_T | web.StreamResponse]:
        """Returns what `handler(request)` returns, or what `refuse(request, denial)` returns for a refused request.

        Without a key it admits requests for `/health` and the login page, and CORS preflights if their handler was
        registered for `OPTIONS`. With ComfyUI's `RouteFacts` as `scopes` it also admits requests for ComfyUI's own
        page, and answers each preflight with what `answer_preflight(request)` returns.
        """
    def answer_at_gate(
        self,
        route: web.AbstractRoute,
        answer: Callable[
            [web.Request, Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[web.StreamResponse]
        ],
        *,
        is_our_own: bool = True,
    ) -> None:
        """From now on, answers admitted requests for `route` with `answer(request, handler)`. `handler` runs the
        middlewares after this one and the route's own handler. If it isn't `is_our_own`, the table of scopes says which
        scope the route needs."""
    def accept_url_keys(self, name: object) -> None:
        """From now on, looks for the `UrlKeys` of each request under `name` in the request."""
    def watch_with(self, watch: Watch) -> None:
        """From now on, calls `watch.start()` at the first request of each second and at the first one after
        `look_again` found none in flight, and asks `watch.in_flight()` for the requests in flight before a key or a
        session ends. `watch.open(request, handler, has_credential, displaced)` handles WebSockets, and
        `watch.prepared(request, response, has_credential)` is called before they are opened."""
    def ask_with(
        self,
        prompts: Callable[
            [web.Request, Callable[[web.Request], Awaitable[web.StreamResponse]], Asker], Awaitable[web.StreamResponse]
        ],
    ) -> None:
        """From now on, answers admitted requests that may change something with `prompts(request, handler, asker)`,
        unless one of our own routes answers them."""
    @property
    def ledger(self) -> PromptLedger:
        """The ledger of all prompts."""
    @property
    def shared(self) -> SharedState:
        """The state shared with other servers that have the same keys."""
    def prompt_id_taken(self, request: web.Request, asker: Asker) -> Denial:
        """The refusal of a prompt whose `prompt_id` another prompt has."""
    def end(self) -> None:
        """Call it when the server stops: it logs the unfinished prompts, and waits up to a second for the audit log to
        be written."""
    def closed(self, request: web.BaseRequest) -> None:
        """Forgets a WebSocket whose handler has ended."""
    def look_again(self) -> tuple[list[tuple[web.BaseRequest, web.WebSocketResponse | None]], bool]:
        """Checks the key files. Returns the requests to end because their key or session has ended, with the response
        if it is a WebSocket; and whether other requests with a key or session are in flight."""
    def identify(self, request: web.Request) -> Identity | None:
        """See `comfy_auth_rs.identity`."""
    def introduce(self, request: web.Request) -> Identity | None:
        """Like `identify`, but for an answer to the client: a wrong key counts as a failed attempt, even beside a valid
        one."""
    def limits(self, request: web.Request) -> dict[str, dict[str, int | None] | None] | None:
        """What is left of the limits of the request's key: `prompts` and `queued`, each `None` if there is no such
        limit. `None` without a valid key."""
    def forward_auth(self, request: web.Request, scopes: list[str]) -> Identity | Denial:
        """Who sent the request that a proxy asks about, or why it is refused, which never leads to the login page. With
        one scope in `scopes`, the key must have it. Several scopes, or an unknown one, are always refused."""
    def deny_profile(self, request: web.Request) -> Denial:
        """The refusal of an admitted request for another user's ComfyUI profile."""
    def deny_unstored(self, request: web.Request) -> Denial:
        """The answer to a log-out that counts here but could not be stored."""
    def users(self) -> set[str]:
        """All users who have a key, in lower case."""
    def log_in(self, request: web.Request, *, remember: bool, key: str | None = None) -> SessionCookie | Denial:
        """A session for the key in the request's header or URL, or for `key` from its body."""
    def follow_link(self, request: web.Request) -> Link | None:
        """What to do with a link to the page that contains a key or is on another site; `None` to show the page."""
    def metrics(self, accept: str, devices: DeviceSampler, queue: tuple[int, int] | None = None) -> tuple[str, bytes]:
        """The content type and the metrics for Prometheus, in the format that `accept` asks for.

        `queue` is the number of waiting and of running prompts. Never blocks."""
    def site(self, request: web.Request) -> str:
        """Where a visit to the login page comes from, as a value of `Sec-Fetch-Site`. If the browser doesn't send that:
        `session` if it sends a session, else empty."""
    def log_out(self, request: web.Request) -> str | Denial:
        """Ends the session of a request, if it has one. Returns the cookie's name, for clearing it."""

@final
class Asker:
    """Who sent an admitted request. If the request queues a prompt and the key has limits, it holds a place in
    ComfyUI's queue for it."""

    @property
    def is_limited(self) -> bool:
        """Whether it holds a place."""
    @property
    def by_a_new_id(self) -> bool:
        """Whether the request queues a prompt whose `prompt_id` must be unique."""
    @property
    def in_turn(self) -> bool:
        """Whether the request queues a prompt that goes to the end of the queue, even if it asks for another place."""
    def give_back(self) -> None:
        """Call it once the request is handled: it frees the place if nothing was queued."""
    def limits(self) -> list[tuple[str, str]]:
        """Header fields that say what is left of the key's limits."""

@final
class PromptLedger:
    """The queued and running prompts. Thread-safe. `prompt_id` is ComfyUI's, and may not be unique."""

    def queued(self, prompt_id: str, asker: Asker | None) -> None:
        """The prompt is about to be queued, by a node if there is no `asker`. It takes the place that `asker` holds."""
    def started(self, prompt_id: str) -> None:
        """The prompt runs."""
    def interrupted(self, asker: Asker) -> None:
        """`asker` interrupts the running prompt."""
    def finished(self, prompt_id: str, status: str, outputs: int) -> None:
        """The prompt has ended, with `success`, `error` or `interrupted` as its status."""
    def cancelled(self, prompt_id: str, asker: Asker | None) -> None:
        """The prompt was removed from the queue, by `asker` if known."""

@final
class Identity:
    """Who was admitted."""

    @property
    def label(self) -> str | None:
        """The key's label in its file."""
    @property
    def key_id(self) -> str:
        """The key's public id: 32 hexadecimal digits, derived from the key, the same on every server. It reveals
        nothing about a key of 32 characters or more."""
    @property
    def source(self) -> str:
        """How the key was presented: `bearer`, `basic`, `x-api-key`, `query`, `path` or `cookie`."""
    @property
    def user(self) -> str | None:
        """The user whom the key is for, as spelled in its file. Case doesn't matter when names are compared."""
    @property
    def subject(self) -> str:
        """The user in lower case, else the key's id."""
    @property
    def scopes(self) -> tuple[str, ...]:
        """What the key may do: `view`, `run`, `nodes`, `metrics`, `all`. `run` includes `view`, and `all` everything;
        included scopes are not listed."""
    @property
    def expires(self) -> int | None:
        """When the key expires, in seconds since 1970 (UTC)."""
    @property
    def expires_at(self) -> str | None:
        """When the key expires, in the format of RFC 3339, and no later than the end of the year 9999."""

@final
class BeforeSending:
    """What `comfy_auth_rs.setup` adds to `on_response_prepare`, after all middlewares.

    It marks responses that needed a credential as `private`, so that shared caches don't store them (RFC 9111, section
    5.2.2.7), and calls `leave_packed(request)` if the request's body is compressed. In ComfyUI, browsers must not treat
    content that clients can write as our own pages: it gets `Content-Security-Policy: sandbox`, `nosniff`, and
    `attachment` if a browser would run it. Answers of the resources in `pages` go to `finish_page(request, response)`.
    """

    def __new__(
        cls,
        middleware: AuthMiddleware,
        *,
        leave_packed: Callable[[web.Request], None],
        pages: set[web.AbstractResource],
        finish_page: Callable[[web.Request, web.StreamResponse], Awaitable[None]],
    ) -> BeforeSending: ...
    def __call__(self, request: web.Request, response: web.StreamResponse) -> Awaitable[None]: ...

@final
class FrameFilter:
    """Filters what a WebSocket client without a credential sends, before aiohttp parses it.

    It passes on pings, the closing handshake and messages for which `is_welcome(message)` is true. It calls `end(code)`
    to close the connection, for a message of more than 64 KiB or an invalid frame; and `rest(arrived)` when so many
    bytes have arrived that reading should pause.
    """

    def __new__(
        cls,
        parser: object,
        *,
        is_welcome: Callable[[bytes], bool],
        end: Callable[[int], None],
        rest: Callable[[int], None],
    ) -> FrameFilter: ...
    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Like the parser's method."""
    def feed_eof(self) -> None:
        """Like the parser's method."""

@final
class DeviceSampler:
    """`probe_devices()` for a server: cached for a second, one probe at a time, with a limit of two seconds."""

    def fresh(self) -> list[Device] | None:
        """The last figures if they are fresh: the same list until they change. Never blocks."""
    def sample(self) -> list[Device]:
        """Fresh figures, or the last known ones if a driver hangs. It blocks, so don't call it on the event loop."""

#: Name, value and the time after which anyone may delete it, in seconds since 1970 (UTC).
_Record: TypeAlias = tuple[bytes, bytes, int]

@final
class SharedState:
    """What a server must remember and shares with others that have the same keys: log-outs, revoked keys, locks and
    prompts of limited keys. Thread-safe.

    It is shared as records, which never change, except that a server's heartbeat always has the same name. The first
    byte of a name is its kind: `s` a log-out, `e` the end of all earlier sessions of a key, `k` a revoked key, `l` a
    lock, `p` a prompt, `n` a server. Records may arrive in any order, and more than once.
    """

    def __new__(cls, keys: KeyStore) -> SharedState: ...
    @property
    def version(self) -> int:
        """How many records this server has made."""
    @property
    def keys_loaded(self) -> int:
        """How many versions of key files were loaded. Records about unknown keys are ignored, so read the whole store
        again when this number grows."""
    @property
    def nodes(self) -> int:
        """How many servers share the state now, including this one."""
    def changes(self, since: int) -> tuple[int, list[_Record]] | None:
        """The current version, and the records made here since version `since`. `None` if there were too many: then use
        `all`. Locks may be left out."""
    def all(self) -> tuple[int, list[_Record]]:
        """The current version, and every valid record known here, including this server's heartbeat: all that a store
        may lack."""
    def merge(self, records: list[_Record]) -> int:
        """Takes over records of others, and returns how many were new. Malformed records are ignored, and so are those
        not signed with the key if they have to be. Other threads can run after each thousand."""
    def heartbeat(self) -> _Record:
        """The record that this server is running, to be stored every ten seconds. Records that must be repeated now and
        then are in the next `changes`."""
    def wake(self, callback: Callable[[], object]) -> None:
        """Calls `callback` now, and from now on whenever a record is made here or keys are loaded. Any thread may call
        it, even one that handles a request, so it must not block."""
    def stored(self, version: int) -> None:
        """Notes that the store has everything up to a version."""
    def is_stored(self, version: int) -> bool:
        """Whether the store has everything up to a version."""
    def away(self, is_away: bool) -> None:
        """Notes that the store is unavailable, or available again. While it is unavailable, what is left of each limit
        is divided by the number of servers that were running."""

def describe(record: _Record) -> dict[str, str | int | bool]:
    """What a record says: `kind`, `until`, and more that depends on the kind, which is `log_out`, `earlier_sessions`,
    `revocation`, `lock`, `prompt`, `node` or `unknown`. Signatures are not checked."""

def revocation_record(path: str | os.PathLike[str], key_id: str) -> _Record:
    """The record that revokes the key with this id in a key file.

    Raises `KeyFileError` for a file that cannot be used, and `KeyError` if it has no such key.
    """

@final
class UrlKeys:
    """The keys at the start of a path. It never prints them."""

    @property
    def depth(self) -> int:
        """How many folders deeper the client's URL is than the path without its keys."""

REDACTED: Final[str]

def generate_key() -> str:
    """A new key: 256 random bits from the operating system, as 43 URL-safe characters."""

def inject_script(page: bytes, source: str = "auth_inject.js") -> bytes:
    """The page with `<script src="SOURCE"></script>` at the start of its head."""

def probe_device() -> Device:
    """The first of `probe_devices()`."""

def probe_devices() -> list[Device]:
    """Every device, accelerators first, the CPU last. Imports neither torch nor CUDA."""

def profile_may_be_asked_for(name: str | None, users: Set[str], scope: Sequence[str]) -> bool:
    """Whether a key without a user may use the ComfyUI profile with this name, or every profile if it is `None`.

    `users` are the users who have a key, in lower case; `scope` is what the key may do.
    """

def profile_of_user(profiles: Sequence[tuple[str, str]], user: str) -> str | None:
    """The id of the ComfyUI profile of `user`, among pairs of an id and a name; `None` if it must be made."""

def scope_of(path: str, method: str, *, is_folder: bool = False) -> str | None:
    """The scope that the table names for a route of ComfyUI or ComfyUI-Manager; `None` if it is not there.

    `path` is the route's canonical path or, with `is_folder`, a static folder's.
    """

def split_url_keys(path: str) -> tuple[UrlKeys, str] | None:
    """The keys at the start of a raw path (`/key/KEY/prompt`), and the path without them; `None` if there are none."""

def strip_credentials(query: str) -> str:
    """A raw query string without `api_key` and `token`."""
