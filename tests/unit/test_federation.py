# SPDX-License-Identifier: MIT
"""Scores for Prometheus: which metrics, what is told of each, and how it is written."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from htmengine.repository import counts, queries
from htmengine.repository.counts import MetricScore
from htmengine.repository.newest import MetricRow
from htmengine.web import federation
from htmengine.web.federation import Federation, page
from htmengine.web.reader import Reader
from tests.support.graphite import NOW, STEP, GraphiteTestCase


class FederationTest(GraphiteTestCase):
    def setUp(self) -> None:
        super().setUp()
        Federation(Reader(self.inline), self.reactor).add_to(self.routes)
        self.store("web.a.load", 1.0, 2.5)
        self.store("disk.used;dc=fra", 7.0)

    def series(self, query: str = "") -> dict[tuple[str, str], float]:
        status, body = self.ask("/federate", query=query)
        self.assertEqual(status, 200, body)
        families = list(text_string_to_metric_families(body.decode()))
        return {
            (sample.name.removeprefix("htmengine_metric_"), sample.labels["metric"]): sample.value
            for family in families
            for sample in family.samples
        }

    def test_the_newest_row_and_its_score(self) -> None:
        self.store("cpu", 3.0)
        metric = self.database.run_sync(queries.find_metric, "cpu")
        score = MetricScore(metric.uid, 1, 1, 1, NOW, 3.0, 0.5, 0.75, expected=2.0, lower=1.0, upper=4.0)
        self.database.run_sync(counts.save_scores, [score])
        found = self.series("match[]=cpu")
        self.assertEqual({metric for _, metric in found}, {"cpu"})
        self.assertEqual(
            {name: value for (name, _), value in found.items()},
            {
                "value": 3.0,
                "timestamp_seconds": float(NOW - STEP),
                "anomaly_score": 0.75,
                "expected": 2.0,
                "expected_lower": 1.0,
                "expected_upper": 4.0,
                "alarm": 0.0,
            },
        )

    def test_selectors_choose(self) -> None:
        for query, names in (
            ("", {"web.a.load", "disk.used"}),
            ("match[]=web.*", {"web.a.load"}),
            ('match[]={dc="fra"}', {"disk.used"}),
            ('match[]={__name__=~"web.*"}&match[]=disk*', {"web.a.load", "disk.used"}),
            ("match[]=none", set()),
            ("max_age=10", set()),
        ):
            self.assertEqual({metric for _, metric in self.series(query)}, names, query)

    def test_what_is_wrong_is_named(self) -> None:
        for query, status in (("match[]={dc=}", 422), ("max_age=1h", 400)):
            found, body = self.ask("/federate", query=query)
            self.assertEqual((found, b"detail" in body), (status, True))

    def test_a_scrape_is_bounded(self) -> None:
        self.patch(federation, "MOST_METRICS", 1)
        status, body = self.ask("/federate")
        self.assertEqual((status, b"match[]" in body), (422, True))

    def test_labels_are_prometheus_own(self) -> None:
        row = MetricRow("u", 'disk;1st=a;fs.type="x\\y";metric=z', 60, 1.0, None, None, None, None)
        text = page([row], {"u"})
        [value, *_] = list(text_string_to_metric_families(text.decode()))
        expected = {"metric": "disk", "_1st": "a", "fs_type": '"x\\y"', "exported_metric": "z"}
        self.assertEqual(value.samples[0].labels, expected)
        self.assertIn(b'htmengine_metric_alarm{metric="disk"', text)
