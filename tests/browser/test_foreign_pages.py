"""Pages of other origins, which browsers may send the cookie for: none of them may use it.

Each attempt is made from a page on another port of the same host, which is the same *site*, so that browsers send even
a Strict cookie; and from a page of another site. Both are tried against an ordinary server, and against one that allows
CORS to that very page. The same attempts from the server's own page show that they would work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from files import png, wav
from login import log_in
from origins import Origin, listening
from playwright.sync_api import Browser, Page, expect
from sites import Serve, Site

GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "attack"}},
}

_HELPERS = """
    const loaded = (element, event = "load") => new Promise((resolve, reject) => {
      element.addEventListener(event, () => resolve(true));
      element.addEventListener("error", () => reject(new Error("refused")));
      if (!element.isConnected) document.body.append(element);
    });
    const make = (name, properties) => Object.assign(document.createElement(name), properties);
    const submit = (path, enctype, name, value, target) => {
      const form = make("form", { method: "post", action: url + path, enctype, target });
      form.append(make("input", { name, value }));
      document.body.append(form);
      form.submit();
    };
"""

#: Each loads something from ComfyUI, and says whether it got it, or null if it can't know.
READS = {
    "fetch": "return (await fetch(url + list, { credentials: 'include' })).ok",
    "fetch no-cors": "await fetch(url + list, { mode: 'no-cors', credentials: 'include' }); return null",
    "XMLHttpRequest": """
        const request = new XMLHttpRequest(); request.open("GET", url + list);
        request.withCredentials = true; request.send();
        return new Promise((resolve, reject) => {
          request.onload = () => resolve(request.status === 200); request.onerror = reject;
        })""",
    "img": "return loaded(make('img', { src: url + picture }))",
    "img use-credentials": "return loaded(make('img', { crossOrigin: 'use-credentials', src: url + picture }))",
    "css url()": """
        const box = make("div", { style: `width: 9px; height: 9px; background: url("${url + picture}")` });
        document.body.append(box); return null""",
    "audio": "return loaded(make('audio', { src: url + sound }), 'loadedmetadata')",
    "stylesheet": "return loaded(make('link', { rel: 'stylesheet', href: url + style }))",
    "script": "return loaded(make('script', { src: url + script }))",
    "import()": "await import(url + script); return true",
    "object": "return loaded(make('object', { type: 'image/png', data: url + picture }))",
}

#: Each asks ComfyUI to run a graph. ComfyUI takes the body `graph` whatever its content type is.
WRITES = {
    "form in a frame": """
        document.body.append(make("iframe", { name: "sink" }));
        submit("/api/prompt", "text/plain", `${graph.slice(0, -1)},"x":"`, '"}', "sink")""",
    "form in a window": """submit("/api/prompt", "text/plain", `${graph.slice(0, -1)},"x":"`, '"}', "_blank")""",
    "fetch": "await fetch(`${url}/api/prompt`, { method: 'POST', credentials: 'include', body: graph })",
    "fetch no-cors": """
        await fetch(`${url}/api/prompt`, { method: "POST", mode: "no-cors", credentials: "include", body: graph })""",
    "fetch JSON": """
        await fetch(`${url}/api/prompt`, {
          method: "POST", credentials: "include", body: graph, headers: { "Content-Type": "application/json" },
        })""",
    "XMLHttpRequest": """
        const request = new XMLHttpRequest(); request.open("POST", `${url}/api/prompt`);
        request.withCredentials = true; request.send(graph);
        await new Promise((resolve) => { request.onloadend = resolve; })""",
    "sendBeacon": "navigator.sendBeacon(`${url}/api/prompt`, graph)",
}

_OPEN_SOCKET = """
    const socket = new WebSocket(`${url.replace("http", "ws")}/ws?clientId=attack`);
    return new Promise((resolve) => {
      socket.onopen = () => resolve(true); socket.onmessage = () => resolve(true);
      socket.onerror = () => resolve(false); socket.onclose = () => resolve(false);
    })"""


@dataclass
class Attack:
    """A page in a browser that is logged in to `victim`."""

    page: Page
    victim: Site
    _seen: int = 0

    def make(self, script: str) -> object:
        """The result of `script`, or None if it throws. Afterwards the server has answered at least once."""
        self._seen = len(self.victim.answers())
        paths = {
            "list": "/api/history?",
            "picture": self.victim.output("secret.png", png(8, 8, (9, 9, 9))),
            "sound": self.victim.output("secret.wav", wav()),
            "style": self.victim.userdata("secret.css", "body { color: red }") + "?",
            "script": self.victim.userdata("secret.js", "globalThis.secret = 1;") + "?",
        }
        # A new address each time, so that no cache answers.
        values = {name: f"{path}&once={self._seen}" for name, path in paths.items()}
        values |= {"url": self.victim.url, "graph": json.dumps({"prompt": GRAPH})}
        function = f"async ({{ {', '.join(values)} }}) => {{ {_HELPERS} {script} }}"
        result = self.page.evaluate(f"(values) => ({function})(values).catch(() => null)", values)
        for _ in range(400):
            if self.answers:
                return result
            self.page.wait_for_timeout(25)
        raise AssertionError("the browser did not even try")

    @property
    def answers(self) -> list[tuple[int, str, str]]:
        """The server's answers to the last attempt."""
        return self.victim.answers()[self._seen :]

    @property
    def admitted(self) -> list[tuple[int, str, str]]:
        """The answers that are not refusals. A preflight's doesn't count: it only gives leave to ask."""
        return [answer for answer in self.answers if answer[0] not in (302, 401, 403) and answer[1] != "OPTIONS"]


