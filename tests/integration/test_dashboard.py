# SPDX-License-Identifier: MIT
"""The dashboard in a real browser, on a real engine."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from htmengine.csv_files import read_rows
from htmengine.repository import troubles
from htmengine.repository.engine import Database
from tests.support.browser import chromium, watched_page
from tests.support.engine import PATIENCE_S, Engine, running_engine
from tests.support.metrics import seed_incident, seed_metrics
from tests.support.servers import free_port

SERIES = Path(__file__).parents[2] / "htmengine" / "data" / "machine_temperature_system_failure.csv"
#: A real series with a few anomalies among its first rows.
MACHINE, ROWS = "plant.machine.temperature", 4400
#: Names that would be markup, script or another address if they were anything but text.
HOSTILE = ("<img/src=x/onerror=alert(1)>", "/etc/passwd", "a/b?c=d#e", "javascript:alert(1)", "%2e%2e%2f")

#: The command that a metric's page shows while there is nothing else.
COMMAND = """
async (name) => {
  const { sendingCommand, engineFacts } = await import("/static/js/engine.js");
  const element = sendingCommand(name);
  await engineFacts();
  return element.textContent;
}
"""
#: Anomalies that the page lists at once.
LISTED = 200
YEAR_S = 31_556_952
#: Where the labels of a timeline begin and end, in its pixels.
LABELS = """
async ([width, length]) => {
  const { timeline } = await import("/static/js/timeline.js");
  const from = 1_400_000_000;
  const anomaly = { uid: "u", name: "m", rowid: 1, timestamp: from, value: 1, anomaly_score: 1 };
  const box = timeline([anomaly], { from, until: from + length }, width);
  document.body.append(box);
  const places = [...box.querySelectorAll(".tick-text")].map((text) => text.getBBox());
  box.remove();
  return places.map(({ x, width }) => [x, x + width]);
}
"""

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with a scored series, a metric that waits for data, and metrics with hostile names."""
    with running_engine(tmp_path_factory.mktemp("engine") / "data", "--workers", "1") as started:
        rows = list(read_rows(SERIES))[:ROWS]
        started.send(f"{MACHINE} {value!r} {timestamp!r}" for timestamp, value in rows)
        started.send(f"waiting.for.data {number} {1_400_000_000 + 60 * number}" for number in range(10))
        started.send(f"{name} 1 1400000000" for name in HOSTILE)
        started.wait_until_scored(MACHINE, ROWS)
        seed_incident(started, MACHINE)
        yield started


@pytest.fixture
def open_page(browser: Browser, engine: Engine) -> Iterator[OpenPage]:
    """Opens a page of the engine: open_page("#/health", color_scheme="dark")."""
    yield from _opener(browser, engine.url)


def _opener(browser: Browser, url: str) -> Iterator[OpenPage]:
    with contextlib.ExitStack() as opened:

        def open_page(address: str = "#/metrics", **options: Any) -> Page:
            page = opened.enter_context(watched_page(browser, **options))
            page.goto(f"{url}/{address}")
            return page

        yield open_page


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that is empty at first."""
    said = {"HTMENGINE__APPLICATION__ADMISSION__COUNTERS": "*.total"}
    with running_engine(tmp_path_factory.mktemp("fresh") / "data", "--workers", "1", environment=said) as started:
        yield started


@pytest.fixture
def fresh_page(browser: Browser, fresh: Engine) -> Iterator[OpenPage]:
    """Opens a page of that engine."""
    yield from _opener(browser, fresh.url)


def metric_address(engine: Engine, name: str) -> str:
    [(uid,)] = engine.query("SELECT uid FROM metric WHERE name = ?", name)
    return f"#/metrics/{uid}"


def rows_of(page: Page) -> Locator:
    return page.locator(".metric-row.body:visible")


def fact(page: Page, term: str) -> Locator:
    """What stands beside a term in a list of facts."""
    return page.locator("dt", has_text=re.compile(f"^{term}$")).locator("xpath=following-sibling::dd[1]")


def view(page: Page) -> tuple[int, int]:
    """The range of time that a metric's page shows."""
    panel = page.locator(".plot-panel")
    return int(panel.get_attribute("data-from") or 0), int(panel.get_attribute("data-until") or 0)


