"""The compiled core. This file is the reference of what it offers to Python."""

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
    """The keys that a server accepts. Files are read again when they change.

    `api_key` are keys in plain text or `sha256:<64 hex digits>`, `api_key_file` are paths of key files; their union
    counts.
    Raises `KeyFileError` for a bad key, a file that cannot be used, or no source at all.
    """

    def __new__(
        cls, api_key: Sequence[str] = ..., api_key_file: Sequence[str | os.PathLike[str]] = ...
    ) -> KeyStore: ...
    def __len__(self) -> int: ...
    def warnings(self) -> list[KeyWarning]:
        """Things an operator should fix, one line each: short keys, files that others can read."""
    def unheeded_revocations(self) -> list[tuple[str, str | None, str]]:
        """Keys that were revoked through the state, but are still in a file and have not expired there: file and line,
        label, id."""
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
        """What the key may do: words with commas between them."""
    @property
    def user(self) -> str | None:
        """Whom the key is for."""
    @property
    def expires(self) -> int | None:
        """From when on it is an unknown key, in seconds since 1970 (UTC)."""
    @property
    def expires_at(self) -> str | None:
        """The same as `2027-01-31T12:00:00Z`."""
    @property
    def addresses(self) -> list[str]:
        """From where alone it may be used; empty: from everywhere."""
    @property
    def prompts(self) -> str | None:
        """How many prompts it may queue in any window of time, as `60/h`."""
    @property
    def queued(self) -> int | None:
        """How many of its prompts may wait or run at once."""
    @property
    def opens_everything(self) -> bool:
        """Whether it has every scope, from everywhere, for good, without limits."""
    def has_expired(self, now: int) -> bool:
        """Whether it has, at `now` in seconds since 1970 (UTC)."""
    def write(self, key: str | None = None, *, expires: int | None = None) -> str:
        """Its line, with `key` if there is one, else with its digest alone.

        It ends when `expires` says, but never later than it would have.
        Raises `ValueError` for what cannot be written.
        """

def key_file_entries(place: str, text: bytes) -> tuple[list[KeyEntry], list[str]]:
    """The entries of a key file, or every fault of it, one line each; `place` is its name there."""

def key_line(key: str, label: str | None, attributes: Sequence[tuple[str, str]]) -> str:
    """The line of a key, without its end: `attributes` are names and values such as `("scope", "view")`.

    Raises `ValueError` for what cannot be written. The message never has the key.
    """

@final
class Denial:
    """Why a request is refused."""

    @property
    def status(self) -> int:
        """The HTTP status code."""
    @property
    def error(self) -> str:
        """The JSON body's `error`, which goes with the status."""
    @property
    def cause(self) -> str:
        """A fixed word for logs and JSON bodies."""
    @property
    def message(self) -> str:
        """What people read."""
    @property
    def is_of_a_prompt(self) -> bool:
        """Whether ComfyUI's page reads the answer, which has a form for what is wrong with a prompt."""
    @property
    def challenges(self) -> tuple[str, ...]:
        """Every `WWW-Authenticate` (RFC 6750, section 3; RFC 7617, section 2)."""
    @property
    def login_error(self) -> str | None:
        """What the login page calls it; `None` where a form is answered like everything else."""
    @property
    def level(self) -> int:
        """How loudly it is logged, as `logging` counts levels."""
    @property
    def retry_after(self) -> int | None:
        """Seconds until the client may try again, where it is locked, or a limit of its key is reached."""
    @property
    def limits(self) -> list[tuple[str, str]]:
        """Header fields that tell what is left of the key's limits, where one of them is reached."""
    @property
    def client(self) -> str | None:
        """The client's address, behind trusted proxies."""
    @property
    def leads_to_login(self) -> bool:
        """Whether it is a browser loading a page."""

@final
class SessionCookie:
    """The cookie that a log-in sets."""

    @property
    def name(self) -> str:
        """It carries the port that the browser used."""
    @property
    def value(self) -> str:
        """Signed, and good for nothing but this server's key."""
    @property
    def max_age(self) -> int | None:
        """Its life in seconds; `None` where it ends with the browser."""

@final
class Link:
    """A link that is followed once more, from a page of ours and without its key, unless there is an offer."""

    @property
    def cookie(self) -> SessionCookie | None:
        """The session for the key in it, where the person surely wants it."""
    @property
    def offer(self) -> LoginOffer | None:
        """What the person is asked."""

