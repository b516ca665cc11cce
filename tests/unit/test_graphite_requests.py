# SPDX-License-Identifier: MIT
"""Requests to the Graphite routes, hostile ones too: each is answered, or refused with a text."""

from __future__ import annotations

import json
import pickle
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htmengine.incidents import queries
from htmengine.incidents.records import Incident, Phase
from htmengine.web.graphite.functions import FUNCTIONS
from htmengine.web.graphite.paths import Pattern, find_nodes
from htmengine.web.graphite.times import parse_time
from tests.support.graphite import NOW, STEP, GraphiteTestCase

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
    "/tags/autoComplete/values",
    "/tags/findSeries",
    "/events/get_data",
]


@pytest.mark.long
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

    def test_every_function_takes_or_refuses_numbers_below_nothing(self) -> None:
        for name, function in FUNCTIONS.items():
            arguments = ",".join(["*"] + ["-1"] * (len(function.parameters) - 1))
            status, _ = self.ask("/render", {"target": f"{name}({arguments})", "format": "json"})
            self.assertIn(status, (200, 400, 422), f"{name}({arguments})")

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

    def test_points_without_a_value_can_be_left_out(self) -> None:
        [series] = self.json("/render", target="web1.cpu.load", noNullPoints="true")
        self.assertEqual([value for value, _ in series["datapoints"]], list(map(float, range(10))))

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