def length(page: Page) -> int:
    first, last = view(page)
    return last - first


def unanswered(page: Page, pattern: str) -> None:
    """Requests of a page that are never answered from now on."""
    page.route(re.compile(pattern), lambda route: None)


class TestPages:
    @pytest.mark.parametrize(("device", "scheme"), [({}, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
    def test_every_page_loads_without_errors_and_axe_finds_no_fault(
        self, open_page: OpenPage, engine: Engine, device: dict[str, Any], scheme: str
    ) -> None:
        page = open_page(color_scheme=scheme, **device)
        for address, shown in (
            ("#/", page.locator(".multiple canvas")),
            ("#/metrics", rows_of(page).filter(has_text=MACHINE)),
            (metric_address(engine, MACHINE), page.locator(".anomaly-list")),
            ("#/anomalies", page.locator(".timeline")),
            ("#/rules", page.get_by_role("heading", name="instead of")),
            ("#/health", page.get_by_role("heading", name="Queues")),
        ):
            page.evaluate("address => { location.hash = address }", address)
            expect(shown).to_be_visible()
            page.wait_for_timeout(200)  # for what is drawn after it is fetched
            faults = Axe().run(page).response["violations"]
            assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in faults] == [], address
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address} is too wide"

    def test_a_rule_is_made_from_a_metric_with_its_preview_and_removed(
        self, open_page: OpenPage, engine: Engine
    ) -> None:
        page = open_page(metric_address(engine, MACHINE))
        page.get_by_role("button", name="Rule from here…").click()
        expect(page.get_by_label("Metrics")).to_have_value(MACHINE)
        expect(page.get_by_role("heading", name="0 pages instead of 0")).to_be_visible()
        page.get_by_label("Name").fill("machine")
        page.get_by_label("Least change").fill("much")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("a number from 0, or one with % is allowed")).to_be_visible()
        page.get_by_label("Least change").fill("10%")
        page.get_by_text("When it fires").click()
        page.get_by_label("For, in seconds").fill("600")
        page.get_by_role("textbox", name="Silence").fill("no")
        page.get_by_text("What receivers are told").click()
        page.get_by_label("Severity").fill("low=4, high=much")
        page.get_by_text("What receivers are told").click()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_label("Severity")).to_be_focused()  # what is refused is opened
        page.get_by_label("Severity").fill("low=4, high=6")
        page.get_by_label("Labels").fill("team=web, query=a=b")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("link", name="machine")).to_have_attribute("aria-current", "true")
        stored = httpx.get(f"{engine.url}/api/v1/alert/rules/machine").json()
        assert stored["options"] == {
            "metrics": [MACHINE],
            "pages_per_week": 5,
            "min_change": "10%",
            "for_s": 600,
            "silence": False,
            "severity": {"low": 4, "high": 6},
            "labels": {"team": "web", "query": "a=b"},
        }
        page.get_by_role("button", name="Delete…").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("link", name="machine")).to_have_count(0)

    def test_a_preview_shows_how_far_it_is_and_is_stopped(self, open_page: OpenPage) -> None:
        page = open_page("#/health")
        halfway = {"id": "x", "share": 0.5, "result": None}
        page.route(re.compile("alert/previews/"), lambda route: route.fulfill(json=halfway, status=200))
        page.evaluate("location.hash = '#/rules'")
        preview = page.get_by_role("region", name="Preview")
        expect(preview.get_by_role("progressbar")).to_have_attribute("value", "0.5")
        with page.expect_request(lambda request: request.method == "DELETE"):
            preview.get_by_role("button", name="Stop").click()
        expect(preview).to_have_text("The preview was stopped.")

    def test_maintenance_is_made_and_removed(self, open_page: OpenPage, engine: Engine) -> None:
        page = open_page("#/rules")
        page.get_by_role("button", name="New maintenance…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("move")
        dialog.get_by_label("Or begins again and again").fill("0 25 * * *")
        dialog.get_by_role("button", name="Save").click()
        expect(dialog.get_by_text("Bad hour")).to_be_visible()
        dialog.get_by_label("Or begins again and again").fill("30 2 * * sun")
        dialog.get_by_label("Time zone").fill("Europe/Berlin")
        dialog.get_by_label("Hours").fill("1.5")
        dialog.get_by_role("button", name="Save").click()
        card = page.get_by_role("listitem").filter(has_text="30 2 * * sun, Europe/Berlin")
        expect(card).to_be_visible()
        [stored] = httpx.get(f"{engine.url}/api/v1/maintenance").json()["maintenance"]
        assert stored["options"] == {"cron": "30 2 * * sun", "for_s": 5400, "timezone": "Europe/Berlin"}
        assert len(stored["next"]) == 5
        page.get_by_role("button", name="Remove… move").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        expect(page.get_by_text("There is none.")).to_be_visible()

    def test_names_of_metrics_are_only_text(self, open_page: OpenPage, engine: Engine) -> None:
        page = open_page("#/metrics?sort=name")
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        for name in HOSTILE:
            row = rows_of(page).filter(has=page.get_by_role("link", name=name, exact=True))
            expect(row).to_have_count(1)
            row.get_by_role("link").click()
            expect(page.get_by_role("heading", level=1)).to_have_text(name)
            page.go_back()
        assert page.locator("main img, main script").count() == 0
        assert dialogs == []

    def test_the_system_s_colours_are_followed_until_one_chooses(self, open_page: OpenPage) -> None:
        page = open_page(color_scheme="dark")
        ground = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(ground) == "rgb(14, 19, 24)"
        page.emulate_media(color_scheme="light")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        page.get_by_label("Colours").select_option("dark")
        assert page.evaluate(ground) == "rgb(14, 19, 24)"
        page.reload()
        assert page.evaluate(ground) == "rgb(14, 19, 24)"


class TestNow:
    def test_an_open_incident_comes_first_with_its_reason_and_its_plot(self, open_page: OpenPage) -> None:
        page = open_page("#/")
        expect(page.get_by_role("heading", level=1)).to_have_text("1 incident open")
        expect(page.locator(".why")).to_contain_text(f"{MACHINE} fell to 2 where 50 to 71.5 are expected")
        expect(page.locator(".multiple canvas")).to_be_visible()
        page.locator(".multiple a").click()
        expect(page.locator(".plot-panel")).to_be_visible()
        page.get_by_label("Incidents", exact=True).get_by_role("link").click()
        expect(page.locator(".incident")).to_contain_text("paged")

    def test_people_acknowledge_mark_and_silence(self, open_page: OpenPage, engine: Engine) -> None:
        page = open_page("#/")
        for button, fields, done in (
            ("Acknowledge…", {"Your name": "ana", "Note": "on it"}, "ana: acknowledged, on it"),
            ("Right…", {}, "ana: right"),
        ):
            page.get_by_role("button", name=button).click()
            for label, text in fields.items():
                page.get_by_label(label).fill(text)
            page.keyboard.press("Enter")
            expect(page.get_by_label("What people did")).to_contain_text(done)
        expect(page.get_by_role("button", name="Acknowledge…")).to_have_count(0)
        page.get_by_role("button", name="Silence…").click()
        page.get_by_label("Hours").fill("x")
        page.keyboard.press("Enter")
        expect(page.locator("dialog .help.failure")).to_contain_text("whole number")
        page.get_by_label("Hours").fill("1.5")
        page.keyboard.press("Enter")
        expect(page.locator("dialog")).to_have_count(0)
        assert engine.query("SELECT metrics, until_at - from_at FROM silence") == [(f'["{MACHINE}"]', 5400.0)]
        page.get_by_role("navigation").get_by_role("link", name="Rules").click()
        silences = page.get_by_role("region", name="Silences")
        expect(silences.get_by_role("listitem")).to_contain_text(f"{MACHINE}until")
        silences.get_by_role("button", name=f"End the silence of {MACHINE}…").click()
        page.get_by_role("dialog").get_by_role("button", name="End").click()
        expect(silences.get_by_text("None is in force.")).to_be_visible()

    def test_an_engine_without_incidents_says_so(self, fresh_page: OpenPage) -> None:
        page = fresh_page("#/")
        expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is wrong")
        box = page.get_by_label("Incident", exact=True).bounding_box()
        assert box is not None
        assert box["x"] < 100  # no empty column beside it
        page.goto(page.url.replace("#/", "#/incidents/none"))
        expect(page.get_by_text("There is no such incident")).to_be_visible()


class TestMetrics:
    def test_the_most_anomalous_comes_first_and_search_and_state_choose(self, open_page: OpenPage) -> None:
        page = open_page()
        expect(rows_of(page).first).to_contain_text(MACHINE)
        page.keyboard.press("/")
        page.keyboard.type("WAITING")
        expect(rows_of(page)).to_have_count(1)
        expect(rows_of(page)).to_contain_text("Waiting for data")
        page.get_by_label("State").select_option("ACTIVE")
        expect(page.get_by_text("No metric matches")).to_be_visible()
        page.get_by_role("button", name="Clear search").click()
        expect(rows_of(page)).to_have_count(2 + len(HOSTILE))
        assert page.url.endswith("#/metrics")

    def test_the_address_holds_the_search(self, open_page: OpenPage) -> None:
        page = open_page("#/metrics?search=*.machine.*&sort=name")
        expect(rows_of(page)).to_have_count(1)
        expect(page.get_by_label("Search metrics")).to_have_value("*.machine.*")

    def test_sparklines_are_drawn(self, open_page: OpenPage) -> None:
        page = open_page("#/metrics?search=machine")
        drawn = """canvas => {
            const blank = document.createElement("canvas");
            [blank.width, blank.height] = [canvas.width, canvas.height];
            return canvas.toDataURL() !== blank.toDataURL();
        }"""
        expect(rows_of(page)).to_have_count(1)
        wait_until(lambda: rows_of(page).locator("canvas").evaluate(drawn))

    def test_the_keyboard_alone_reaches_every_row(self, open_page: OpenPage) -> None:
        page = open_page("#/metrics?sort=name")
        names = sorted([*HOSTILE, MACHINE, "waiting.for.data"])
        expect(rows_of(page)).to_have_count(len(names))
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.get_by_label("Order").focus()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name=names[0], exact=True)).to_be_focused()
        page.keyboard.press("End")
        expect(page.get_by_role("link", name="waiting.for.data")).to_be_focused()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text(names[-2])


