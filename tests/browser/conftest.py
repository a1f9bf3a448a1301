"""One headless Chromium a module; a clean profile and a server with the demo each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.conftest import StartServer
from tests.processes import ROOT, ServerProcess

__all__ = ["Demo", "OpenPage", "StartDemo"]

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
CONFIG = ROOT / "examples" / "live_chat" / "smart-router.toml"

StartDemo = Callable[[], ServerProcess]
OpenPage = Callable[[str], Page]


class Demo:
    """The demo's server on one port and one data folder: what is started again is the same router."""

    def __init__(self, start: StartServer, port: int) -> None:
        self._start = start
        self.port = port
        self.server = self.start()

    def start(self) -> ServerProcess:
        self.server = self._start("--config", str(CONFIG), "--demo", port=self.port)
        return self.server

    def kill(self) -> None:
        self.server.kill()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def demo(start_server: StartServer, free_port: int) -> Demo:
    return Demo(start_server, free_port)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture
def open_page(context: BrowserContext, demo: Demo, tmp_path: Path) -> Iterator[OpenPage]:
    """Opens tabs of one browser. Whatever a page throws, or its policy forbids, fails the test."""
    troubles: list[str] = []

    def open_page(query: str) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "console", lambda message: troubles.append(message.text) if "Content Security" in message.text else None
        )
        page.goto(f"http://127.0.0.1:{demo.port}/{query}")
        page.locator("body[data-connection=open]").wait_for()
        return page

    yield open_page
    for number, page in enumerate(context.pages):
        page.screenshot(path=tmp_path / f"page-{number}.png")
    assert troubles == []
