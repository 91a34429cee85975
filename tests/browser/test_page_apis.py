"""`fetch` and XMLHttpRequest behave in ComfyUI's page as they do without our script, key or not.

Each snippet runs in two pages: one with our script, and one where the browser doesn't get it. Both are logged in by the
cookie, so the outcome must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from files import png
from login import log_in
from playwright.sync_api import Browser, Page
from sites import Site

SNIPPETS = {
    "looks": """
        const { get, set, ...flags } = Object.getOwnPropertyDescriptor(window, "fetch");
        delete flags.value;
        return [source(fetch), fetch.name, fetch.length, flags, typeof fetch, Object.keys(fetch),
          source(fetch) === source(alert), "prototype" in fetch]""",
    "looks of XMLHttpRequest": """
        const { prototype } = XMLHttpRequest;
        return ["open", "send", "setRequestHeader"].map((name) => {
          const { value, ...flags } = Object.getOwnPropertyDescriptor(prototype, name);
          return [source(value), value.name, value.length, flags];
        }).concat(Object.keys(XMLHttpRequest), `${XMLHttpRequest}`)""",
    "no argument": "return caught(() => fetch())",
    "bad address": "return caught(() => fetch('http://['))",
    "credentials in the address": "return caught(() => fetch('http://me:you@127.0.0.1/'))",
    "bad method": "return caught(() => fetch('/api/queue', { method: 'TRACE' }))",
    "bad header": "return caught(() => fetch('/api/queue', { headers: { 'bad name': 'x' } }))",
    "bad init": "return caught(() => fetch('/api/queue', 42))",
    "body with GET": "return caught(() => fetch('/api/queue', { body: 'x' }))",
    "bad this": "return caught(() => fetch.call({}, '/api/queue'))",
    "no this": "return (await fetch.call(undefined, '/api/queue')).status",
    "server gone": "return caught(() => fetch('http://127.0.0.1:1/'))",
    "not found": "return (await fetch('/api/nothing')).status",
    "Request": """
        const request = new Request("/api/queue");
        return [await head(await fetch(request)), await head(await fetch(request)), request.bodyUsed]""",
    "Request with a body": """
        const request = new Request("/api/free", { method: "POST", body: "{}", headers: { "X-Mine": "1" } });
        const answer = await head(await fetch(request));
        return [answer, request.bodyUsed, [...request.headers], await caught(() => fetch(request))]""",
    "Request and init": """
        return head(await fetch(new Request("/api/queue"), { method: "POST", body: "{}" }))""",
    "object in place of an address": "return head(await fetch({ toString: () => '/api/queue' }))",
    "Headers": """
        const headers = new Headers({ "X-Mine": "1" });
        return [await head(await fetch("/api/queue", { headers })), [...headers]]""",
    "getters": """
        const read = [];
        const init = {
          get method() { read.push("method"); return "POST"; },
          get body() { read.push("body"); return "{}"; },
        };
        return [await head(await fetch("/api/free", init)), read]""",
    "abort before": """
        const controller = new AbortController(); controller.abort();
        return caught(() => fetch("/api/queue", { signal: controller.signal }))""",
    "abort with a reason": """
        const controller = new AbortController(); const answer = caught(() => fetch("/witness/slow", controller));
        controller.abort(new RangeError("enough")); return answer""",
    "abort of a Request": """
        const controller = new AbortController();
        const answer = caught(() => fetch(new Request("/witness/slow", { signal: controller.signal })));
        controller.abort(); return answer""",
    "time-out": "return caught(() => fetch('/witness/slow', { signal: AbortSignal.timeout(50) }))",
    "streamed answer": """
        const reader = (await fetch(picture)).body.getReader(); let size = 0;
        for (;;) { const { done, value } = await reader.read(); if (done) return size; size += value.length; }""",
    "streamed body": """
        const body = new Blob(["x"]).stream();
        return caught(() => fetch("/api/free", { method: "POST", body, duplex: "half" }))""",
    "FormData": """
        const form = new FormData();
        form.append("image", await (await fetch(picture)).blob(), "form.png"); form.append("overwrite", "true");
        return (await fetch("/api/upload/image", { method: "POST", body: form })).json()""",
    "manual redirect": """
        const answer = await fetch("/witness/redirect?to=/api/queue", { redirect: "manual" });
        return [answer.type, answer.status]""",
    "redirect": """
        const answer = await fetch("/witness/redirect?to=/api/queue");
        return [answer.status, answer.redirected, answer.url]""",
    "XMLHttpRequest": "return send('GET', '/api/queue')",
    "synchronous XMLHttpRequest": """
        const request = new XMLHttpRequest(); request.open("GET", "/api/queue", false); request.send();
        return [request.status, request.responseText]""",
    "events": """
        const seen = []; const request = new XMLHttpRequest();
        for (const name of ["readystatechange", "loadstart", "load", "loadend", "error", "abort", "timeout"]) {
          request.addEventListener(name, () => seen.push(`${name} ${request.readyState}`));
        }
        request.open("GET", "/api/free"); request.open("GET", "/api/queue"); request.send();
        await new Promise((resolve) => { request.onloadend = resolve; }); return seen""",
    "upload progress": """
        const seen = new Set(); const request = new XMLHttpRequest();
        for (const name of ["loadstart", "progress", "load", "loadend"]) {
          request.upload.addEventListener(name, ({ type, loaded }) => {
            seen.add(type === "progress" || `${type} ${loaded}`);
          });
        }
        request.open("POST", "/api/free"); request.send(new Blob([`{"x":"${"y".repeat(3e6)}"}`]));
        await new Promise((resolve) => { request.onloadend = resolve; }); return [...seen, request.status]""",
    "answer as a buffer": """
        const answer = await send("GET", picture, null, { responseType: "arraybuffer" });
        return answer.response.byteLength""",
    "send too early": "return caught(() => new XMLHttpRequest().send())",
    "send twice": """
        const request = new XMLHttpRequest(); request.open("GET", "/api/queue"); request.send();
        return caught(() => request.send())""",
    "abort of XMLHttpRequest": """
        const request = new XMLHttpRequest(); request.open("GET", "/witness/slow"); request.send();
        const ended = new Promise((resolve) => { request.onabort = () => resolve("abort"); });
        request.abort(); return [await ended, request.readyState, request.status]""",
    "XMLHttpRequest time-out": """
        const request = new XMLHttpRequest(); request.open("GET", "/witness/slow"); request.timeout = 50;
        request.send(); return new Promise((resolve) => { request.ontimeout = ({ type }) => resolve(type); })""",
    "open without an address": "return caught(() => new XMLHttpRequest().open('GET'))",
    "open with a bad address": "return caught(() => new XMLHttpRequest().open('GET', 'http://['))",
    "open with a bad method": "return caught(() => new XMLHttpRequest().open('TRACE', '/'))",
    "header too early": "return caught(() => new XMLHttpRequest().setRequestHeader('a', 'b'))",
    "open on something else": "return caught(() => XMLHttpRequest.prototype.open.call({}, 'GET', '/'))",
    "subclass": """
        class Mine extends XMLHttpRequest { send(body) { this.mine = true; super.send(body); } }
        const request = new Mine(); request.open("GET", "/api/queue"); request.send();
        await new Promise((resolve) => { request.onloadend = resolve; }); return [request.mine, request.status]""",
    "service worker": """
        const { serviceWorker } = navigator;
        const registration = await serviceWorker.register(worker, { scope: "/api/witness/" });
        const state = await new Promise((resolve) => {
          const worker_ = registration.installing ?? registration.waiting ?? registration.active;
          if (worker_.state === "activated") resolve(worker_.state);
          worker_.onstatechange = () => worker_.state === "activated" && resolve(worker_.state);
        });
        await registration.unregister(); return state""",
    "clean frame": """
        const frame = document.body.appendChild(document.createElement("iframe"));
        const answer = await frame.contentWindow.fetch(new URL("/api/queue", location)); frame.remove();
        return answer.status""",
}

_HELPERS = r"""
    const caught = async (action) => {
      try { const result = await action(); return `no error: ${result?.status}`; }
      catch (error) { return `${error.name}: ${error.message}`; }
    };
    const head = async (answer) =>
      [answer.status, answer.type, answer.url, answer.redirected, (await answer.text()).length];
    // A Proxy says that it is native code, but not its name.
    const source = (native) => `${native}`.replace(/^function \w*/, "function ");
    const send = (method, address, body = null, properties = {}) => new Promise((resolve) => {
      const request = Object.assign(new XMLHttpRequest(), properties);
      request.open(method, address);
      request.onloadend = () => resolve(properties.responseType ? request : [request.status, request.responseText]);
      request.send(body);
    });