class TestOneMetric:
    def test_zoom_and_pan_fetch_the_detail_that_is_seen(self, open_page: OpenPage, engine: Engine) -> None:
        page = open_page(metric_address(engine, MACHINE))
        page.get_by_role("button", name="Show everything").click()
        range_ = page.locator(".range")
        expect(range_).to_contain_text("one point for")
        everything = length(page)
        box = page.locator(".u-over").first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60, steps=5)
        page.mouse.up()
        expect(range_).to_contain_text("every sample")
        assert everything / 11 < length(page) < everything / 9
        plot = page.get_by_role("group", name=f"Plot of {MACHINE}")
        plot.focus()
        first, last = view(page)
        page.keyboard.press("ArrowRight")
        assert view(page)[0] - first == pytest.approx((last - first) / 4, abs=2)
        page.keyboard.press("-")
        assert length(page) > last - first
        before = length(page)
        page.mouse.wheel(0, -200)
        wait_until(lambda: length(page) < before)
        page.keyboard.press("0")
        assert length(page) == everything
        expect(range_).to_contain_text("one point for")

    def test_the_address_holds_the_view(self, open_page: OpenPage, engine: Engine) -> None:
        address = metric_address(engine, MACHINE)
        page = open_page(f"{address}?from=1386300000&until=1386400000")
        expect(page.locator(".range")).to_contain_text("every sample")
        assert view(page) == (1386300000, 1386400000)

    def test_the_numbers_are_there_as_a_table_and_read_aloud(self, open_page: OpenPage, engine: Engine) -> None:
        page = open_page(f"{metric_address(engine, MACHINE)}?from=1386021600&until=1386025200")
        page.get_by_text("Data as a table").click()
        [(value, score)] = engine.query(
            "SELECT metric_value, anomaly_score FROM metric JOIN metric_data USING (uid) WHERE name = ?"
            " AND timestamp = '2013-12-02 22:30:00.000000'",
            MACHINE,
        )
        row = page.locator(".data-table tbody tr", has_text=":30")
        expect(row).to_contain_text(f"{value:.6g}")
        expect(row).to_contain_text(f"{score:.3f}")
        page.get_by_role("group", name=f"Plot of {MACHINE}").focus()
        page.keyboard.press("Shift+ArrowRight")
        readout = page.locator(".readout")
        expect(readout).to_contain_text(re.compile(r"score 0\.\d{3} ● usual"))
        expect(readout).to_have_attribute("aria-live", "polite")

    def test_its_anomalies_lead_to_their_place_in_the_plot(self, open_page: OpenPage, engine: Engine) -> None:
        page = open_page(metric_address(engine, MACHINE))
        page.locator(".anomaly-list button").last.click()
        [(stamp,)] = engine.query(
            "SELECT strftime('%s', timestamp) FROM anomaly WHERE anomaly_score >= 0.999 ORDER BY timestamp DESC"
            " LIMIT 1 OFFSET ?",
            page.locator(".anomaly-list button").count() - 1,
        )
        first, last = view(page)
        assert first <= int(stamp) <= last

    def test_the_command_for_a_first_sample_is_safe_to_paste(self, open_page: OpenPage, engine: Engine) -> None:
        page = open_page("#/health")
        command = page.evaluate(COMMAND, "a$(reboot)'`x`")
        done = subprocess.run(["sh", "-c", command.partition("|")[0]], capture_output=True, text=True, check=True)
        assert done.stdout == "a$(reboot)'`x` 0.42 -1\n"
        assert command.endswith(f" | nc -N 127.0.0.1 {engine.port}")

    def test_one_that_is_not_there_is_said_to_be_missing(self, open_page: OpenPage) -> None:
        page = open_page("#/metrics/0123456789abcdef0123456789abcdef")
        expect(page.get_by_text("There is no such metric")).to_be_visible()
        page.get_by_role("link", name="All metrics", exact=True).click()
        expect(rows_of(page).first).to_be_visible()


