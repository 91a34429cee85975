"""The whole decision in the words of the design: slow, obvious, and independent of the code that it checks.

It judges what a request is, not how it is written: test_decision.py writes it down and sends it. The numbers of the
rules are the design's. Where the server is stricter than the design, the docstring says so: see `is_embedded`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from support.keys import KEY, OTHER_KEY, SHORT_KEY

VIEW_KEY, RUN_KEY, NEAR_KEY, EXPIRED_KEY, LAPTOP_KEY, PHONE_KEY = (
    f"canary-key-of-32-characters-for-{use}" for use in ("view", "run", "near", "old", "laptop", "phone")
)


class Attributes(NamedTuple):
    """The attributes of a key.

    What it may do, whether it works from one address only, whether it has expired, which user it is for, and how many
    prompts it may queue in an hour (a history takes less than an hour).
    """

    scope: frozenset[str] = frozenset({"all"})
    #: Only valid for the network of "peer" and "proxy".
    near: bool = False
    expired: bool = False
    user: str | None = None
    prompts: int | None = None


#: The attributes of each key. `run` includes `view`.
KEYS = {
    KEY: Attributes(),
    OTHER_KEY: Attributes(),
    SHORT_KEY: Attributes(),
    VIEW_KEY: Attributes(scope=frozenset({"view"})),
    RUN_KEY: Attributes(scope=frozenset({"run", "view"})),
    NEAR_KEY: Attributes(near=True),
    EXPIRED_KEY: Attributes(expired=True),
    LAPTOP_KEY: Attributes(scope=frozenset({"run", "view"}), user="anna", prompts=3),
    PHONE_KEY: Attributes(scope=frozenset({"run", "view"}), user="anna", prompts=2),
}

#: No longer a key: it was removed from the file, but it still has sessions.
GONE_KEY = "canary-key-of-32-characters-that-is-gone"

#: A value that its scheme can't parse: neither absent nor a key.
MALFORMED = "malformed"

SUFFIXES = """
.html .js .css .json .png .jpg .jpeg .gif .webp .svg .ico .woff .woff2 .ttf .mp3 .wav .mp4 .webm
""".split()  # noqa: SIM905

#: A JSON Web Token that a gateway in front of the server sets as `Authorization: Bearer`.
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"

#: The places of credentials: in headers, or in the address.
HEADERS, ADDRESS = ("bearer", "basic", "x-api-key"), ("api_key", "token", "url")

#: What can happen to a request.
ADMITTED, MISSING, INVALID, TAKEN = "admitted", "401", "401 invalid_token", "401 client_id_taken"
SCOPE, ADDRESS_REFUSED = "403 insufficient_scope", "403 address"
FOREIGN, LOCKED, FULL, LOGIN = "403", "429", "429 sockets", "302 to the login page"
QUOTA = "429 quota"
ILLEGIBLE, LOGGED_IN = "400 control_character", "admitted, with a session from now on"

#: If there are several reasons, the last one in this list is reported.
GRAVITY = [MISSING, INVALID, LOCKED, SCOPE, ADDRESS_REFUSED, FOREIGN]


@dataclass(frozen=True)
class Policy:
    """What the operator wants, in ComfyUI or in their own application."""

    in_comfyui: bool = True
    require_ws: bool = False
    exempt: tuple[str, ...] = ()
    trusted_proxy: bool = False
    url_key: bool = False


class Place(NamedTuple):
    """What the router makes of a target: a route, or a file below a static mount ("" is the frontend's own).

    `for_options`: the handler was registered for `OPTIONS`, not for every method. `illegible`: it decodes to a control
    character.
    """

    target: str
    methods: tuple[str, ...]
    route: str = ""
    mount: str | None = None
    file: str = ""
    for_options: bool = False
    illegible: bool = False
    #: The scope that reading or changing it needs in ComfyUI. Empty: any valid key will do.
    read: str = "all"
    write: str = "all"
    #: Whether ComfyUI refuses a prompt that is posted here.
    is_faulty: bool = False


class Credential(NamedTuple):
    """`source` is bearer, basic, x-api-key, api_key, token or url."""

    source: str
    value: str


class Presented(NamedTuple):
    """A value, whether the browser may have added it on its own, and where it is: header, address or cookie."""

    value: str
    by_itself: bool
    place: str


class Cookie(NamedTuple):
    """A session: whose it is (None: nobody's), and whether it has expired, was changed, or has another server's name.

    `own`: it was made for this history, which may log it out.
    """

    key: str | None
    expired: bool = False
    changed: bool = False
    named_for_another: bool = False
    own: bool = False


@dataclass(frozen=True)
class Request:
    method: str
    place: Place
    credentials: tuple[Credential, ...] = ()
    cookies: tuple[Cookie, ...] = ()
    host: str = ""
    site: str | None = None
    mode: str | None = None
    destination: str | None = None
    origin: str | None = None
    referer: str | None = None
    accept: str | None = None
    preflight: bool = False
    upgrade: bool = False
    client_id: bool = False
    #: Who sends it ("peer" or "proxy"), and the value of `X-Forwarded-For`.
    peer: str = "peer"
    forwarded_for: tuple[str, ...] = ()


#: Routes that this package adds. Any valid key will do.
OURS = ("/", "/index.html", "/health", "/auth_session", "/auth_login.html", "/auth_inject.js")

#: A client, and whether any web page can send the credentials that are counted.
Budget = tuple[str, bool]


@dataclass
class Model:
    """What a server remembers, and how it decides. Each method is one sentence, so each mutant breaks one."""

    policy: Policy
    #: Wrong credentials by budget.
    failures: dict[Budget, set[str]] = field(default_factory=dict)
    locked: set[Budget] = field(default_factory=set)
    evaluated: Counter[Budget] = field(default_factory=Counter)
    good: set[tuple[str, str]] = field(default_factory=set)
    logged_out: bool = False
    #: The keys of open sockets with the clientId.
    owners: set[str] = field(default_factory=set)
    admitted_by: str = ""
    #: How many sockets without a credential are open, by client.
    strangers: dict[str, int] = field(default_factory=dict)
    #: How many prompts ComfyUI has queued, by user.
    queued: Counter[str] = field(default_factory=Counter)

    def judge(self, request: Request) -> str:
        """What the server must answer. Remembers what the server would remember."""
        if self.is_illegible(request):
            return ILLEGIBLE
        if self.policy.in_comfyui and self.is_preflight(request):
            return ADMITTED  # answered at the gate
        client = self.client(request)
        resource = self.resource(request)
        if resource and resource.route == "/auth_session" and request.method in ("POST", "DELETE"):
            # Only a log-in or log-out counts what is presented there. But a right key always makes this address good.
            self.first_valid(self.in_order(request), request, client)
            return self.log_in(request, client) if request.method == "POST" else self.log_out(request)
        refused = self.authenticate(request, client)
        if refused is None:
            if request.client_id and request.upgrade:
                if self.takes_over(request, self.admitted_by):
                    return TAKEN
                self.owners.add(self.admitted_by)
            if resource and self.is_a_prompt(request, resource) and not self.queue(self.admitted_by, resource):
                return QUOTA
        else:
            refused = self.exempt(request, resource, refused)
        if refused is None:
            if resource and resource.route in ("/", "/index.html") and "text/html" in (request.accept or ""):
                return self.follow_link(request, client)
            if resource and resource.route == "/auth_session":
                self.introduce(self.in_order(request), request, client)
            return ADMITTED
        return LOGIN if self.leads_to_login(request, resource, refused) else refused

    # --- rule 1: credentials; rule 2: the cookie alone; failed attempts ---------------------------------------------

    def authenticate(self, request: Request, client: str) -> str | None:
        """Why no credential admits the request, or None. Any valid one admits it, and a bad one never vetoes a good
        one.

        The order is that of DESIGN's first step, but the session cookie comes before keys in the address.
        """
        presented = self.in_order(request)
        return self.counted(self.first_valid(presented, request, client), presented, request, client)

    def in_order(self, request: Request) -> list[Presented]:
        sessions = [Presented(str(cookie.key), True, "cookie") for cookie in request.cookies if self.verifies(cookie)]
        return [*self.presented(request, *HEADERS), *sessions, *self.presented(request, *ADDRESS)]

    def presented(self, request: Request, *sources: str) -> list[Presented]:
        """The values in these places. An empty value counts as absent, and so does another login's token."""
        by_browser = self.is_by_a_browser(request)
        return [
            Presented(value, source == "basic" and by_browser, "header" if source in HEADERS else "address")
            for source, value in request.credentials
            if source in sources and value and (source, value) != ("bearer", TOKEN)
        ]

    def first_valid(self, presented: list[Presented], request: Request, client: str) -> str | None:
        """The first valid one that passes every check counts as used. A locked address hears only of the lock."""
        refused = MISSING
        for one in presented:
            if not self.is_valid(one.value):
                graver = INVALID
            elif not self.passes(one, request, client):
                graver = LOCKED
            elif refusal := self.refusal(one, request):
                graver = refusal
            else:
                self.use(one, client)
                return None
            refused = max(refused, graver, key=GRAVITY.index)
        return refused

    def is_valid(self, key: str) -> bool:
        """A key that has expired is an unknown key."""
        return key in KEYS and not KEYS[key].expired

    def refusal(self, one: Presented, request: Request) -> str | None:
        """The checks that a valid key must still pass, except the lock."""
        if one.by_itself and not self.may_use_the_cookie(request):
            return FOREIGN
        if KEYS[one.value].near and not self.is_near(request):
            return ADDRESS_REFUSED
        return None if self.may(one.value, request) else SCOPE

    def is_near(self, request: Request) -> bool:
        """If the client's address isn't known, `from=` refuses: the proxy isn't trusted, or it names no client."""
        if self.is_by_an_unnamed_proxy(request):
            return False
        if not self.is_by_a_trusted_proxy(request):
            return True
        return bool(request.forwarded_for) and all(hop == "proxy" for hop in request.forwarded_for)

    def is_by_a_trusted_proxy(self, request: Request) -> bool:
        return self.policy.trusted_proxy and request.peer == "proxy"

    def is_by_an_unnamed_proxy(self, request: Request) -> bool:
        return bool(request.forwarded_for) and not self.is_by_a_trusted_proxy(request)

    def may(self, key: str, request: Request) -> bool:
        """A route that isn't in the table needs `all`. Our own routes accept any valid key, and so does any log-in."""
        needed = self.needed(request)
        return not needed or "all" in KEYS[key].scope or needed in KEYS[key].scope

    def needed(self, request: Request) -> str:
        resource = self.resource(request)
        if resource is None:
            return "all"
        if resource.route in OURS or (self.policy.in_comfyui and resource.route == "/api/health"):
            return ""
        if not self.policy.in_comfyui:
            return "all"
        return {"GET": resource.read, "HEAD": resource.read, "POST": resource.write}.get(request.method, "all")

    def use(self, one: Presented, client: str) -> None:
        self.good.add((client, one.value))
        self.admitted_by = one.value

    def passes(self, one: Presented, request: Request, client: str) -> bool:
        """While an address is locked, sessions pass, and keys of 32 or more characters that were good from there."""
        if one.place == "cookie" or self.budget(one, request, client) not in self.locked:
            return True
        return self.is_long(one.value) and (client, one.value) in self.good

    def is_long(self, key: str) -> bool:
        return len(key) >= 32

    def budget(self, one: Presented, request: Request, client: str) -> Budget:
        """Keys in the address, and requests that say they come from another site, have their own budget."""
        return client, one.place == "address" or self.is_of_another_site(request)

    def is_of_another_site(self, request: Request) -> bool:
        if request.site is None and request.origin is None and request.referer is not None:
            return request.referer not in (f"http://{request.host}/", f"https://{request.host}/")
        return self.is_foreign(request)

    def counted(self, refused: str | None, presented: list[Presented], request: Request, client: str) -> str | None:
        """Wrong keys count if the request isn't admitted. Then the keys that a lock held back are evaluated."""
        if refused is None:
            return None
        keys = [one for one in presented if one.place != "cookie"]
        held_back = [one for one in keys if self.is_valid(one.value) and not self.passes(one, request, client)]
        if self.count(keys, request, client):
            refused = max(refused, LOCKED, key=GRAVITY.index)
        for one in held_back:
            if self.evaluates(self.budget(one, request, client)) and self.refusal(one, request) is None:
                self.use(one, client)
                return None
        return refused

    def count(self, keys: list[Presented], request: Request, client: str) -> bool:
        """Counts wrong keys. Returns whether one of their budgets was already locked."""
        wrong: dict[Budget, list[str]] = {}
        for one in keys:
            if not self.is_valid(one.value):
                wrong.setdefault(self.budget(one, request, client), []).append(one.value)
        were_locked = [self.failed(budget, values) for budget, values in wrong.items()]
        return any(were_locked)

    def failed(self, budget: Budget, wrong: list[str]) -> bool:
        """Ten distinct wrong credentials in a minute lock an address. (A history takes less than a minute.)

        Returns whether it was already locked. Then these credentials are among the ten that are evaluated.
        """
        keys = [value for value in wrong if value != MALFORMED]
        if budget in self.locked:
            self.evaluated[budget] += len(keys)
            return True
        failures = self.failures.setdefault(budget, set())
        failures |= set(keys)
        if len(failures) >= 10:
            self.locked.add(budget)
        return False

    def evaluates(self, budget: Budget) -> bool:
        """While locked, ten other keys in all are evaluated, right or wrong, then none until the lock ends."""
        self.evaluated[budget] += 1
        return self.evaluated[budget] <= 10

    def is_by_a_browser(self, request: Request) -> bool:
        """What a browser adds on its own proves nothing: the cookie, and Basic if anything shows it's a browser."""
        marks = (request.site, request.mode, request.destination, request.origin, request.referer, *request.cookies)
        return any(mark is not None for mark in marks) or "text/html" in (request.accept or "")

    def verifies(self, cookie: Cookie) -> bool:
        """A cookie that doesn't verify counts as absent."""
        ended = cookie.expired or (cookie.own and self.logged_out)
        return (
            cookie.key is not None
            and self.is_valid(cookie.key)
            and not cookie.changed
            and not cookie.named_for_another
            and not ended
        )

    def may_use_the_cookie(self, request: Request) -> bool:
        if request.method in ("POST", "PUT", "PATCH", "DELETE") or request.upgrade:
            return self.is_same_origin(request)
        return not self.is_embedded(request)

    def is_same_origin(self, request: Request) -> bool:
        if request.site is not None:
            return request.site in ("same-origin", "none")
        return request.origin in (f"http://{request.host}", f"https://{request.host}")

    def is_embedded(self, request: Request) -> bool:
        """Stricter than the design: what another origin may not write, it may not read by `<img>` or `<iframe>`."""
        if request.site not in ("same-site", "cross-site"):
            return False
        return (request.mode, request.destination) != ("navigate", "document")

    def client(self, request: Request) -> str:
        """`X-Forwarded-For` is believed only from a trusted proxy, from the right up to the first that isn't one."""
        hops = (request.peer, *reversed(request.forwarded_for)) if self.policy.trusted_proxy else (request.peer,)
        return self.one_address(next((hop for hop in hops if hop != "proxy"), "proxy"))

    def one_address(self, client: str) -> str:
        """All of loopback is one address. Here that is the direct client and the proxy."""
        return "loopback" if client in ("peer", "proxy") else client

    # --- rule 3: exempt ---------------------------------------------------------------------------------------------

    def resource(self, request: Request) -> Place | None:
        """The resolved route. None for unknown paths, and for methods that the path doesn't accept."""
        return request.place if request.method in request.place.methods else None

    def exempt(self, request: Request, resource: Place | None, refused: str) -> str | None:
        if resource is None:
            return refused
        if self.is_preflight(request) and resource.for_options:
            return None
        path = self.without_twin(resource.route)
        if request.method in ("GET", "HEAD"):
            if path == "/health":
                return None if refused == MISSING else refused
            if path == "/ws" and self.policy.in_comfyui and not self.policy.require_ws:
                if self.is_of_another_host(request):
                    return FOREIGN
                return TAKEN if self.takes_over(request, None) else self.open_socket(request)
            if path in ("/auth_login.html", "/auth_inject.js") or self.is_public(resource):
                return None
        return None if self.operator_exempts(resource) else refused

    def without_twin(self, route: str) -> str:
        """ComfyUI has every route a second time below `/api`."""
        return re.sub("^/api", "", route) if self.policy.in_comfyui else route

    def is_illegible(self, request: Request) -> bool:
        """A path or a clientId that decodes to a control character is refused, with any key."""
        return request.place.illegible

    def is_preflight(self, request: Request) -> bool:
        return request.method == "OPTIONS" and request.preflight

    def is_of_another_host(self, request: Request) -> bool:
        """On `/ws`, a page of the same host name at another port counts as one without a cookie."""
        if request.site in ("same-origin", "none"):
            return False
        if request.origin is None:
            return request.site is not None
        page, here = (authority.split(":")[0] for authority in (request.origin.partition("://")[2], request.host))
        return page != here

    def takes_over(self, request: Request, key: str | None) -> bool:
        return request.client_id and bool(self.owners - {key})

    def open_socket(self, request: Request) -> str | None:
        """Without a credential, 32 sockets for each address. Loopback is excepted: it may be a proxy."""
        client = self.client(request)
        if not request.upgrade or client in ("peer", "proxy"):
            return None
        if self.strangers.setdefault(client, 0) >= 32:
            return FULL
        self.strangers[client] += 1
        return None

    def is_public(self, resource: Place) -> bool:
        """ComfyUI's `/templates/*`, `/docs/*`, static `/extensions/*`; the guide's suffixes on its own mount."""
        if not self.policy.in_comfyui:
            return False
        if resource.mount is None:
            return resource.route == "/index.html" or resource.route.startswith(("/templates/", "/docs/"))
        if self.is_hidden(resource):
            return False
        if f"{resource.mount}/".startswith(("/extensions/", "/templates/", "/docs/")):
            return True
        return resource.mount == "" and resource.file.endswith(tuple(SUFFIXES))

    def is_hidden(self, resource: Place) -> bool:
        """A file or folder whose name begins with a dot isn't public."""
        return "/." in f"{resource.mount}/{resource.file}"

    def operator_exempts(self, resource: Place) -> bool:
        path = resource.route if resource.mount is None else f"{resource.mount}/{resource.file}"
        for pattern in self.policy.exempt:
            if pattern.startswith("^"):
                if re.fullmatch(pattern, path):
                    return True
            elif re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), path):
                return True
        return False

    # --- limits -----------------------------------------------------------------------------------------------------

    def is_a_prompt(self, request: Request, resource: Place) -> bool:
        if not self.policy.in_comfyui or request.method != "POST":
            return False
        return resource.mount is None and self.without_twin(resource.route) == "/prompt"

    def queue(self, key: str, resource: Place) -> bool:
        """A limit counts the prompts that ComfyUI has queued for a user. Each key has its own limit."""
        limit, user = KEYS[key].prompts, self.user(key)
        if limit is not None and self.queued[user] >= limit:
            return False
        if limit is not None and not resource.is_faulty:
            self.queued[user] += 1
        return True

    def user(self, key: str) -> str:
        """Without `user=` each key is its own user."""
        return KEYS[key].user or key

    # --- rule 4: refused --------------------------------------------------------------------------------------------

    def leads_to_login(self, request: Request, resource: Place | None, refused: str) -> bool:
        if refused not in (MISSING, INVALID) or request.upgrade or request.method not in ("GET", "HEAD"):
            return False
        # HEAD of the root is treated like GET: it asks what GET would answer.
        is_root = resource is not None and resource.route == "/"
        return is_root or (request.accept is not None and "text/html" in request.accept)

    # --- sessions ---------------------------------------------------------------------------------------------------

    def log_in(self, request: Request, client: str) -> str:
        """A key makes a session; a session doesn't. Wrong keys count even if there is a valid session.

        A log-in from a foreign page is refused wherever the key is.
        """
        if self.is_foreign(request):
            return FOREIGN
        keys = self.presented(request, *HEADERS, *ADDRESS)
        return self.counted(self.first_valid(keys, request, client), keys, request, client) or ADMITTED

    def introduce(self, presented: list[Presented], request: Request, client: str) -> None:
        """The answer says which credential counts, so wrong keys before it count too."""
        for number, one in enumerate(presented):
            if self.first_valid([one], request, client) is None:
                self.count([before for before in presented[:number] if before.place != "cookie"], request, client)
                return

    def follow_link(self, request: Request, client: str) -> str:
        """A key in the page's address logs in, if the person surely wants that. A wrong one is a guess."""
        address = self.presented(request, *ADDRESS)
        admitted_by = self.admitted_by
        refused = self.counted(self.first_valid(address, request, client), address, request, client)
        self.admitted_by = admitted_by
        return LOGGED_IN if refused is None and request.method == "GET" and self.is_wanted(request) else ADMITTED

    def is_wanted(self, request: Request) -> bool:
        """Another page may have made the browser load this one. And a GET never replaces a session."""
        return not self.has_a_session(request) and (self.is_opened(request) or self.is_a_programs(request))

    def has_a_session(self, request: Request) -> bool:
        return any(self.verifies(cookie) for cookie in request.cookies)

    def is_opened(self, request: Request) -> bool:
        shown = request.mode in (None, "navigate") and request.destination in (None, "document")
        return request.site in ("same-origin", "none") and shown

    def is_a_programs(self, request: Request) -> bool:
        return not self.is_by_a_browser(replace(request, accept=None))

    def is_foreign(self, request: Request) -> bool:
        return (request.site is not None or request.origin is not None) and not self.is_same_origin(request)

    def log_out(self, request: Request) -> str:
        """Ends the session, if there is one. A page of another origin can't even do that, and neither can a GET."""
        has_session = any(self.verifies(cookie) for cookie in request.cookies)
        if self.is_foreign(request) or (has_session and not self.may_use_the_cookie(request)):
            return FOREIGN
        self.logged_out |= any(cookie.own and self.verifies(cookie) for cookie in request.cookies)
        return ADMITTED
