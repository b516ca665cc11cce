# SPDX-License-Identifier: MIT
"""Requests to the Graphite routes, hostile ones too: each is answered, or refused with a text."""

from __future__ import annotations

import json
from urllib.parse import quote
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htmengine.web.graphite.times import parse_time
from tests.support.graphite import NOW, GraphiteTestCase

NAME = "datacenter-1.web(4).requests"

_WORDS = st.sampled_from(
    [
        "now",
        "-",
        "+",
        "5",
        "0",
        "9" * 12,
        "m",
        "min",
        "mon",
        "h",
        "d",
        "y",
        "6pm",
        "noon",
        "10:00",
        "/",
        "20140513",
        "_",
        "%",
    ]
)
_TIMES = st.one_of(st.text(max_size=30), st.lists(_WORDS, max_size=6).map("".join))
_NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["9" * 400, "0" * 5000, "0" * 20 + "19999999999", "1e999"]),
)
_PATHS = st.one_of(
    st.sampled_from(
        [
            "datacenter-1.*.*",
            "*",
            "**",
            "{a,b}",
            "{",
            "[",
            "[!",
            "[]a]",
            "a\\",
            "",
            ".",
            "..",
            "datacenter-1.web\\(4\\).*",
        ]
    ),
    st.text("ab.*?[]{}!,-\\()é", max_size=20),
)
_PATTERNS = st.one_of(
    st.sampled_from(["(a+)+$", "(", "a{1000}", "(?=a)", "[[:alpha:]]", "\\C", ""]), st.text(max_size=20)
)
_TARGETS = st.recursive(
    _PATHS,
    lambda inner: st.one_of(
        st.builds("aliasSub({},{},{})".format, inner, _PATTERNS.map(json.dumps), _PATTERNS.map(json.dumps)),
        st.builds(
            "{}({},{})".format, st.sampled_from(["scale", "highestMax", "aliasByNode", "sumSeries"]), inner, _NUMBERS
        ),
        st.builds("constantLine({})".format, _NUMBERS),
    ),
    max_leaves=4,
)
_QUERIES = st.one_of(
    st.text(max_size=40).map(quote),
    st.dictionaries(
        st.sampled_from(
            ["target", "from", "until", "maxDataPoints", "tz", "format", "query", "leavesOnly", "group", "limit"]
        ),
        st.one_of(_TARGETS, _TIMES, _NUMBERS, st.sampled_from(["json", "raw", "completer", "Europe/Berlin", "../x"])),
    ).map(lambda given: "&".join(f"{name}={quote(value)}" for name, value in given.items())),
    st.builds(
        lambda *given: "target={}&from={}&until={}&maxDataPoints={}&query={}".format(*map(quote, given)),
        _TARGETS,
        _TIMES,
        _TIMES,
        _NUMBERS,
        _PATHS,
    ),
)
_ROUTES = [
    "/render",
    "/metrics/find",
    "/metrics/expand",
    "/metrics/index.json",
    "/functions",
    "/tags",
    "/tags/autoComplete/tags",
]


class HostileRequestsTest(GraphiteTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store(NAME, 1.0, 2.0, 3.0)

    @settings(suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(_ROUTES), _QUERIES)
    def test_whatever_is_asked_is_answered_or_refused_with_a_text(self, path: str, query: str) -> None:
        status, body = self.ask(path, query=query[:8000] or "a=b")
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertIn(status, (200, 400, 422))
        if status != 200:
            self.assertTrue(json.loads(body)["detail"])

    def test_numbers_beyond_all_bounds_are_refused(self) -> None:
        for parameters in (
            {"maxDataPoints": "0" * 20 + "19999999999"},
            {"maxDataPoints": "9" * 6000},
            {"target": f"constantLine({'9' * 400})"},
            {"target": f"highestMax({'*'},{'9' * 5000})"},
            {"from": "-5parsecs"},
            {"from": "-" + "9" * 5000 + "d"},
        ):
            status, body = self.ask("/render", {"target": "a", **parameters})
            self.assertEqual((status, bool(json.loads(body)["detail"])), (400, True))


class ParametersTest(GraphiteTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store("web1.cpu.load", *map(float, range(10)))

    def points(self, **parameters: str) -> list[tuple[float | None, int]]:
        [series] = self.json("/render", target="web1.cpu.load", **parameters)
        return [(value, at) for value, at in series["datapoints"] if value is not None]

    def test_m_is_minutes(self) -> None:
        self.assertEqual(self.points(**{"from": "-5m"}), self.points(**{"from": "-5min"}))
        self.assertEqual(len(self.points(**{"from": "-5m"})), 5)

    def test_max_data_points_that_say_nothing_are_none(self) -> None:
        for text in ("0", "414.5", "", "many", "009000"):
            self.assertEqual(len(self.points(maxDataPoints=text)), 10)

    def test_a_range_that_runs_backwards_is_swapped(self) -> None:
        forwards = self.points(**{"from": str(NOW - 300), "until": str(NOW)})
        self.assertEqual(self.points(**{"from": str(NOW), "until": str(NOW - 300)}), forwards)

    def test_hours_without_minutes(self) -> None:
        zone = ZoneInfo("UTC")
        for text, clock in (
            ("6pm yesterday", "18:00_yesterday"),
            ("1pm", "13:00"),
            ("8am", "8:00"),
            ("8:30pm", "20:30"),
        ):
            self.assertEqual(parse_time(text, NOW, zone), parse_time(clock, NOW, zone))
        self.assertEqual(len(self.points(**{"from": "6pm yesterday"})), 10)
