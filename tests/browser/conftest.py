"""Pages in Debian's Chromium."""

import queue
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests import warm
from tests.conftest import browser_path
from tests.review_campaign import make_campaign, write_pictures

TIMEOUT_MS = 60_000
OPEN = "#stage[data-exact=yes], #nothing:not([hidden])"  # the first scan has come
LOOK = (Path(__file__).parent / "accessibility.js").read_text(encoding="utf-8").strip()


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium; the browsers that Playwright would download are not needed."""
    expect.set_options(timeout=TIMEOUT_MS)  # the machine may have much else to do
    with sync_playwright() as playwright:
        # everything here is our own, and containers have no user namespaces for its sandbox
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


class Server:
    """A review, or view, of a campaign as a person starts it; each link is for one browser."""

    def __init__(self, folder, *options, command="review", before=()):
        python = (*before, sys.executable) if before else (warm.python(),)
        command = [*python, "-m", "tomopipe", command, str(folder), *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.links = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            if "token=" in line:
                self.links.put(line.split()[-1])

    def link(self):
        return self.links.get(timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def serve():
    with ExitStack() as servers:
        yield lambda *words, **named: servers.enter_context(Server(*words, **named))


@pytest.fixture
def browse(chromium):
    """Open an address in a browser of its own; what troubles a page fails the test."""
    contexts, trouble = [], []

    def open_page(address, *, expected=("409", "422", "net::ERR"), **options):
        def listen(message):
            if message.type == "error" and not any(words in message.text for words in expected):
                trouble.append(f"{message.location.get('url')}: {message.text}")

        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.fixture
def visit(browse):
    """Open the next link of a server."""

    def open_link(server, ready=OPEN, **options):
        page = browse(server.link(), **options)
        page.wait_for_selector(ready)
        return page

    return open_link


@pytest.fixture
def folder(tmp_path):
    """A campaign with slices of a replaced outlier."""
    folder = make_campaign(tmp_path)
    write_pictures(folder, "bone_006", 513.45)
    return folder


def row(page, scan):
    return page.locator("#rows .row").filter(has=page.get_by_text(scan, exact=True))


def go_to(page, scan):
    row(page, scan).click()
    expect(page.locator("#facts h2")).to_have_text(scan)


class Held(list):
    """Requests that wait, in the order in which they came."""

    is_released = False

    def keep(self, route):
        if self.is_released:
            route.continue_()
        else:
            self.append(route)

    def release(self):
        """Let go what waits, and what comes from now on; not `page.unroute`, as in `cut`."""
        self.is_released = True
        while self:
            self.pop(0).continue_()


def route(page, address, handle, **options):
    """`page.route`, for all requests from now on.

    Chromium may answer before a busy page knows of its first route: its next requests go past it.
    """
    page.route(address, handle, **options)
    page.route("**/icon.svg?routed", lambda route: route.fulfill(status=204))
    page.wait_for_function("fetch('icon.svg?routed').then(({ status }) => status === 204)")


def hold(page, address):
    """Hold requests to an address; the list that they come into."""
    held = Held()
    route(page, address, held.keep)
    return held


def cut(page, *addresses):
    """Fail requests to addresses, until the function that is returned is called.

    Not `page.unroute`: a request that is under way then may never be answered.
    """
    lost = [True]
    for address in addresses:
        route(page, address, lambda route: route.abort() if lost else route.continue_())
    return lost.clear


def handled(page):
    """Wait until the page has handled all keys and moves, which may come after their call."""
    page.evaluate(
        """() => {
          window.isHandled = false;
          addEventListener("keyup", (event) => (window.isHandled ||= event.key === "F9"));
        }"""
    )
    page.keyboard.press("F9")  # no key of a page
    page.wait_for_function("window.isHandled")


def look(page, what):
    """Ask accessibility.js what it finds on the page."""
    return page.evaluate(f"{LOOK}.{what}()")
