"""What a page of another site leads to has no effect until the person clicks.

On loopback, where browsers tell the server where a request comes from, and over plain HTTP at a name, where they don't.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from frontends import without_frontend
from login import LOGIN_PAGE, expect_comfyui, expect_login_page, key_field, log_in, stored, submit
from origins import Origin
from playwright.sync_api import Browser, Page, expect
from sites import Serve, Site

BOOM = "/witness/boom"
HIDDEN = '<meta name="referrer" content="no-referrer">'

#: Everything that a page can load by itself.
EMBED = """async ([url, accept]) => {
  const done = (element, parent = document.body) => new Promise((resolve) => {
    element.onload = element.onerror = resolve;
    parent.append(element);
    setTimeout(resolve, 1500);
  });
  const make = (name, properties) => Object.assign(document.createElement(name), properties);
  const headers = { Accept: accept };
  await Promise.all([
    ...["include", "omit"].map((credentials) => fetch(url, { mode: "no-cors", credentials, headers }).catch(() => {})),
    done(make("img", { src: url })),
    done(make("script", { src: url })),
    done(make("iframe", { src: url })),
    done(make("object", { data: url })),
    done(make("embed", { src: url })),
    done(make("link", { rel: "stylesheet", href: url }), document.head),
    done(make("link", { rel: "prefetch", href: url }), document.head),
    done(make("link", { rel: "preload", as: "fetch", href: url }), document.head),
    done(make("link", { rel: "prerender", href: url }), document.head),
    done(make("script", { type: "speculationrules", textContent: JSON.stringify({
      prefetch: [{ urls: [url] }], prerender: [{ urls: [url] }],
    }) })),
  ]);
}"""

#: Whether the login page waits for the person, or another page is shown.
AT_REST = """() => {
  if (document.readyState !== "complete") return false;
  if (!location.pathname.endsWith("/auth_login.html")) return true;
  if (document.querySelector("form a, #logout:not([hidden])")) return true;
  // It goes on by itself with a session, or with a key that it finds.
  const asked = performance.getEntriesByType("resource").find(({ name }) => name.endsWith("/auth_session"));
  const holds = [sessionStorage, localStorage].some((area) => area.getItem("comfyui_api_key"));
  return asked?.responseStatus === 401 && !holds;
}"""


@dataclass
class Scene:
    """A person in a browser, ComfyUI at one address, and pages at others."""

    page: Page
    site: Site
    url: str
    foreign: Origin
    another_site: str
    another_port: str

    def embed(self, target: str, base: str) -> None:
        self.foreign.pages["/"] = "<body></body>"
        self.page.goto(f"{base}/")
        self.page.evaluate(EMBED, [self.url + target, "text/html"])

    def lead(self, target: str, base: str, head: str = "") -> None:
        """Let a page of `base` go to `target` by itself."""
        self.foreign.pages["/"] = f'{head}<script>location = "{self.url}{target}"</script>'
        self.page.goto(f"{base}/", wait_until="commit")
        self.page.wait_for_url(re.compile(rf"^{re.escape(self.url)}/"))
        self.page.wait_for_function(AT_REST)
        if not LOGIN_PAGE.search(self.page.url):
            self.page.wait_for_load_state("networkidle")

    def booms(self) -> int:
        return self.site.server.output.count("[boom]")

    def session(self) -> list[str]:
        return [cookie["value"] for cookie in self.page.context.cookies(self.url)]


@pytest.fixture(params=["loopback", "a name over plain HTTP"])
def scene(request: pytest.FixtureRequest, named: Browser, site: Site, foreign: Origin) -> Iterator[Scene]:
    here = "127.0.0.1" if request.param == "loopback" else "comfy.example"
    with named.new_context() as context:
        without_frontend(context)
        url, port = f"http://{here}:{site.server.port}", f"http://{here}:{foreign.port}"
        yield Scene(context.new_page(), site, url, foreign, f"http://evil.example:{foreign.port}", port)


#: Spellings of `next` that lead to a node's route with an effect.
NEXT = [
    quote(BOOM, safe=""), "/witness/boom", "%2F%2Fwitness%2Fboom", "/api/../witness/boom", "/./witness/boom",
    "/witness//boom", "%5Cwitness%5Cboom", "/%5C/witness/boom", "/%09/witness/boom", "%0A/witness/boom",
    "%252Fwitness%252Fboom", "javascript:location='/witness/boom'", "/api/auth_login.html?next=/witness/boom",
    "%2Fauth_login.html%3Fnext%3D%2Fwitness%2Fboom", "/witness/boom%23x", "/witness/%62oom", "/?x#/witness/boom",
]  # fmt: skip


@pytest.mark.parametrize("kept", ["a session", "a key"])
def test_no_link_of_another_site_runs_what_it_leads_to(scene: Scene, kept: str) -> None:
    log_in(scene.page, scene.url, scene.site.key, remember=True)
    before = scene.booms()
    spellings = NEXT if kept == "a session" else NEXT[:1]
    for target in (BOOM, *(f"/auth_login.html?next={spelling}" for spelling in spellings)):
        for head in ("", HIDDEN) if target == BOOM else (HIDDEN,):
            if kept == "a key":
                scene.page.context.clear_cookies()
            scene.lead(target, scene.another_site, head)
            assert re.match(re.escape(scene.url) + r"/(auth_login\.html\?|\?x#|$)", scene.page.url), target
    assert scene.booms() == before

    scene.lead(BOOM, scene.another_site)
    scene.page.reload()
    scene.page.wait_for_load_state("networkidle")
    assert scene.booms() == before
    scene.page.get_by_role("link", name=f"Continue to {BOOM}", exact=True).click()
    expect(scene.page).to_have_url(scene.url + BOOM)
    assert scene.booms() == before + 1


def test_no_link_of_another_port_is_followed_by_the_login_page(scene: Scene) -> None:
    log_in(scene.page, scene.url, scene.site.key)
    before = scene.booms()
    for head in ("", HIDDEN):
        scene.lead(f"/auth_login.html?next={BOOM}", scene.another_port, head)
        expect_login_page(scene.page)
    assert scene.booms() == before


def test_what_the_address_bar_led_to_before_makes_no_difference(scene: Scene) -> None:
    """The page is in the browser's cache, with what the server said about the first visit."""
    log_in(scene.page, scene.url, scene.site.key)
    scene.page.goto(f"{scene.url}/auth_login.html?next={BOOM}&x", wait_until="commit")
    scene.page.wait_for_load_state("networkidle")
    before = scene.booms()
    scene.lead(f"/auth_login.html?next={BOOM}&x", scene.another_site, HIDDEN)
    expect_login_page(scene.page)
    assert scene.booms() == before