@final
class LoginOffer:
    """A log-in by the key in a link. It never prints the key."""

    @property
    def label(self) -> str | None:
        """The key's label in its file."""
    @property
    def by_itself(self) -> bool:
        """Whether the browser may answer, where it is logged in with no other key and no other site led there."""
    def expose_secret(self) -> str:
        """The key. Callers must not store or log it."""

@final
class AuthMiddleware:
    """An aiohttp middleware that admits requests by their keys. `comfy_auth_rs.create_auth_middleware` makes one."""

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
        """What `handler(request)` returns, or, refused, what `refuse(request, denial)` returns.

        Without a key it admits requests for `/health` and the login page, and CORS preflights whose handler was
        registered for `OPTIONS`. With ComfyUI's `RouteFacts` as `scopes` it also admits those for ComfyUI's own
        page, and each preflight gets what `answer_preflight(request)` returns.
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
        """From now on, admitted requests for `route` get what `answer(request, handler)` returns: `handler` stands for
        the middlewares after this one and the route's own handler. Unless it `is_our_own`, the table of scopes says
        what it needs."""
    def accept_url_keys(self, name: object) -> None:
        """From now on, looks for the `UrlKeys` of each request under `name` in its state."""
    def watch_with(self, watch: Watch) -> None:
        """From now on, calls `watch.start()` at the first request in a second and at the first after `look_again` found
        nobody, and asks `watch.in_flight()` for the requests in flight before a key or a session ends. WebSockets are
        handled by `watch.open(request, handler, has_credential, displaced)`, and `watch.prepared(request, response,
        has_credential)` is called before they are opened."""
    def ask_with(
        self,
        prompts: Callable[
            [web.Request, Callable[[web.Request], Awaitable[web.StreamResponse]], Asker], Awaitable[web.StreamResponse]
        ],
    ) -> None:
        """From now on, admitted requests that may change something get what `prompts(request, handler, asker)` returns,
        if none of our own routes answers them."""
    @property
    def ledger(self) -> PromptLedger:
        """What becomes of prompts."""
    @property
    def shared(self) -> SharedState:
        """What it tells other servers that have the same keys, and learns from them."""
    def prompt_id_taken(self, request: web.Request, asker: Asker) -> Denial:
        """Why a prompt is not queued that asks for the `prompt_id` of another one."""
    def end(self) -> None:
        """The server ends: tells of the prompts that are left, and waits a second at most until the audit log is
        written."""
    def closed(self, request: web.BaseRequest) -> None:
        """Forgets a WebSocket whose handler has ended."""
    def look_again(self) -> tuple[list[tuple[web.BaseRequest, web.WebSocketResponse | None]], bool]:
        """Looks at the key files. Returns the requests to end, since what admitted them has ended, with the response of
        those that are WebSockets; and whether others are in flight that were admitted by something."""
    def identify(self, request: web.Request) -> Identity | None:
        """See `comfy_auth_rs.identity`."""
    def introduce(self, request: web.Request) -> Identity | None:
        """The same for a client that is told: wrong keys count as failed attempts, whatever is beside them."""
    def limits(self, request: web.Request) -> dict[str, dict[str, int | None] | None] | None:
        """What is left of the limits of the key that a request presents: `prompts` and `queued`, `None` where there is
        no such limit. `None` for nobody."""
    def forward_auth(self, request: web.Request, scopes: list[str]) -> Identity | Denial:
        """Who sends the request about which a proxy asks; else why it may not pass, which never leads to the login
        page. With a word in `scopes` the key must have that scope; several, or an unknown one, nobody has."""
    def deny_profile(self, request: web.Request) -> Denial:
        """Why an admitted request gets nothing that asks for another user's profile in ComfyUI."""
    def deny_unstored(self, request: web.Request) -> Denial:
        """Why a log-out is not called done: it holds here, but the store did not take it."""
    def users(self) -> set[str]:
        """Everybody for whom there is a key, in lower case."""
    def log_in(self, request: web.Request, *, remember: bool, key: str | None = None) -> SessionCookie | Denial:
        """A session for the key that a request presents in a header, in its address, or as `key` in its body."""
    def follow_link(self, request: web.Request) -> Link | None:
        """What becomes of a link to the page, with a key in it or on another site's page; `None` where the page is
        shown."""
    def metrics(self, accept: str, devices: DeviceSampler, queue: tuple[int, int] | None = None) -> tuple[str, bytes]:
        """The content type and the page that Prometheus reads, in the format that `accept` asks for.

        `queue` is how many prompts wait, and how many are executed. Never waits."""
    def site(self, request: web.Request) -> str:
        """Where a visit of the login page comes from, in the words of `Sec-Fetch-Site`. Where the browser says nothing:
        `session` if it sends one, else empty."""
    def log_out(self, request: web.Request) -> str | Denial:
        """Ends the session of a request, if it has one. Returns the cookie's name, for clearing it."""

