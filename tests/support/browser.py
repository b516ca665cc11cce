# SPDX-License-Identifier: MIT
"""A real headless Chromium, driven by Playwright, and pages that note what goes wrong in them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.servers import program

#: No page takes this long unless it hangs.
PATIENCE_MS = 20_000
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
#: The browser's own report of answers that tests cause on purpose: an engine that is away, and refusals.
_ON_PURPOSE = re.compile(r"Failed to load resource: (net::ERR_|the server responded with a status of (4|503))")
_REPORT_VIOLATIONS = "document.addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.blockedURI))"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, its profile empty; a missing one skips the test, or fails it under HTMENGINE_CI=1."""
    executable = program("chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def watched_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page with storage of its own; errors of scripts and violations of the content policy fail at its end."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []

    def note(kind: str, text: str) -> None:
        if kind in ("error", "warning") and not _ON_PURPOSE.search(text):
            complaints.append(f"{kind}: {text}")

    page.on("pageerror", lambda error: note("error", str(error)))
    page.on("console", lambda message: note(message.type, message.text))
    page.add_init_script(_REPORT_VIOLATIONS)
    try:
        yield page
    finally:
        context.close()
    assert not complaints, complaints
