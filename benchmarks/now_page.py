# SPDX-License-Identifier: MIT
"""How soon the page Now is there, and how busy it keeps the browser and the engine, with many metrics and incidents.

CPU times do not depend on what else the machine does: seconds of the page's main thread, and of the engine's process.

python benchmarks/now_page.py --metrics 10000 --incidents 1000 --pictures /tmp/pictures
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page
from tqdm import tqdm

from tests.support.browser import chromium, watched_page
from tests.support.engine import Engine, running_engine
from tests.support.metrics import seed_incidents, seed_metrics

#: Notes the lengths of long tasks (50 ms and more), in ms.
WATCH = """
window.longTasks = [];
const note = (list) => window.longTasks.push(...list.getEntries().map(({ duration }) => Math.round(duration)));
new PerformanceObserver(note).observe({ type: "longtask", buffered: true });
"""
SIZES = ((1280, 800), (390, 844))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=10_000)
    parser.add_argument("--incidents", type=int, default=1000, help="open ones")
    parser.add_argument("--pictures", type=Path, help="folder for pictures in both sizes and schemes")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_engine(Path(folder) / "data", "--workers", "1") as engine,
        chromium() as browser,
    ):
        seed_metrics(engine, tqdm(range(options.metrics), unit="metric"), 60)
        seed_incidents(engine, options.incidents)
        measure(browser, engine)
        if options.pictures is not None:
            take_pictures(browser, engine, options.pictures)


def measure(browser: Browser, engine: Engine) -> None:
    """Three times the page as it opens, then with more incidents, then as it looks again by itself."""
    for turn in range(1, 4):
        with watched_page(browser) as page:
            show = Shown(page, engine)
            page.add_init_script(WATCH)
            page.goto(f"{engine.url}/#/")
            page.locator(".card").first.wait_for()
            first_ms = page.evaluate("performance.now()")
            page.wait_for_timeout(3000)
            show(f"opened ({turn}), first incident after {first_ms:.0f} ms")
            while page.locator("button", has_text="Show more").is_visible():
                page.locator("button", has_text="Show more").click()
                page.wait_for_timeout(2000)
                show("more")
            page.wait_for_timeout(11_000)
            show("refreshed")


class Shown:
    """Prints what the page and the engine did since the last time."""

    def __init__(self, page: Page, engine: Engine) -> None:
        self._page = page
        self._engine = engine
        self._session: Any = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self._before = self._busy()

    def __call__(self, what: str) -> None:
        tasks: list[int] = self._page.evaluate("window.longTasks.splice(0)")
        before, self._before = self._before, self._busy()
        browser, engine = (now - then for now, then in zip(self._before, before, strict=True))
        listed = self._page.locator(".card").count()
        print(f"{what:>50}: {listed:5} incidents, page {browser:.2f} s, engine {engine:.2f} s, long tasks {tasks} ms")

    def _busy(self) -> tuple[float, float]:
        """CPU seconds so far, of the page's main thread and of the engine."""
        metrics = {each["name"]: each["value"] for each in self._session.send("Performance.getMetrics")["metrics"]}
        assert self._engine.process is not None
        fields = Path(f"/proc/{self._engine.process.pid}/stat").read_text().rpartition(")")[2].split()
        return metrics["TaskDuration"], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def take_pictures(browser: Browser, engine: Engine, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for width, height in SIZES:
            with watched_page(browser, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
                page.goto(f"{engine.url}/#/")
                page.locator(".multiple canvas").first.wait_for()
                page.wait_for_timeout(3000)
                page.screenshot(path=folder / f"now-{scheme}-{width}.png")


if __name__ == "__main__":
    main()
