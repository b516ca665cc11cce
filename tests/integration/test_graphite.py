# SPDX-License-Identifier: MIT
"""Graphite's read API: the requests that Grafana's data source sends, and Graphite's own code as the oracle."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htmengine.web.graphite.paths import Pattern
from htmengine.web.graphite.times import parse_time
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.servers import Prometheus, program

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it misses a configuration file that nobody needs here
    from graphite_render.finders import match_entries
    from graphite_render.render.attime import parseATTime

START = 1_400_000_040  # a whole minute
ROWS = 400
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Two metrics a minute, one of them with a model, and one every five minutes."""
    with running_engine(tmp_path_factory.mktemp("graphite") / "data", "--workers", "1", "--no-auto-monitor") as started:
        httpx.put(f"{started.url}/prod.web1.requests", content='{"min": 0, "max": 100}')
        for name, every, factor in (
            ("prod.web1.requests", 60, 1),
            ("prod.web2.requests", 60, 2),
            ("prod.db1.load", 300, 3),
        ):
            rows = range(0, ROWS * 60, every)
            started.send(f"{name} {factor * (second // 60 % 10)} {START + second}" for second in rows)
        started.wait_until_scored("prod.web1.requests", ROWS)
        wait_for(lambda: started.query("SELECT count(*) FROM metric_data") == [(2 * ROWS + ROWS // 5,)], "all rows")
        yield started


@pytest.fixture
def client(engine: Engine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.url, timeout=30) as opened:
        yield opened


def render(client: httpx.Client, *targets: str, start: Any = START, end: Any = START + 540, **more: Any) -> Any:
    """As Grafana asks: a form."""
    form = {"target": list(targets), "from": start, "until": end, "format": "json", **more}
    response = client.post("/render", data=form)
    assert response.status_code == 200, response.text
    return response.json()


def values(client: httpx.Client, target: str, **more: Any) -> dict[str, list[float | None]]:
    return {each["target"]: [value for value, _ in each["datapoints"]] for each in render(client, target, **more)}


class TestGrafana:
    """One after the other what its Graphite data source sends."""

    def test_the_check_of_a_new_data_source(self, client: httpx.Client) -> None:
        [line] = render(client, "constantLine(100)", start="-24h", end="now", maxDataPoints=300)
        assert [value for value, _ in line["datapoints"]] == [100.0] * 3
        assert client.get("/version").json() == "1.1.10"
        assert client.get("/functions").json()["aliasByNode"]["params"][1]["multiple"] is True

    def test_a_panel(self, client: httpx.Client) -> None:
        answer = render(client, "prod.*.requests", maxDataPoints=1000)
        assert [series["target"] for series in answer] == ["prod.web1.requests", "prod.web2.requests"]
        assert answer[0]["datapoints"][:2] == [[0.0, START], [1.0, START + 60]]
        assert len(answer[0]["datapoints"]) == 10

    def test_series_that_its_backend_names(self, client: httpx.Client) -> None:
        [series] = render(client, r'aliasSub(prod.web1.requests,"(^.*$)","\1 A")')
        assert series["target"] == "prod.web1.requests A"

    def test_the_query_editor(self, client: httpx.Client) -> None:
        sent = client.post("/metrics/find", params={"from": "-1h"}, content="query=prod.*", headers=FORM).json()
        assert [(node["text"], node["expandable"]) for node in sent] == [("db1", 1), ("web1", 1), ("web2", 1)]
        leaves = client.get("/metrics/find", params={"query": "prod.web1.requests.*"}).json()
        names = ["anomaly_score", "expected", "lower", "raw_anomaly_score", "upper"]
        assert [(node["text"], node["leaf"]) for node in leaves] == [(name, 1) for name in names]
        both = client.get("/metrics/find", params={"query": "prod.web1.*"}).json()
        assert [(node["text"], node["leaf"]) for node in both] == [("requests", 1)]

    def test_variables_tags_and_annotations(self, client: httpx.Client) -> None:
        assert client.get("/metrics/expand", params={"query": "prod.web*"}).json() == {
            "results": ["prod.web1", "prod.web2"]
        }
        assert client.get("/tags").json() == [{"tag": "name"}]
        assert client.get("/tags/autoComplete/tags", params={"tagPrefix": "", "limit": 100}).json() == ["name"]
        found = client.get("/tags/autoComplete/values", params={"tag": "name", "expr": "name=~prod.w", "limit": 1})
        assert found.json() == ["prod.web1.requests"]
        assert client.get("/events/get_data", params={"tags": "incident"}).json() == []

    def test_an_error_tells_the_panel_what_is_wrong(self, client: httpx.Client) -> None:
        for target, word in {
            "randomWalk('x')": "randomWalk",
            "movingAverage(prod.*.requests, '5x')": "length of time",
            "scale(prod.*.requests)": "factor",
            "scale(prod.*.requests, 'x')": "factor",
            "alias(prod.*.requests, 5)": "newName",
            "scale(prod.web1.requests, 1": "character",
            "highestMax(prod.web1.requests, 1, 2)": "nothing else",
            r'aliasSub(prod.web1.requests, "(", "")': "regular expression",
        }.items():
            response = client.post("/render", data={"target": target})
            assert response.status_code == 400
            assert word in response.json()["detail"]


class TestPrometheus:
    def test_it_records_values_and_scores(self, engine: Engine) -> None:
        scrape = {
            "metrics_path": "/federate",
            "params": {"match[]": ["prod.web*"], "max_age": ["900000000"]},
        }
        with Prometheus(engine.url.removeprefix("http://"), **scrape) as prometheus:
            name = "htmengine_metric_{}%7Bmetric=%22prod.web1.requests%22%7D"
            wait_for(lambda: prometheus.value(name.format("value")) == 9.0, "the newest value")
            score = prometheus.value(name.format("anomaly_score"))
            assert score == engine.scores("prod.web1.requests")[-1][2]
            expected, lower, upper = (
                prometheus.value(name.format(figure)) for figure in ("expected", "expected_lower", "expected_upper")
            )
            assert sorted(filter(None, (upper, lower, expected))) == [lower, expected, upper]
            assert prometheus.value(name.format("alarm")) == 0.0
            assert prometheus.value(name.format("timestamp_seconds")) == START + 60 * (ROWS - 1)
            assert prometheus.value("count(htmengine_metric_value)") == 2.0


class TestRender:
    def test_functions_that_want_more_than_the_range(self, client: httpx.Client) -> None:
        [plain] = values(client, "prod.web2.requests", start=START + 1200, end=START + 2400).values()
        [mean] = values(client, "movingAverage(prod.web2.requests,10)", start=START + 1200, end=START + 2400).values()
        assert (len(mean), set(mean)) == (len(plain), {9.0})
        [shifted] = values(
            client, "timeShift(prod.web2.requests,'3min')", start=START + 1200, end=START + 2400
        ).values()
        assert shifted[3:] == plain[:-3]
        [sums] = values(client, "summarize(prod.web1.requests,'10min','sum',true)", end=START + 3599).values()
        assert sums == [45.0] * 6
        [few] = values(client, "consolidateBy(prod.web1.requests,'max')", end=START + 3599, maxDataPoints=6).values()
        assert few == [9.0] * 6

    def test_scores_are_series_beside_their_metric(self, client: httpx.Client) -> None:
        until = START + 60 * (ROWS - 1)
        [scores] = values(client, "prod.web1.requests.anomaly_score", end=until).values()
        assert len(scores) == ROWS
        assert all(score is not None and score < 0.999 for score in scores[:100])
        assert all(score is not None and 0 <= score <= 1 for score in scores)
        [raw] = values(client, "prod.web1.requests.raw_anomaly_score", end=until).values()
        assert raw[0] == 1.0
        assert set(values(client, "prod.web2.requests.anomaly_score")["prod.web2.requests.anomaly_score"]) == {None}

    def test_globs(self, client: httpx.Client) -> None:
        assert set(values(client, "prod.{web1,db1}.*")) == {"prod.web1.requests", "prod.db1.load"}
        assert set(values(client, "prod.web[2-9].requests")) == {"prod.web2.requests"}
        assert set(values(client, "prod.w?b1.*.anomaly_score")) == {"prod.web1.requests.anomaly_score"}
        assert values(client, "prod") == values(client, "no.such") == {}

    def test_points_are_consolidated_and_peaks_of_scores_kept(self, client: httpx.Client) -> None:
        until = START + 60 * (ROWS - 1)
        [few] = values(client, "prod.web2.requests", end=until, maxDataPoints=40).values()
        assert len(few) <= 41
        assert few[1] == pytest.approx(9.0)
        [all_scores] = values(client, "prod.web1.requests.raw_anomaly_score", end=until).values()
        [few_scores] = values(client, "prod.web1.requests.raw_anomaly_score", end=until, maxDataPoints=10).values()
        assert max(filter(None, few_scores[1:])) == max(filter(None, all_scores[60:]))

    def test_functions(self, client: httpx.Client) -> None:
        assert values(client, "sumSeries(prod.*.requests)")["sumSeries(prod.*.requests)"][:3] == [0.0, 3.0, 6.0]
        assert values(client, "averageSeries(prod.web1.requests,prod.web2.requests)").popitem()[1][1] == 1.5
        assert values(client, "maxSeries(prod.*.requests)").popitem()[1][1] == 2.0
        assert values(client, "scale(prod.web1.requests, 10)")["scale(prod.web1.requests,10)"][1] == 10.0
        assert list(values(client, "highestMax(prod.*.requests, 1)")) == ["prod.web2.requests"]
        assert list(values(client, "aliasByNode(prod.*.requests, 1, -1)")) == ["web1.requests", "web2.requests"]
        assert list(values(client, 'alias(scale(prod.web1.requests, 2), "twice")')) == ["twice"]

    def test_series_of_other_distances_are_combined(self, client: httpx.Client) -> None:
        [(_, sums)] = values(client, "sumSeries(prod.web1.requests, prod.db1.load)", end=START + 1199).items()
        stamps = render(client, "sumSeries(prod.web1.requests, prod.db1.load)", end=START + 1199)[0]["datapoints"]
        assert stamps[1][1] - stamps[0][1] == 300
        assert len([value for value in sums if value is not None]) >= 3

    def test_raw_lines(self, client: httpx.Client) -> None:
        given = {"target": "prod.web1.requests", "from": START, "until": START + 120, "format": "raw"}
        assert client.get("/render/", params=given).text == f"prod.web1.requests,{START},{START + 180},60|0.0,1.0,2.0\n"

    def test_the_index_lists_every_series(self, client: httpx.Client) -> None:
        index = client.get("/metrics/index.json").json()
        assert len(index) == 18
        assert "prod.db1.load.raw_anomaly_score" in index

    def test_what_is_missing_or_too_much_is_named(self, client: httpx.Client) -> None:
        for path, field in {
            "/render": "target",
            "/render?target=a&from=noway": "from",
            "/render?target=a&until=25:99_20200101": "until",
            "/render?target=a&tz=Nowhere/Land": "tz",
            f"/render?target=a&maxDataPoints={'0' * 20}19999999999": "maxDataPoints",
            "/render?target=a&format=png": "format",
            "/metrics/find": "query",
        }.items():
            response = client.get(path)
            assert response.status_code == 400
            assert response.json()["errors"][0]["field"] == field
        assert client.get("/render", params={"target": "{a,b}" * 20}).status_code == 400
        assert client.get("/render", params={"target": "scale(" * 50 + "a" + ",1)" * 50}).status_code == 400


# --- Graphite's own code as the oracle ------------------------------------------------------------------

_UNITS = st.sampled_from(["s", "sec", "seconds", "min", "minutes", "h", "hours", "d", "days", "w", "weeks", "mon", "y"])
_OFFSETS = st.builds(lambda sign, n, unit: f"{sign}{n}{unit}", st.sampled_from("+-"), st.integers(0, 50), _UNITS)
_CLOCKS = st.one_of(
    st.just(""),
    st.sampled_from(["noon", "midnight", "teatime", "8:05", "08:05", "23:59"]),
    st.builds(lambda hour, minute: f"{hour}:{minute:02}", st.integers(0, 23), st.integers(0, 59)),
)
_DATES = st.dates(datetime(1971, 1, 1).date(), datetime(2037, 12, 28).date())
_DAYS = st.one_of(
    st.sampled_from(["today", "yesterday", "tomorrow", "monday", "tue", "sunday", "fri"]),
    _DATES.map(lambda date: date.strftime("%Y%m%d")),
    _DATES.map(lambda date: date.strftime("%m/%d/%Y")),
)


def _is_readable(text: str) -> bool:
    """Graphite takes every time of 13 characters with a colon for a clock and a date."""
    squeezed = text.replace("_", "")
    return not (":" in squeezed and len(squeezed) == 13) or squeezed.replace(":", "").isdigit()


_TIMES = st.one_of(
    st.integers(0, 2_000_000_000).map(str).filter(lambda text: len(text) != 8),
    _OFFSETS,
    st.just("now"),
    _OFFSETS.map(lambda offset: f"now{offset}"),
    st.builds(lambda clock, day, offset: f"{clock}{'_' if clock else ''}{day}{offset}", _CLOCKS, _DAYS, st.just("")),
    st.builds(lambda day, offset: f"{day}{offset}", _DAYS, _OFFSETS),
)


class TestOracle:
    @settings(max_examples=300, deadline=None)
    @given(_TIMES.filter(_is_readable))
    def test_times_are_read_as_graphite_does(self, text: str) -> None:
        now = datetime.now(UTC)
        expected = parseATTime(text, ZoneInfo("UTC")).timestamp()
        assert abs(parse_time(text, now.timestamp(), UTC) - max(0, int(expected))) <= 2

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["*", "?", "a", "b", "ab", "{a,b}", "{ab,c*}", "[ab]", "[!a]", "[a-c]", "x", ","]),
            max_size=9,  # of two alternatives each: fewer than are refused
        ).map("".join),
        st.lists(st.text("abcx,", max_size=4), max_size=10, unique=True),
    )
    def test_globs_match_as_graphite_does(self, pattern: str, names: list[str]) -> None:
        matched = sorted(name for name in names if Pattern.parse(pattern).matches(name))
        assert matched == sorted(set(match_entries(names, pattern)))

    def test_no_wildcard_reaches_over_a_dot(self) -> None:
        assert fnmatch.fnmatch("a.b", "a*")
        assert not Pattern.parse("a*").matches("a.b")

    def test_times_of_a_zone(self) -> None:
        berlin = ZoneInfo("Europe/Berlin")
        expected = int(parseATTime("10:00_20140513", berlin).timestamp())
        assert parse_time("10:00_20140513", 0.0, berlin) == expected == 1_399_968_000


class TestRealClient:
    """check_graphite, by which Nagios and Icinga watch metrics in Graphite."""

    def check(self, engine: Engine, target: str, warning: float, critical: float) -> subprocess.CompletedProcess[str]:
        span = ("--from", str(START), "--until", str(START + ROWS * 60))
        levels = ("-W", str(warning), "-C", str(critical))
        command = [sys.executable, program("check_graphite", "nagios/plugins/check_graphite")]
        return subprocess.run(
            [*command, "-U", engine.url, "-t", target, *span, *levels],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_values_within_their_bounds_are_ok(self, engine: Engine) -> None:
        done = self.check(engine, "prod.web1.requests", 10, 20)
        assert (done.returncode, done.stdout.startswith("OK")) == (0, True), done.stdout + done.stderr

    def test_an_anomaly_score_beyond_its_bound_is_critical(self, engine: Engine) -> None:
        done = self.check(engine, "prod.web1.requests.raw_anomaly_score", 0.5, 0.9)
        assert (done.returncode, done.stdout.startswith("CRITICAL")) == (2, True), done.stdout + done.stderr
