# SPDX-License-Identifier: MIT
"""How smoothly the dashboard moves: times between frames in a real headless Chromium.

The list of many metrics is scrolled, and the plot of a year of minutes is dragged.  Beside them, in the same run: a
page at rest (what the browser and the machine can do at best), and the same rows without the virtual list, all in the
page at once.

    python benchmarks/dashboard_frames.py --metrics 10000 --seconds 5
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect
from tqdm import tqdm

from tests.support.browser import chromium, watched_page
from tests.support.engine import running_engine
from tests.support.metrics import seed_metrics

#: Scrolls a box by some pixels each frame, there and back, and returns the times between frames in ms.
SCROLL = """
([selector, pixels, seconds]) => new Promise((resolve) => {
  const box = document.querySelector(selector);
  const times = [];
  const began = performance.now();
  let direction = 1;
  let last = null;
  function frame(now) {
    if (last !== null) times.push(now - last);
    last = now;
    if (now - began > 1000 * seconds) return resolve(times);
    if (box.scrollTop + box.clientHeight >= box.scrollHeight - 1) direction = -1;
    if (box.scrollTop <= 0) direction = 1;
    box.scrollTop += direction * pixels;
    requestAnimationFrame(frame);
  }
  requestAnimationFrame(frame);
})
"""

#: Notes the times between frames in `window.frames_ms` from now on.
WATCH = """
() => {
  window.frames_ms = [];
  let last = null;
  requestAnimationFrame(function frame(now) {
    if (last !== null) window.frames_ms.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  });
}
"""

#: Puts all rows into the page at once, in a box of the same size.
ALL_ROWS = """
async (number) => {
  const { makeRow, fillRow } = await import("/static/js/metric_row.js");
  const rows = document.createElement("div");
  rows.className = "virtual";
  for (let index = 0; index < number; index++) {
    const row = rows.appendChild(makeRow());
    row.style.transform = `translateY(${40 * index}px)`;
    const timestamp = Array.from({ length: 60 }, (_, at) => at);
    const value = timestamp.map((at) => Math.sin(at + index));
    const metric = { uid: String(index), name: `metric.${index}`, status: "ACTIVE", last_timestamp: 0, newest: null };
    fillRow(row, metric, { timestamp, value, anomaly_score: timestamp.map(() => null) });
  }
  rows.style.height = `${40 * number}px`;
  document.querySelector(".table-scroll").replaceChildren(rows);
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=60, help="samples of each metric")
    parser.add_argument("--year", type=int, default=525_600, help="samples of the metric whose plot is dragged")
    parser.add_argument("--seconds", type=float, default=5.0, help="of scrolling")
    parser.add_argument("--pixels", type=int, default=200, help="scrolled each frame; a row has 40")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_engine(Path(folder) / "data", "--workers", "1") as engine,
        chromium() as browser,
        watched_page(browser) as page,
        watched_page(browser) as plot_page,
    ):
        seed_metrics(engine, tqdm(range(options.metrics), unit="metric"), options.rows)
        seed_metrics(engine, [options.metrics], options.year)
        page.goto(f"{engine.url}/#/metrics?sort=name")
        expect(page.locator(".badge")).to_have_text(f"{options.metrics + 1:,}", timeout=30_000)
        page.wait_for_timeout(3000)  # for the pages of the list that are not seen
        scroll = [".table-scroll", options.pixels, options.seconds]
        print(f"{'':>28} {'median':>8} {'95 %':>8} {'99 %':>8} {'longest':>8}   ms between frames")
        show("at rest", page.evaluate(SCROLL, ["body", 0, options.seconds]))
        show(f"{options.metrics:,} metrics", page.evaluate(SCROLL, scroll), page)
        year = f"{engine.url}/#/metrics/{options.metrics:032x}"
        show(f"plot of {options.year:,} samples", drag_plot(plot_page, year, options.seconds))
        page.evaluate(ALL_ROWS, options.metrics)
        show("without the virtual list", page.evaluate(SCROLL, scroll), page)


def drag_plot(page: Page, url: str, seconds: float) -> list[float]:
    """Drag the plot, zoomed to a sixteenth of its series, through the rest of it."""
    page.goto(url)
    page.get_by_role("button", name="Show everything").click()
    for _ in range(4):
        page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(3000)  # for what is fetched
    box = page.locator(".u-over").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + 50
    page.evaluate(WATCH)
    page.keyboard.down("Shift")
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(int(60 * seconds)):
        page.mouse.move(x - 8 * step, y)
        page.wait_for_timeout(1000 / 60)
    page.mouse.up()
    page.keyboard.up("Shift")
    times: list[float] = page.evaluate("window.frames_ms")
    return times


def show(what: str, times: list[float], page: Page | None = None) -> None:
    ordered = sorted(times)
    shares = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95, 0.99, 1)]
    rows = "" if page is None else f"   {page.locator('.metric-row.body').count():,} rows in the page"
    print(f"{what:>28} " + " ".join(f"{time_ms:8.1f}" for time_ms in shares) + f"   {len(times)} frames{rows}")


if __name__ == "__main__":
    main()