"""


@pytest.fixture(scope="module")
def pages(browser: Browser, site: Site) -> Iterator[tuple[Page, Page]]:
    """ComfyUI's page with our script, holding a key, and without the script. Neither loads the frontend."""
    with browser.new_context() as wrapped, browser.new_context() as native:
        native.route("**/auth_inject.js", lambda route: route.abort())
        pages = []
        for context in (wrapped, native):
            context.route("**/assets/**", lambda route: route.abort())
            page = context.new_page()
            log_in(page, site.url, site.key, path="/")
            pages.append(page)
        yield pages[0], pages[1]


@pytest.mark.parametrize("name", SNIPPETS)
def test_nothing_changes_for_the_page(pages: tuple[Page, Page], site: Site, name: str) -> None:
    values = [
        site.output("answer.png", png(64, 48, (1, 2, 3))),
        "/api/witness/worker.js",
    ]
    outcomes = [
        page.evaluate(f"async ([picture, worker]) => {{ {_HELPERS} {SNIPPETS[name]} }}", values) for page in pages
    ]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] is not None


def test_a_header_of_the_page_wins(pages: tuple[Page, Page]) -> None:
    statuses = """async (headers) => {
      const request = new XMLHttpRequest();
      request.open("GET", "/api/queue", false);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.send();
      const [plain, copied] = [await fetch("/api/queue", { headers, credentials: "omit" }),
        await fetch(new Request("/api/queue", { headers, credentials: "omit" }))];
      return [plain.status, copied.status, request.getResponseHeader("WWW-Authenticate")];
    }"""
    for headers in ({"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}):
        # The cookie admits XMLHttpRequest, which cannot leave it out.
        assert pages[0].evaluate(statuses, headers) == [401, 401, None]
    assert pages[0].url.endswith("/"), "one refused request of the page's own ended its session"