def ask(site: Site, path: str) -> dict[str, list[object]]:
    """What the server itself says, asked with the key."""
    with urlopen(Request(f"{site.url}{path}", headers={"X-API-Key": site.key}), timeout=20) as response:
        answer: dict[str, list[object]] = json.load(response)
    return answer


def prompts(site: Site) -> int:
    """How many prompts the server ever accepted."""
    queue = ask(site, "/api/queue")
    # Counted by their ids: one that ends between the two questions is in both answers.
    waiting = {prompt[1] for prompt in [*queue["queue_running"], *queue["queue_pending"]]}
    return len(waiting | set(ask(site, "/api/history")))


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Origin]:
    with listening() as origin:
        origin.pages["/"] = "<body></body>"
        yield origin


@pytest.fixture(scope="module", params=["as it is", "with CORS"])
def server(request: pytest.FixtureRequest) -> str:
    """With CORS, ComfyUI's own check of `Origin` is off, and the foreign page may send credentials."""
    return str(request.param)


@pytest.fixture(scope="module", params=["same site", "another site"])
def attack(
    request: pytest.FixtureRequest, server: str, browser: Browser, serve: Serve, elsewhere: Origin
) -> Iterator[Attack]:
    """A foreign page."""
    address = elsewhere.url if request.param == "same site" else elsewhere.cross_site_url
    cors = ["--enable-cors-header", address] if server == "with CORS" else []
    with serve(*cors) as victim, browser.new_context() as context:
        log_in(context.new_page(), victim.url, victim.key)
        page = context.new_page()
        page.goto(address)
        yield Attack(page, victim)


@pytest.fixture(scope="module")
def own(browser: Browser, site: Site) -> Iterator[Attack]:
    """The server's own page."""
    with browser.new_context() as context:
        page = context.new_page()
        log_in(page, site.url, site.key)
        yield Attack(page, site)


@pytest.mark.parametrize("kind", READS)
def test_a_foreign_page_cannot_read(attack: Attack, kind: str) -> None:
    assert not attack.make(READS[kind])
    assert attack.admitted == []


@pytest.mark.parametrize("kind", READS)
def test_an_own_page_can_read(own: Attack, kind: str) -> None:
    assert own.make(READS[kind]) in (True, None)
    assert own.admitted


@pytest.mark.parametrize("kind", WRITES)
def test_a_foreign_page_cannot_run_a_graph(attack: Attack, kind: str) -> None:
    before = prompts(attack.victim)
    attack.make(WRITES[kind])
    assert attack.admitted == []
    assert prompts(attack.victim) == before


@pytest.mark.parametrize("kind", WRITES)
def test_an_own_page_can_run_a_graph(own: Attack, kind: str) -> None:
    before = prompts(own.victim)
    own.make(WRITES[kind])
    assert prompts(own.victim) == before + 1