class BrowsingTest(GraphiteTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store("site.a.web1.load", 1.0, 2.0)
        self.store("site.b.web1.load", 1.0)
        self.store("disk.used;dc=fra;host=web1", 1.0)
        self.store("disk.used;dc=nyc;host=web2", 2.0)

    def test_a_branch_without_wildcards_is_found(self) -> None:
        for query, text in (("site", "site"), ("site.a", "a"), ("site.a.web1", "web1")):
            [node] = self.json("/metrics/find", query=query)
            self.assertEqual((node["text"], node["id"], node["leaf"], node["expandable"]), (text, query, 0, 1))
            self.assertEqual(self.json("/metrics/expand", query=query), {"results": [query]})
        self.assertEqual(self.json("/metrics/find", query="sit"), [])

    def test_a_name_is_listed_once(self) -> None:
        for query in ("site.a.web1.load", "site.a.web1.*"):
            [node] = self.json("/metrics/find", query=query)
            self.assertEqual((node["leaf"], node["expandable"]), (1, 1))

    def test_the_index_lists_a_metric_that_is_called_like_a_score_once(self) -> None:
        self.store("site.a.web1.load.upper", 1.0)
        index = self.json("/metrics/index.json")
        self.assertEqual(len(index), 5 * 6 - 1)
        self.assertEqual(len(set(index)), len(index))

    def test_the_first_nodes_are_found_and_no_more_names_are_read(self) -> None:
        names = [f"a.{letter}.{number}" for letter in "abcd" for number in (1, 2)]
        for query, expected in (
            ("a.*", ["a.a", "a.b"]),
            ("a.*.1", ["a.a.1", "a.a.1"]),
            ("a.d.2.*", ["a.d.2.anomaly_score"]),
        ):
            left = iter(names)
            found = find_nodes(Pattern.parse(query), left, 2)
            self.assertEqual([node.path for node in found][: len(expected)], expected)
            self.assertEqual(bool(list(left)), "d" not in query)

    def test_a_node_that_is_two_things_is_found_once(self) -> None:
        names = ["a.b", "a.b.c", "a.b.upper", "a.b.upper.d", "a.e"]
        for query, expected in (
            ("a.b", ["a.b", "a.b"]),
            ("a.b.u*", ["a.b.upper", "a.b.upper"]),
            ("a.*", ["a.b", "a.b", "a.e"]),
        ):
            nodes = find_nodes(Pattern.parse(query), names, 3)
            self.assertEqual([node.path for node in nodes], expected)
            self.assertEqual(len(set(nodes)), len(nodes))

    def test_a_path_may_have_escaped_characters(self) -> None:
        self.store("site.a.web(4).req", 3.0)
        for target in (r"site.a.web\(4\).req", r"aliasByNode(site.a.web\(4\).req,2)"):
            [series] = self.json("/render", target=target)
            self.assertIn("web(4)", series["target"])
        self.assertEqual(len(self.json("/metrics/find", query=r"site.a.web\(4\)")), 1)

    def test_brackets_may_be_escaped_and_tags_come_in_any_order(self) -> None:
        self.store("site.a.web[1].req", 3.0)
        for target, found in (
            (r"site.a.web\[1\].req", ["site.a.web[1].req"]),
            ("disk.used;host=web1;dc=fra", ["disk.used;dc=fra;host=web1"]),
        ):
            self.assertEqual([each["target"] for each in self.json("/render", target=target)], found)

    def test_tags_and_what_completes_them(self) -> None:
        self.assertEqual([each["tag"] for each in self.json("/tags")], ["dc", "host", "name"])
        values = [{"value": "fra", "count": 1}, {"value": "nyc", "count": 1}]
        self.assertEqual(self.json("/tags/dc"), {"tag": "dc", "values": values})
        self.assertEqual(self.json("/tags/autoComplete/tags", expr="dc=fra", tagPrefix="h"), ["host"])
        completed = self.json(
            "/tags/autoComplete/values", expr=["name=disk.used"], tag="host", valuePrefix="w", limit="1"
        )
        self.assertEqual(completed, ["web1"])
        self.assertEqual(self.json("/tags/findSeries", expr="host=~web[12]"), self.names("host=~web"))
        self.assertEqual(self.ask("/tags/findSeries", {"expr": "host"})[0], 400)

    def names(self, *conditions: str) -> list[str]:
        target = f"seriesByTag({','.join(map(repr, conditions))})"
        return [series["target"] for series in self.json("/render", target=target)]

    def test_series_by_tag(self) -> None:
        web1, web2 = "disk.used;dc=fra;host=web1", "disk.used;dc=nyc;host=web2"
        self.assertEqual(self.names("name=disk.used"), [web1, web2])
        self.assertEqual(self.names("name=~disk", "dc!=fra"), [web2])
        self.assertEqual(self.names("host=~web", "host!=~.*2"), [web1])
        [series] = self.json("/render", target="aliasByTags(seriesByTag('dc=fra'),'host','name')")
        self.assertEqual(series["target"], "web1.disk.used")
        grouped = self.json("/render", target="groupByTags(seriesByTag('name=disk.used'),'sum','dc')")
        self.assertEqual([each["target"] for each in grouped], ["disk.used;dc=fra", "disk.used;dc=nyc"])


class FormatsTest(GraphiteTestCase):
    """What graphite-web asks its cluster's servers for, and what people read."""

    def setUp(self) -> None:
        super().setUp()
        self.store("web.a.load", 1.0, 2.5)

    def test_series(self) -> None:
        asked = {"target": "web.*.load", "from": str(NOW - 2 * STEP), "until": str(NOW)}
        expected = {
            "name": "web.a.load",
            "pathExpression": "web.*.load",
            "start": NOW - 2 * STEP,
            "end": NOW + STEP,
            "step": STEP,
            "values": [1.0, 2.5, None],
            "consolidationFunc": "average",
            "xFilesFactor": 0.0,
            "valuesPerPoint": 1,
        }
        pickled = self.ask("/render", {**asked, "format": "pickle"})[1]
        self.assertEqual(pickle.loads(pickled), [expected])  # noqa: S301 - our own
        self.assertEqual(msgspec.msgpack.decode(self.ask("/render", {**asked, "format": "msgpack"})[1]), [expected])
        _, csv = self.ask("/render/", {**asked, "format": "csv", "tz": "Europe/Berlin"})
        self.assertEqual(
            csv.decode().split("\r\n")[1:3], ["web.a.load,2014-05-13 18:59:00,2.5", "web.a.load,2014-05-13 19:00:00,"]
        )
        _, script = self.ask("/render", {**asked, "jsonp": "cb"})
        self.assertTrue(script.startswith(b"cb([{") and script.endswith(b"}])"))
        self.assertEqual(self.ask("/render", {**asked, "jsonp": "alert(1)//"})[0], 400)

    def test_nodes(self) -> None:
        leaf = {"path": "web.a.load", "is_leaf": True, "intervals": [(0, 32_503_679_999)]}
        branch = {"path": "web.a.load", "is_leaf": False}
        pickled = self.ask("/metrics/find/", {"query": "web.a.load", "format": "pickle"})[1]
        self.assertEqual(pickle.loads(pickled), [branch, leaf])  # noqa: S301 - our own
        packed = msgspec.msgpack.decode(self.ask("/metrics/find", {"query": "web", "format": "msgpack"})[1])
        self.assertEqual(packed, [{"path": "web", "is_leaf": False}])
        self.assertEqual(self.json("/metrics/find", query="web.*", format="nodelist"), {"nodes": ["web.a"]})


class EventsTest(GraphiteTestCase):
    def test_incidents_are_events(self) -> None:
        self.assertEqual(self.json("/events/get_data"), [])
        for number, rule in enumerate(("all", "disks")):
            made = Incident(
                f"i{number}",
                rule,
                f"{rule}: web1",
                Phase.OPEN,
                NOW - 600 + number,
                NOW,
                NOW,
                NOW,
                None,
                None,
                None,
                True,
                None,
                9.0,
                None,
                None,
                3,
            )
            self.database.run_sync(queries.save_incident, made)
        first = {
            "id": "i0",
            "when": NOW - 600,
            "what": "all: web1",
            "tags": ["incident", "rule:all", "open"],
            "data": "metrics: 3",
        }
        found = self.json("/events/get_data")
        self.assertEqual((found[0], len(found)), (first, 2))
        self.assertEqual(self.json("/events/get_data", tags="incident rule:all"), [first])
        self.assertEqual(len(self.json("/events/get_data", tags="rule:disks rule:all", set="union")), 2)
        self.assertEqual(self.json("/events/get_data", **{"from": str(NOW - 100)}), [])