class TestAnomalies:
    def test_marks_and_rows_lead_to_the_metric_at_that_time(self, open_page: OpenPage, engine: Engine) -> None:
        page = open_page("#/anomalies")
        [(number,)] = engine.query("SELECT count(*) FROM anomaly WHERE anomaly_score >= 0.999")
        assert number > 0
        expect(page.locator("tbody tr")).to_have_count(min(number, LISTED))
        expect(page.locator(".mark")).to_have_count(min(number, LISTED))
        page.get_by_label("Threshold").select_option("0.99999")
        [(red,)] = engine.query("SELECT count(*) FROM anomaly WHERE anomaly_score >= 0.99999")
        assert 0 < red < number
        expect(page.locator("tbody tr")).to_have_count(min(red, LISTED))
        page.locator(".mark").first.dispatch_event("click")  # others may lie over it
        expect(page.get_by_role("heading", level=1)).to_have_text(MACHINE)
        assert "from=" in page.url

    @pytest.mark.parametrize("width", [160, 270, 1100])
    def test_times_stand_beside_each_other_however_long_and_narrow_it_is(self, open_page: OpenPage, width: int) -> None:
        page = open_page("#/health")
        for length in (3600, 86_400, 10 * 86_400, 400 * 86_400, 5 * YEAR_S, 13 * YEAR_S, 60 * YEAR_S):
            labels = page.evaluate(LABELS, [width, length])
            assert labels, length
            for (_, end), (start, _) in itertools.pairwise(labels):
                assert end < start, (length, labels)
            assert labels[-1][1] <= width, (length, labels)

    def test_a_time_without_any_says_so(self, open_page: OpenPage) -> None:
        page = open_page("#/anomalies?span=3600")
        expect(page.get_by_text("No anomaly matches")).to_be_visible()