def test_a_foreign_page_cannot_open_a_socket(attack: Attack) -> None:
    assert attack.make(_OPEN_SOCKET) is False
    assert attack.admitted == []


def test_an_own_page_can_open_a_socket(own: Attack) -> None:
    assert own.make(_OPEN_SOCKET) is True


@pytest.mark.parametrize("path", ["/", "/index.html", "/api/history", "/api/view?filename=secret.png&type=output"])
def test_a_foreign_page_cannot_frame_comfyui(attack: Attack, path: str) -> None:
    attack.make(f"return loaded(make('iframe', {{ src: `${{url}}{path}` }}))")
    frame = attack.page.frames[-1]
    frame.wait_for_function(
        "() => location.protocol === 'chrome-error:' || document.body?.innerText.includes('cross_origin')"
    )
    # A page that refuses to be framed is fetched, but not shown, so nothing that it names is fetched.
    assert [path for _, _, path in attack.admitted if path not in ("/auth_login.html", "/index.html")] == []


def test_a_foreign_page_cannot_log_the_person_out(attack: Attack) -> None:
    for script in (
        "return loaded(make('img', { src: `${url}/auth_login.html?logout=true` }))",
        "return loaded(make('iframe', { src: `${url}/auth_login.html?logout=true` }))",
        "return loaded(make('link', { rel: 'prefetch', href: `${url}/auth_login.html?logout=true` }))",
        "await fetch(`${url}/auth_login.html?logout=true`, { mode: 'no-cors', credentials: 'include' })",
        "submit('/auth_session', 'application/x-www-form-urlencoded', 'logout', 'true', '_blank')",
        "submit('/auth_session', 'text/plain', 'logout', 'true', '_blank')",
        "await fetch(`${url}/auth_session`, { method: 'DELETE', credentials: 'include' })",
    ):
        attack.make(script)
    page = attack.page.context.new_page()
    page.goto(f"{attack.victim.url}/api/queue")
    expect(page).to_have_url(f"{attack.victim.url}/api/queue")
    page.close()


@pytest.mark.parametrize("policy", ["", "no-referrer"])
def test_a_link_on_a_foreign_page_asks_before_it_logs_out(attack: Attack, elsewhere: Origin, policy: str) -> None:
    victim = attack.victim
    page = attack.page.context.new_page()
    target = f"{victim.url}/auth_login.html?logout=true"
    elsewhere.pages["/out"] = f'<a href="{target}" referrerpolicy="{policy}">Pictures</a>'
    for _ in range(2):  # the second time the browser has the page in its cache
        page.goto(f"{attack.page.url.rstrip('/')}/out")
        page.get_by_role("link").click()
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        expect(page.get_by_role("status").filter(has_text="Another site may have sent you here.")).to_be_visible()
    page.goto(f"{victim.url}/api/queue")
    expect(page).to_have_url(f"{victim.url}/api/queue")
    page.close()


def test_a_foreign_page_cannot_log_a_person_in(attack: Attack, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(attack.page.url)
        key = attack.victim.key
        fresh = Attack(page, attack.victim)
        fresh.make(f'submit("/auth_session", "application/x-www-form-urlencoded", "api_key", "{key}", "_blank")')
        assert fresh.answers == [(403, "POST", "/auth_session")]
        assert context.cookies(attack.victim.url) == []


@pytest.mark.parametrize("path", ["/", "/api/queue"])
def test_a_link_on_a_foreign_page_leads_a_person_in_who_is_logged_in(
    attack: Attack, elsewhere: Origin, path: str
) -> None:
    page = attack.page.context.new_page()
    elsewhere.pages["/link"] = f'<a href="{attack.victim.url}{path}">ComfyUI</a>'
    page.goto(f"{attack.page.url.rstrip('/')}/link")
    page.get_by_role("link").click()
    if path != "/" and urlsplit(attack.page.url).hostname != urlsplit(attack.victim.url).hostname:
        page.get_by_role("link", name=f"Continue to {path}").click()  # the link came without the cookie
    expect(page).to_have_url(f"{attack.victim.url}{path}")
    page.close()