def test_a_log_in_in_another_tab_does_not_follow_the_link(scene: Scene) -> None:
    scene.lead(BOOM, scene.another_site)
    expect_login_page(scene.page)
    second = scene.page.context.new_page()
    before = scene.booms()
    log_in(second, scene.url, scene.site.key)
    expect(scene.page.get_by_role("link", name=f"Continue to {BOOM}")).to_be_visible()
    assert scene.booms() == before


def test_a_link_is_followed_once_a_key_is_typed(scene: Scene) -> None:
    scene.lead(BOOM, scene.another_site, HIDDEN)
    submit(scene.page, scene.site.key)
    expect(scene.page).to_have_url(scene.url + BOOM)


def test_a_link_to_the_start_page_leads_there(scene: Scene) -> None:
    log_in(scene.page, scene.url, scene.site.key)
    for head in ("", HIDDEN):
        scene.lead("/", scene.another_site, head)
        expect(scene.page).to_have_url(f"{scene.url}/")


def test_who_opens_an_address_goes_on_there(scene: Scene) -> None:
    """By itself, if the browser says that the person opened it."""
    page = scene.page
    log_in(page, scene.url, scene.site.key, remember=True)
    page.context.clear_cookies()
    page.goto(f"{scene.url}/api/queue")
    if "127.0.0.1" not in scene.url:
        page.get_by_role("link", name="Continue to /api/queue").click()
    expect(page).to_have_url(f"{scene.url}/api/queue")


def test_no_get_logs_out(scene: Scene) -> None:
    page = scene.page
    log_in(page, scene.url, scene.site.key, remember=True)
    session = scene.session()
    for base in (scene.another_site, scene.another_port):
        scene.embed("/auth_login.html?logout=true", base)
        scene.lead("/auth_login.html?logout=true", base)
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
    scene.lead("/auth_login.html?logout=true", scene.another_site, HIDDEN)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert scene.session() == session
    assert stored(page)["local"] == scene.site.key
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    assert scene.session() == []