class TestChanges:
    """Metrics come, live and go, on an engine that was empty."""

    def test_an_empty_engine_says_how_to_begin(self, fresh_page: OpenPage, fresh: Engine) -> None:
        page = fresh_page()
        expect(page.get_by_text("No metrics yet")).to_be_visible()
        expect(page.locator("pre")).to_have_text(f'echo "web1.cpu.load 0.42 -1" | nc -N 127.0.0.1 {fresh.port}')
        page.goto(page.url.replace("#/metrics", "#/anomalies"))
        expect(page.get_by_text("Nothing unusual so far")).to_be_visible()

    def test_a_metric_is_added_watched_live_stopped_and_deleted(self, fresh_page: OpenPage, fresh: Engine) -> None:
        page = fresh_page()
        page.get_by_role("button", name="Add metric").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("web.requests")
        dialog.get_by_label("Least value expected").fill("9")
        dialog.get_by_label("Greatest value expected").fill("lots")
        dialog.get_by_role("button", name="Add metric").click()
        expect(dialog.get_by_label("Greatest value expected")).to_have_attribute("aria-invalid", "true")
        dialog.get_by_label("Least value expected").fill("0")
        dialog.get_by_label("Greatest value expected").fill("100")
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        page.get_by_role("link", name="web.requests").click()
        expect(page.get_by_text("No samples yet")).to_be_visible()
        expect(fact(page, "Greatest value")).to_have_text("100")

        now = int(time.time()) - 100
        fresh.send([f"web.requests 50 {now}", f"web.requests 51 {now + 1}"])
        expect(page.locator(".u-over").first).to_be_visible()
        wait_until(lambda: view(page)[1] >= now + 1)
        unanswered(page, "/plot")  # so that only a live result can bring it
        live = now + 60
        fresh.send([f"web.requests 60 {live}"])
        wait_until(lambda: view(page)[1] == live)
        page.unroute_all()
        expect(fact(page, "Samples")).to_have_text("3")

        page.get_by_role("button", name="Stop model…").click()
        dialog.get_by_role("button", name="Cancel").click()
        expect(page.locator(".state")).to_have_text("Active")
        page.get_by_role("button", name="Stop model…").click()
        dialog.get_by_role("button", name="Stop model").click()
        expect(page.locator(".state")).to_have_text("No model")
        page.get_by_role("button", name="Start model…").click()
        dialog.get_by_role("button", name="Start model").click()
        expect(page.locator(".state")).to_have_text(re.compile("Waiting for data|Starting|Active"))
        page.get_by_role("button", name="Delete…").click()
        dialog.get_by_role("button", name="Delete metric").click()
        expect(page.get_by_text("No metrics yet")).to_be_visible()
        assert fresh.query("SELECT count(*) FROM metric") == [(0,)]

    def test_an_anomaly_appears_in_the_list_as_it_is_scored(self, fresh_page: OpenPage, fresh: Engine) -> None:
        start = 1_400_000_000
        fresh.send(f"flat {50 + number % 3} {start + 300 * number}" for number in range(400))
        fresh.wait_until_scored("flat", 400)
        page = fresh_page()
        expect(page.locator(".cell.anomaly .score.usual")).to_have_count(1)
        unanswered(page, "/metrics|/sparklines")
        fresh.send([f"flat 1000 {start + 300 * 400}"])
        expect(page.locator(".cell.anomaly .score.anomalous")).to_have_count(1)
        expect(page.locator("#announcer")).to_have_text("flat is anomalous")

    def test_a_counter_says_that_its_values_are_rates(self, fresh_page: OpenPage, fresh: Engine) -> None:
        fresh.send(f"web.hits.total {60 * number} {1_400_000_000 + 60 * number}" for number in range(3))
        wait_until(lambda: fresh.query("SELECT 1 FROM metric_counter"))
        page = fresh_page(metric_address(fresh, "web.hits.total"))
        expect(fact(page, "Values")).to_have_text("rates a second of a counter")

    def test_health_counts_what_comes_and_what_is_rejected(self, fresh_page: OpenPage, fresh: Engine) -> None:
        page = fresh_page("#/health")
        expect(fact(page, "Adds up")).to_have_text("✓ yes")
        received = page.locator(".tile", has_text="Received").locator(".tile-number")
        before = int((received.text_content() or "").replace(",", ""))
        fresh.send(["other 1 1400000000", "other 1 1400000000", "other nan 1400000060"])
        expect(received).to_have_text(f"{before + 3:,}")
        expect(fact(page, "same time as another")).to_have_text("1")
        fresh.send(["other 1 1399999999"])
        expect(fact(page, "Came too late, kept")).to_have_text("1")
        expect(fact(page, "value is no finite number")).to_have_text("1")

    def test_health_shows_each_service_the_workers_and_troubles(self, fresh_page: OpenPage, fresh: Engine) -> None:
        fresh.send(f"health.scored {number % 5} {1_400_000_000 + 60 * number}" for number in range(300))
        fresh.wait_until_scored("health.scored", 300)
        page = fresh_page("#/health")
        services, workers = page.get_by_role("region", name="Services"), page.get_by_role("region", name="Workers")
        for name in ("Bus", "Database", "Metric Listener", "Model Scheduler", "Alert Service", "HTTP service"):
            expect(services.get_by_role("row", name=f"{name} Ready")).to_be_visible()
        expect(workers.get_by_role("row").nth(1)).to_contain_text(re.compile(r"^0[\d.]+ MB[1-9]"))
        expect(page.get_by_role("region", name="Troubles")).to_be_hidden()
        database = Database(f"sqlite:///{fresh.data_dir / 'htmengine.db'}")
        try:
            database.run_sync(troubles.replace, "<b>worker</b>", ["checkpoints cannot be written"], 1_400_000_000)
            expect(page.get_by_role("region", name="Troubles")).to_contain_text("cannot be written<b>worker</b>, since")
        finally:
            database.run_sync(troubles.replace, "<b>worker</b>", [], 0)
            database.close()
        expect(page.get_by_role("region", name="Troubles")).to_be_hidden()
        missing = {"status": "failing", "checks": {"workers": {"ok": False, "detail": "0 of 1 are ready"}}}
        page.route("**/readyz", lambda route: route.fulfill(status=503, json=missing))
        expect(services.get_by_role("row", name="Workers ✗ 0 of 1 are ready")).to_be_visible()


