# SPDX-License-Identifier: MIT
"""A real headless Chromium, driven by Playwright, that notes what goes wrong in its pages."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from tests.support.servers import program

#: Without these, Chromium talks to its maker's servers.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: The network's own errors, which tests of an absent engine and of refusals cause on purpose.
EXPECTED = re.compile(r"Failed to load resource: (net::ERR_CONNECTION|the server responded with a status of 4)")


@contextlib.contextmanager
def chromium(**options: Any) -> Iterator[BrowserContext]:
    """A browser with an empty profile; missing, the test is skipped, or fails under HTMENGINE_CI=1."""
    executable = program("chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(prefix="htmengine-chromium-") as profile:
        context = _launch(playwright, profile, executable, options)
        try:
            yield context
        finally:
            context.close()


def _launch(playwright: Playwright, profile: str, executable: str, options: dict[str, Any]) -> BrowserContext:
    context = playwright.chromium.launch_persistent_context(
        profile, executable_path=executable, headless=True, args=FLAGS, **options
    )
    context.set_default_timeout(15_000)
    return context


@contextlib.contextmanager
def watched_page(context: BrowserContext) -> Iterator[Page]:
    """A page of its own; script errors, console errors and violations of the content policy fail the test at its end."""
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: _note(complaints, message.type, message.text))
    page.add_init_script("document.addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.blockedURI))")
    try:
        yield page
    finally:
        page.close()
    assert complaints == []


def _note(complaints: list[str], kind: str, text: str) -> None:
    if kind in ("error", "warning") and not EXPECTED.search(text):
        complaints.append(f"{kind}: {text}")