@pytest.mark.parametrize("opened", ["typed", "from a page of ours"])
def test_who_opens_the_guides_address_is_logged_out(scene: Scene, opened: str) -> None:
    page = scene.page
    log_in(page, scene.url, scene.site.key)
    address = f"{scene.url}/auth_login.html?logout=true"
    if opened == "typed":
        page.goto(address)
    else:
        page.evaluate("(address) => { location = address; }", address)
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    assert scene.session() == []


# ---------------------------------------------------------------------------------------------------------------------
# Links with a key in them


OTHER_KEY = "another-key-of-32-characters-or-more"


@pytest.fixture(scope="module")
def site(serve: Serve) -> Iterator[Site]:
    """Two keys, one of them without a label."""
    with serve() as site:
        site.set_keys(f"{site.key} Ann", OTHER_KEY)
        yield site


def who(scene: Scene) -> str | None:
    """The label of the session's key."""
    label: str | None = scene.page.evaluate("async () => (await (await fetch('/auth_session')).json()).label")
    return label


def test_no_page_changes_whose_session_it_is(scene: Scene) -> None:
    page = scene.page
    log_in(page, scene.url, OTHER_KEY)
    session = scene.session()
    link = f"/?api_key={scene.site.key}"
    for base in (scene.another_site, scene.another_port):
        scene.embed(link, base)
        for head in ("", HIDDEN):
            scene.lead(link, base, head)
            expect(page.get_by_role("button", name="Log in as Ann", exact=True)).to_be_visible()
            assert scene.site.key not in page.url
    page.goto(scene.url + link)
    expect(page.get_by_role("button", name="Log in as Ann", exact=True)).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert scene.session() == session
    page.get_by_role("link", name="Continue without it").click()
    expect_comfyui(page, f"{scene.url}/")
    assert scene.session() == session
    page.goto(scene.url + link)
    page.get_by_role("button", name="Log in as Ann", exact=True).click()
    expect_comfyui(page, f"{scene.url}/")
    assert who(scene) == "Ann"
    assert stored(page)["session"] is None, "scripts would use the other key"


def test_no_page_logs_a_browser_in(scene: Scene) -> None:
    page = scene.page
    link = f"/?x&token={OTHER_KEY}"
    for base in (scene.another_site, scene.another_port):
        scene.embed(link, base)
        scene.lead(link, base)
        expect(page.get_by_role("button", name="Log in with this link")).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert scene.session() == []
    page.get_by_role("button").click()
    expect_comfyui(page, f"{scene.url}/?x")
    assert len(scene.session()) == 1


def test_a_typed_link_logs_in_at_once_and_leaves_no_key_behind(scene: Scene) -> None:
    page = scene.page
    page.goto(f"{scene.url}/?api_key={scene.site.key}&kept=yes", wait_until="commit")
    expect_comfyui(page, f"{scene.url}/?kept=yes")
    assert who(scene) == "Ann"
    client = page.context.new_cdp_session(page)
    visited = [entry["url"] for entry in client.send("Page.getNavigationHistory")["entries"]]
    assert not [url for url in visited if scene.site.key in url]
    assert scene.site.key not in page.evaluate("document.referrer")
    session = scene.session()
    page.goto(f"{scene.url}/?api_key={scene.site.key}", wait_until="commit")
    expect_comfyui(page, f"{scene.url}/")
    assert scene.session() == session, "its own session is kept"


# ---------------------------------------------------------------------------------------------------------------------
# Older browsers

OLDER = "delete AbortSignal.timeout; delete AbortSignal.any; delete Object.hasOwn; delete Array.prototype.at;"


def test_an_older_browser_logs_in_and_out(site: Site, page: Page) -> None:
    page.add_init_script(f"{OLDER} delete window.BroadcastChannel;")
    log_in(page, site.url, site.key, path="/")
    page.goto(f"{site.url}/auth_login.html?logout=true")
    expect(page.get_by_text("You are logged out.")).to_be_visible()


def test_no_request_of_the_login_page_stays_open(site: Site, page: Page) -> None:
    finished: list[str] = []
    page.on("requestfinished", lambda request: finished.append(request.url))
    with page.expect_request_finished(lambda request: request.url.endswith("/auth_session")):
        page.goto(f"{site.url}/auth_login.html")
    key_field(page).fill("wrong-key-of-32-characters-or-more")
    with page.expect_request_finished(lambda request: request.method == "POST"):
        page.get_by_role("button", name="Login").click()