class TestManyProcesses:
    def test_health_shows_what_other_processes_tell(
        self, browser: Browser, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other, away = engine.url.removeprefix("http://"), f"127.0.0.1:{free_port()}"
        monkeypatch.setenv("HTMENGINE__APPLICATION__TELEMETRY__PEERS", f"{other} {away}")
        with (
            running_engine(tmp_path / "data", "--workers", "1") as asking,
            watched_page(browser) as page,
        ):
            told, silent = httpx.get(f"{asking.url}/api/v1/processes", timeout=30).json()["processes"]
            assert (told["address"], told["detail"], told["checks"]["bus"]) == (other, "", {"ok": True, "detail": ""})
            assert "htmengine_worker_models{" in told["figures"]
            assert silent == {"address": away, "detail": silent["detail"], "checks": {}, "figures": ""}
            page.goto(f"{asking.url}/#/health")
            services, workers = page.get_by_role("region", name="Services"), page.get_by_role("region", name="Workers")
            expect(services.get_by_role("row", name=re.compile(f"Metric Storer.*{other} Ready"))).to_be_visible()
            expect(services.get_by_role("row", name=re.compile(f"{away} ✗ no answer"))).to_be_visible()
            expect(workers.get_by_role("row", name=re.compile(f"^{other} 0 .* MB"))).to_be_visible()
            assert page.evaluate(
                "[...document.querySelectorAll('.panels > *')].every((p) => p.scrollWidth <= p.clientWidth)"
            )


class TestTrouble:
    def test_an_engine_that_goes_away_is_told_and_found_again(self, browser: Browser, tmp_path: Path) -> None:
        with running_engine(tmp_path / "data", "--workers", "1", "--http-port", str(free_port())) as engine:
            engine.send([f"m {number} {1_400_000_000 + number}" for number in range(5)])
            with watched_page(browser) as page:
                page.goto(f"{engine.url}/#/metrics")
                expect(rows_of(page)).to_have_count(1)
                engine.kill()
                expect(page.get_by_text("This page may be out of date")).to_be_visible()
                page.get_by_role("link", name="Health").click()
                expect(page.locator("#connection")).to_have_text("Reconnecting…")
                expect(page.get_by_text("This could not be loaded")).to_be_visible()
                engine.start()
                expect(page.locator("#connection")).to_have_text("Connected")
                expect(page.locator("#banner")).to_be_hidden()
                expect(page.get_by_role("heading", name="Queues")).to_be_visible()

    def test_a_token_is_asked_for_and_kept(
        self, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = "read-" + "0123456789abcdef" * 2
        monkeypatch.setenv("HTMENGINE__APPLICATION__WEB__READ_TOKEN", token)
        with running_engine(tmp_path / "data", "--workers", "1") as engine, watched_page(browser) as page:
            page.goto(f"{engine.url}/#/metrics")
            dialog = page.get_by_role("dialog", name="A token, please")
            dialog.get_by_label("Token").fill("wrong")
            page.keyboard.press("Enter")
            expect(dialog.get_by_role("alert")).not_to_be_empty()
            dialog.get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
            expect(page.get_by_text("No metrics yet")).to_be_visible()
            page.reload()
            expect(page.get_by_text("No metrics yet")).to_be_visible()
            assert token not in page.evaluate(
                "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
            )
            page.goto(f"{engine.url}/#/health")
            page.get_by_role("button", name="Log out").click()
            expect(dialog).to_be_visible()


class TestManyMetrics:
    def test_ten_thousand_metrics_scroll_with_a_few_rows_in_the_page(self, browser: Browser, tmp_path: Path) -> None:
        with running_engine(tmp_path / "data", "--workers", "1") as engine:
            seed_metrics(engine, range(10_000))
            with watched_page(browser) as page:
                page.goto(f"{engine.url}/#/metrics?sort=name")
                expect(page.locator(".badge")).to_have_text("10,000")
                table = page.locator(".table-scroll")
                for share in (0.25, 0.5, 0.9999, 0.1):
                    table.evaluate("(box, share) => { box.scrollTop = share * box.scrollHeight }", share)
                    top = table.evaluate("box => Math.floor(box.scrollTop / 40)")
                    expect(page.get_by_role("link", name=f"metric.{top + 3:05d}")).to_be_visible()
                    assert page.locator(".metric-row.body").count() < 60
                page.get_by_role("link", name=f"metric.{top + 3:05d}").focus()
                page.keyboard.press("End")
                expect(page.get_by_role("link", name="metric.09999")).to_be_focused()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for the page to come so far."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
