# SPDX-License-Identifier: MIT
"""statsd: what is sent, added up under the names that statsd's server gives."""

from __future__ import annotations

import contextlib
from collections import Counter
from unittest import TestCase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htmengine.errors import InvalidSample
from htmengine.wires import statsd
from htmengine.wires.samples import Received
from htmengine.wires.statsd import Aggregator, StatsdOptions, parse_line


def values(received: Received) -> dict[str, float]:
    return {sample.name: sample.value for sample in received.samples}


class ParseLineTest(TestCase):
    def reason(self, line: str) -> str:
        with self.assertRaises(InvalidSample) as caught:
            parse_line(line)
        return str(caught.exception.reason)

    def test_names_are_cleaned_as_statsd_s_server_cleans_them(self) -> None:
        self.assertEqual(parse_line("page views/of shop!é:1|c")[0].name, "page_views-of_shop")

    def test_tags_of_both_forms_are_labels(self) -> None:
        self.assertEqual(parse_line("hits;b=2:1|c|#a:1,beta")[0].name, "hits;a=1;b=2;beta=true")

    def test_packed_values_are_all_read(self) -> None:
        self.assertEqual([each.value for each in parse_line("t:1:2.5:3|ms|@0.5")], ["1", "2.5", "3"])

    def test_parts_that_carry_no_value_are_passed_over(self) -> None:
        self.assertEqual(parse_line("t:1|ms|c:0123|T1700000000")[0].name, "t")

    def test_each_kind_of_bad_line_has_its_own_reason(self) -> None:
        cases = {
            "no colon": "statsd_form",
            "a:": "statsd_form",
            ":1|c": "statsd_form",
            "a:1": "statsd_form",
            "a:1|x": "statsd_type",
            "a:1|c|@0": "statsd_rate",
            "a:1|c|@2": "statsd_rate",
            "a:1|c|@x": "value_not_a_number",
            "!!!:1|c": "name_empty",
        }
        self.assertEqual({line: self.reason(line) for line in cases}, cases)

    @given(st.text(max_size=60) | st.text(st.sampled_from("a:1|c@#,;=.ms-+ "), max_size=30))
    def test_any_text_is_read_or_refused(self, line: str) -> None:
        with contextlib.suppress(InvalidSample):
            parse_line(line)


class AggregatorTest(TestCase):
    def setUp(self) -> None:
        self.aggregator = Aggregator(StatsdOptions())
        self.rejected: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def take(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            refused = self.aggregator.take(datagram, now=1.0)
            self.rejected += refused.rejected
            self.left_out += refused.left_out

    def test_counters_give_rate_and_count_and_0_when_nothing_comes(self) -> None:
        self.take(b"a.hits:1|c\na.hits:4|c", b"a.hits:1|c|@0.1")
        self.assertEqual(
            values(self.aggregator.flush(10.0)),
            {"stats.counters.a.hits.rate": 1.5, "stats.counters.a.hits.count": 15.0},
        )
        self.assertEqual(
            values(self.aggregator.flush(20.0)), {"stats.counters.a.hits.rate": 0.0, "stats.counters.a.hits.count": 0.0}
        )

    def test_gauges_are_set_moved_and_repeated(self) -> None:
        self.take(b"q:10|g", b"q:-3|g", b"q:+0.5|g")
        self.assertEqual(values(self.aggregator.flush(10.0)), {"stats.gauges.q": 7.5})
        self.assertEqual(values(self.aggregator.flush(20.0)), {"stats.gauges.q": 7.5})

    def test_timers_give_the_figures_of_statsd_s_server(self) -> None:
        self.take(b":".join([b"t", *(b"%d" % n for n in range(1, 101))]) + b"|ms", b"t:450|h|@0.5")
        self.assertEqual(
            values(self.aggregator.flush(10.0)),
            {
                "stats.timers.t.count": 102.0,
                "stats.timers.t.mean": 5500 / 101,
                "stats.timers.t.lower": 1.0,
                "stats.timers.t.upper": 450.0,
                "stats.timers.t.upper_90": 91.0,
            },
        )
        self.assertEqual(values(self.aggregator.flush(20.0)), {"stats.timers.t.count": 0.0})

    def test_a_percentile_may_have_a_fraction(self) -> None:
        self.aggregator = Aggregator(StatsdOptions(percentiles=(99.9,)))
        self.take(b"t:5|ms")
        self.assertIn("stats.timers.t.upper_99_9", values(self.aggregator.flush(10.0)))

    def test_a_timer_of_many_values_keeps_some_and_knows_the_extremes_of_all(self) -> None:
        for start in range(0, 20_000, 100):
            self.take(b":".join([b"t", *(b"%d" % n for n in range(start, start + 100))]) + b"|ms")
        found = values(self.aggregator.flush(10.0))
        self.assertEqual((found["stats.timers.t.lower"], found["stats.timers.t.upper"]), (0.0, 19_999.0))
        self.assertEqual(found["stats.timers.t.count"], 20_000.0)
        self.assertTrue(17_000 < found["stats.timers.t.upper_90"] < 19_000)

    def test_sets_count_their_different_members(self) -> None:
        self.take(b"u:ann|s", b"u:bob|s", b"u:ann|s")
        self.assertEqual(values(self.aggregator.flush(10.0)), {"stats.sets.u.count": 2.0})
        self.assertEqual(values(self.aggregator.flush(20.0)), {"stats.sets.u.count": 0.0})

    def test_labels_come_after_the_whole_name(self) -> None:
        self.take(b"hits:5|c|#site:shop,dc:eu")
        self.assertIn("stats.counters.hits.rate;dc=eu;site=shop", values(self.aggregator.flush(10.0)))

    def test_one_bad_line_harms_itself_alone_and_is_counted(self) -> None:
        self.take(b"a:1|c\nb:x|c\nc:nan|g\n\nd:1|zz\ne:1|c", b"\xff:1|c\nf:1|c", b"_e{5,4}:title|text")
        received = self.aggregator.flush(10.0)
        self.assertEqual(
            dict(self.rejected),
            {"value_not_a_number": 1, "value_not_finite": 1, "statsd_type": 1, "not_utf8": 1},
        )
        self.assertEqual(dict(self.left_out), {"event": 1})
        counters = {f"stats.counters.{name}.count" for name in "aef"}
        self.assertLessEqual(counters, set(values(received)))

    @pytest.mark.long
    def test_metrics_and_members_are_bounded(self) -> None:
        self.aggregator = Aggregator(StatsdOptions(max_metrics=2))
        self.take(b"a:1|c", b"b:1|c", b"c:1|c", b"a:1|c")
        for member in range(statsd.MAX_SET_MEMBERS + 1):
            self.take(b"s:%d|s" % member)
        self.assertEqual(dict(self.rejected), {"statsd_metrics": 1 + statsd.MAX_SET_MEMBERS + 1})
        self.aggregator = Aggregator(StatsdOptions())
        for member in range(statsd.MAX_SET_MEMBERS + 1):
            self.take(b"s:%d|s" % member)
        received = self.aggregator.flush(10.0)
        self.assertEqual(self.rejected["statsd_set"], 1)
        self.assertEqual(values(received), {"stats.sets.s.count": float(statsd.MAX_SET_MEMBERS)})

    def test_a_sender_that_died_falls_silent_after_an_hour(self) -> None:
        self.take(b"a:1|g")
        self.assertEqual(len(self.aggregator.flush(3601.0).samples), 1)
        self.assertEqual(self.aggregator.flush(3602.0).samples, [])
