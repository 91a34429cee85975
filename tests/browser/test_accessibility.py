"""The login page for everyone: keyboard, screen reader, small screen, dark and light, password manager."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from login import key_field, log_in, submit
from playwright.sync_api import Browser, Page, expect
from screens import shoot
from sites import Serve, Site
from support.keys import WRONG_KEY

WRONG = "Wrong key. Check it and try again."


@pytest.fixture
def login(page: Page, site: Site) -> Page:
    """The login page, as it opens."""
    page.goto(f"{site.url}/auth_login.html?next=%2Fapi%2Fqueue")
    expect(key_field(page)).to_be_focused()
    return page


def test_the_keyboard_is_enough(login: Page, site: Site) -> None:
    keyboard = login.keyboard
    keyboard.type(WRONG_KEY)
    keyboard.press("Enter")
    expect(login.get_by_role("alert")).to_have_text(WRONG)
    keyboard.type(site.key)  # the wrong text is selected

    stops = []
    for press in ("Tab", "Tab", "Tab", "Shift+Tab", "Shift+Tab"):
        keyboard.press(press)
        focused = login.locator(":focus")
        assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
        assert focused.evaluate("element => parseFloat(getComputedStyle(element).outlineWidth)") >= 2
        stops.append(focused.evaluate("element => element.getAttribute('aria-label') ?? element.labels[0]?.innerText"))
    login_button = login.get_by_role("button", name="Login")
    assert stops == ["Show key", "Remember me", None, "Remember me", "Show key"]

    keyboard.press("Space")
    expect(key_field(login)).to_have_attribute("type", "text")
    expect(login.get_by_role("button", name="Show key")).to_have_attribute("aria-pressed", "true")
    keyboard.press("Tab")
    keyboard.press("Space")
    expect(login.get_by_label("Remember me")).to_be_checked()
    keyboard.press("Tab")
    expect(login_button).to_be_focused()
    keyboard.press("Enter")
    expect(login).to_have_url(f"{site.url}/api/queue")


def test_a_screen_reader_is_told_what_is_there(login: Page) -> None:
    assert login.title() == "Login – ComfyUI"  # noqa: RUF001
    assert login.locator("html").get_attribute("lang") == "en"
    expect(login.locator("body")).to_match_aria_snapshot(
        """
        - main:
          - heading "Log in to ComfyUI" [level=1]
          - text: API key
          - textbox "API key"
          - button "Show key"
          - paragraph:
            - text: "A key of this server: from"
            - code: "--api-key"
            - text: or
            - code: "--api-key-file"
          - checkbox "Remember me"
          - text: Remember me
          - button "Login"
        """
    )


def test_a_screen_reader_is_told_what_went_wrong(login: Page) -> None:
    # The region is there before it has text; otherwise screen readers would not read it out.
    assert login.locator("[role=alert]").count() == 1
    submit(login, WRONG_KEY)
    expect(login.get_by_role("alert")).to_have_text(WRONG)
    expect(key_field(login)).to_have_attribute("aria-invalid", "true")
    expect(key_field(login)).to_have_accessible_description(
        f"{WRONG} A key of this server: from --api-key or --api-key-file."
    )


@pytest.fixture(params=["dark", "light"])
def painted(request: pytest.FixtureRequest, browser: Browser, site: Site) -> Iterator[tuple[Page, str]]:
    """The login page in a system that prefers dark, or light."""
    with browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=request.param) as context:
        page = context.new_page()
        page.goto(f"{site.url}/auth_login.html")
        yield page, request.param


def violations(page: Page) -> list[str]:
    """What axe-core finds, including target sizes (WCAG 2.2) and what it calls good practice."""
    found = Axe().run(page, options={"rules": {"target-size": {"enabled": True}}}).response
    assert len(found["passes"]) > 15
    return [f"{rule['id']}: {json.dumps([node['html'] for node in rule['nodes']])}" for rule in found["violations"]]


def test_axe_finds_nothing(painted: tuple[Page, str]) -> None:
    page, scheme = painted
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "dark": "rgb(32, 32, 32)",
            "light": "rgb(236, 238, 241)",
        }[scheme]
    )
    shoot(page, f"login-{scheme}")
    assert violations(page) == []

    page.get_by_role("button", name="Show key").click()
    submit(page, WRONG_KEY)
    expect(page.get_by_role("alert")).to_have_text(WRONG)
    shoot(page, f"login-error-{scheme}")
    assert violations(page) == []

    page.goto(f"{page.url.partition('?')[0]}?logout=true")
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    press_caps_lock(page, on=True)
    shoot(page, f"login-notice-{scheme}")
    assert violations(page) == []


def test_axe_finds_nothing_while_the_key_is_checked(painted: tuple[Page, str]) -> None:
    page, scheme = painted
    page.route("**/health", lambda route: None)  # never answered
    submit(page, WRONG_KEY)
    expect(page.get_by_role("button", name="Checking…")).to_be_disabled()
    expect(page.locator("body")).to_have_attribute("aria-busy", "true")
    shoot(page, f"login-busy-{scheme}")
    assert violations(page) == []


def test_nothing_is_cut_off_at_320_pixels(login: Page) -> None:
    login.set_viewport_size({"width": 320, "height": 640})
    submit(login, WRONG_KEY)
    expect(login.get_by_role("alert")).to_have_text(WRONG)
    press_caps_lock(login, on=True)
    shoot(login, "login-narrow")
    assert login.evaluate("document.documentElement.scrollWidth") == 320
    for element in login.locator("input:visible, button, [role=alert], h1, code").all():
        if (box := element.bounding_box()) is not None and box["width"] > 1:
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 320
    login.set_viewport_size({"width": 320, "height": 256})
    login.get_by_role("button", name="Login").scroll_into_view_if_needed()
    expect(login.get_by_role("button", name="Login")).to_be_in_viewport(ratio=1)


def test_it_can_be_used_in_forced_colors(login: Page) -> None:
    login.emulate_media(forced_colors="active")
    shoot(login, "login-forced-colors")
    button = login.get_by_role("button", name="Login")
    assert button.evaluate("element => getComputedStyle(element).borderStyle") == "solid"


def press_caps_lock(page: Page, *, on: bool) -> None:
    """No browser lets a test turn the lock on, so the event is made up."""
    key_field(page).evaluate(
        """(field, modifierCapsLock) => {
          field.focus();
          field.dispatchEvent(new KeyboardEvent("keydown", { key: "A", modifierCapsLock, bubbles: true }));
        }""",
        on,
    )


def test_tells_when_caps_lock_is_on(login: Page) -> None:
    hint = login.get_by_role("status").filter(has_text="Caps Lock is on.")
    press_caps_lock(login, on=True)
    expect(hint).to_be_visible()
    press_caps_lock(login, on=False)
    expect(hint).to_be_hidden()
    press_caps_lock(login, on=True)
    login.get_by_label("Remember me").focus()
    expect(hint).to_be_hidden()


def test_shows_and_hides_the_key(login: Page) -> None:
    field, reveal = key_field(login), login.get_by_role("button", name="Show key")
    login.keyboard.type("abcdef")
    login.keyboard.press("ArrowLeft")
    expect(field).to_have_attribute("type", "password")
    reveal.click()
    expect(field).to_have_attribute("type", "text")
    shoot(login, "login-revealed")
    login.keyboard.type("X")  # the caret is where it was before
    expect(field).to_have_value("abcdeXf")
    reveal.click()
    expect(field).to_have_attribute("type", "password")
    reveal.click()
    login.keyboard.press("Enter")
    expect(field).to_have_attribute("type", "password")


def test_a_password_manager_finds_its_way(login: Page) -> None:
    form = login.locator("form[method=post][action=auth_session]")
    assert [
        (field.get_attribute("name"), field.get_attribute("type"), field.get_attribute("autocomplete"))
        for field in form.locator("input[autocomplete]").all()
    ] == [("username", "text", "username"), ("api_key", "password", "current-password")]
    expect(form.locator("[name=username]")).to_have_value("comfyui")
    # It fills in without key events, and submits with the button.
    key_field(login).evaluate("(field) => { field.value = 'filled-in-by-a-password-manager'; }")
    login.get_by_role("button", name="Login").click()
    expect(login.get_by_role("alert")).to_have_text(WRONG)


def test_the_field_takes_keys_as_they_are(login: Page, site: Site) -> None:
    field = key_field(login)
    for attribute, value in {"autocapitalize": "none", "spellcheck": "false"}.items():
        expect(field).to_have_attribute(attribute, value)
    field.fill(f"  {site.key} ")
    login.keyboard.press("Enter")
    expect(login).to_have_url(f"{site.url}/api/queue")


def test_says_when_the_server_is_gone(serve: Serve, page: Page) -> None:
    with serve() as site:
        page.goto(f"{site.url}/auth_login.html")
        expect(key_field(page)).to_be_focused()
    submit(page, WRONG_KEY)
    expect(page.get_by_role("alert")).to_have_text(
        "The server can't be reached. Check that it is running, then try again."
    )
    expect(key_field(page)).to_be_focused()


def test_says_how_long_to_wait_when_there_were_too_many_wrong_keys(serve: Serve, page: Page) -> None:
    with serve() as site:
        page.goto(f"{site.url}/auth_login.html")
        for number in range(20):  # ten lock the address, and while it is locked, ten more keys are evaluated
            submit(page, f"{WRONG_KEY}-{number}")
            expect(page.get_by_role("button", name="Login")).to_be_enabled()
        expect(page.get_by_role("alert")).to_contain_text("Too many wrong keys from this address. Try again in ")
        shoot(page, "login-locked")
        submit(page, site.key)
        expect(page.get_by_role("alert")).to_contain_text("Too many wrong keys")


def test_leads_only_to_pages_of_this_server(site: Site, page: Page) -> None:
    log_in(page, site.url, site.key)
    for target in (
        "https://example.com/",
        "//example.com/",
        "/\\example.com",
        "javascript:alert(1)",
        "\t//example.com",
    ):
        page.goto("about:blank")
        page.goto(
            f"{site.url}/auth_login.html?" + page.evaluate("(next) => `${new URLSearchParams({ next })}`", target)
        )
        page.wait_for_url(lambda url: "auth_login" not in url, wait_until="commit")
        assert page.url.startswith(f"{site.url}/")