@final
class Asker:
    """Who sent a request that was admitted, for what is done in its name. It holds a place in ComfyUI's queue for one
    prompt where the request queues one and the key has limits."""

    @property
    def is_limited(self) -> bool:
        """Whether it holds a place."""
    @property
    def by_a_new_id(self) -> bool:
        """Whether the request queues a prompt whose `prompt_id` must be that of no other."""
    @property
    def in_turn(self) -> bool:
        """Whether it queues a prompt that goes to the end of the queue, whatever it asks for."""
    def give_back(self) -> None:
        """The request was handled: the place is free again if nothing was queued."""
    def limits(self) -> list[tuple[str, str]]:
        """Header fields that tell what is left of the key's limits."""

@final
class PromptLedger:
    """The prompts that are queued or run, for any thread. `prompt_id` is ComfyUI's; several may have the same."""

    def queued(self, prompt_id: str, asker: Asker | None) -> None:
        """It is about to be put into the queue; without an `asker`, by a node. It takes the place that
        `asker` holds."""
    def started(self, prompt_id: str) -> None:
        """It runs."""
    def interrupted(self, asker: Asker) -> None:
        """`asker` has ComfyUI interrupt what runs."""
    def finished(self, prompt_id: str, status: str, outputs: int) -> None:
        """It ran, and has ended: `success`, `error` or `interrupted`."""
    def cancelled(self, prompt_id: str, asker: Asker | None) -> None:
        """It was taken off the queue, by `asker` if that is anyone."""

@final
class Identity:
    """Who was admitted."""

    @property
    def label(self) -> str | None:
        """The key's label in its file."""
    @property
    def key_id(self) -> str:
        """The key's public id: 32 hexadecimal digits, derived from the key, the same on every server. It tells nothing
        about a key of 32 characters or more."""
    @property
    def source(self) -> str:
        """How the key was presented: `bearer`, `basic`, `x-api-key`, `query`, `path` or `cookie`."""
    @property
    def user(self) -> str | None:
        """Whom the key is for, as its file spells it. Names are compared without case."""
    @property
    def subject(self) -> str:
        """The user in lower case, else the key's id."""
    @property
    def scopes(self) -> tuple[str, ...]:
        """What the key may do: `view`, `run`, `nodes`, `metrics`, `all`. `run` includes `view`, and `all` everything;
        what is included is not named."""
    @property
    def expires(self) -> int | None:
        """When the key ends, in seconds since 1970 (UTC)."""
    @property
    def expires_at(self) -> str | None:
        """The same as RFC 3339 writes it; what is later than the year 9999, as its end."""

@final
class BeforeSending:
    """What `comfy_auth_rs.setup` adds to `on_response_prepare`, behind every middleware.

    It marks what needed a credential as `private`, so that shared caches don't keep it (RFC 9111, section 5.2.2.7), and
    has `leave_packed(request)` called where the request's body is compressed. In ComfyUI, browsers must take what
    clients can write for no page of ours: `Content-Security-Policy: sandbox`, `nosniff`, and an attachment where a
    browser would run it. What the resources in `pages` answer goes to `finish_page(request, response)`.
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
    """What arrives from a WebSocket's client without a credential, on its way to aiohttp's parser.

    Pings, the closing handshake and messages that `is_welcome(message)` go on. It calls `end(code)` when the connection
    is to be closed: for a message of more than 64 KiB, or what is no frame; and `rest(arrived)` when so many
    bytes have arrived that it should not be read from for a while.
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
        """As the parser's."""
    def feed_eof(self) -> None:
        """As the parser's."""

@final
class DeviceSampler:
    """`probe_devices()` for a server: cached for a second, one probe at a time, two seconds at most."""

    def fresh(self) -> list[Device] | None:
        """The last figures if they are fresh: the same list as long as they are the same. Never waits."""
    def sample(self) -> list[Device]:
        """Fresh figures, or the last known ones where a driver hangs. Call it off the event loop."""

#: Name, value and the time from which on anybody may delete it, in seconds since 1970 (UTC).
_Record: TypeAlias = tuple[bytes, bytes, int]

@final
class SharedState:
    """What a server must remember, and tells others that have the same keys: log-outs, revoked keys, locks, the prompts
    of limited keys. For any thread.

    It is told as records, which never change: only the one of a server that is there has the same name each time. The
    first byte of a name is that of its kind: `s` a log-out, `e` the end of all earlier sessions of a key, `k` a revoked
    key, `l` a lock, `p` a prompt, `n` a server. Records may arrive in any order and any number of times.
    """

    def __new__(cls, keys: KeyStore) -> SharedState: ...
    @property
    def version(self) -> int:
        """How many records have begun here."""
    @property
    def keys_loaded(self) -> int:
        """How many versions of key files were loaded. What the store holds about a key is ignored as long as the key is
        not known: when this number grows, read the store again whole."""
    @property
    def nodes(self) -> int:
        """How many servers share the state now, this one included."""
    def changes(self, since: int) -> tuple[int, list[_Record]] | None:
        """The version now, and what has begun here since another one. `None` where so much has that only `all` tells
        it. Locks may be left out."""
    def all(self) -> tuple[int, list[_Record]]:
        """The version now, and everything that counts of what is known here, that this server is there included: what a
        store may lack."""
    def merge(self, records: list[_Record]) -> int:
        """Learns what others tell. Returns how much of it was news. What is in another form changes nothing, nor does
        what only somebody who knows the key may say. Other threads run after each thousand."""
    def heartbeat(self) -> _Record:
        """That this server is there, to be told every ten seconds. What must be said again now and then comes next in
        `changes`."""
    def wake(self, callback: Callable[[], object]) -> None:
        """From now on, calls back where something has begun here, or keys were loaded; and at once. It may be called by
        any thread, also by one that handles a request: it must not wait."""
    def stored(self, version: int) -> None:
        """Notes that the store has everything up to a version."""
    def is_stored(self, version: int) -> bool:
        """Whether the store has everything up to a version."""
    def away(self, is_away: bool) -> None:
        """Notes that the store is away, or back. While it is away, what is left of each limit is divided by the servers
        that were there."""

def describe(record: _Record) -> dict[str, str | int | bool]:
    """What a record tells: `kind`, `until`, and more that depends on the kind, which is `log_out`, `earlier_sessions`,
    `revocation`, `lock`, `prompt`, `node` or `unknown`. Whether anybody may say so is not looked at."""

def revocation_record(path: str | os.PathLike[str], key_id: str) -> _Record:
    """The record that revokes the key of a file that has this id.

    Raises `KeyFileError` for a file that cannot be used, and `KeyError` where it has no such key.
    """

@final
class UrlKeys:
    """The keys that stood before a path. It never prints them."""

    @property
    def depth(self) -> int:
        """How many folders deeper the address that the client used lies than the path that was left."""

REDACTED: Final[str]

def generate_key() -> str:
    """A new key: 256 random bits from the operating system, as 43 URL-safe characters."""

def inject_script(page: bytes, source: str = "auth_inject.js") -> bytes:
    """The page with `<script src="SOURCE"></script>` as the first thing in its head."""

def probe_device() -> Device:
    """The first of `probe_devices()`."""

def probe_devices() -> list[Device]:
    """Every device, accelerators first, the CPU last. Imports neither torch nor CUDA."""

def profile_may_be_asked_for(name: str | None, users: Set[str], scope: Sequence[str]) -> bool:
    """Whether a key that is for no user may ask ComfyUI for a profile of this name (`None`: for every one).

    `users` are those that keys are for, in lower case; `scope` is what the key may do.
    """

def profile_of_user(profiles: Sequence[tuple[str, str]], user: str) -> str | None:
    """The id of the ComfyUI profile of `user`, among pairs of an id and a name; `None` where it is to be made."""

def scope_of(path: str, method: str, *, is_folder: bool = False) -> str | None:
    """The scope that the table names for a route of ComfyUI or ComfyUI-Manager; None where it names none.

    `path` is the route's canonical path or, with `is_folder`, a static folder's.
    """

def split_url_keys(path: str) -> tuple[UrlKeys, str] | None:
    """The keys before a raw path (`/key/KEY/prompt`), and the path without them; `None` where there are none."""

def strip_credentials(query: str) -> str:
    """A raw query string without `api_key` and `token`."""
