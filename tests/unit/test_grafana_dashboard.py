# SPDX-License-Identifier: MIT
"""The dashboard for Grafana: every target, variable and annotation of it is asked of the routes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.graphite import NOW, GraphiteTestCase

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "grafana" / "metric.json").read_text())


def targets(metric: str) -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["target"].replace("$metrics", "web.*.*").replace("$metric", metric)


class DashboardTest(GraphiteTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store("web.a.load", 1.0, 2.0)

    def test_each_target_is_a_series(self) -> None:
        asked = list(targets("web.a.load"))
        found = [self.json("/render", target=each, **{"from": str(NOW - 3600), "until": str(NOW)}) for each in asked]
        names = [[series["target"] for series in each] for each in found]
        self.assertEqual(names, [["value"], ["expected"], ["lower"], ["upper"], ["anomaly score"], ["web.a.load"]])

    def test_the_variable_lists_the_metrics(self) -> None:
        [variable] = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "metric"]
        self.assertEqual(variable["query"], "tag_values(name)")
        self.assertEqual(self.json("/tags/autoComplete/values", tag="name", limit="10000"), ["web.a.load"])

    def test_annotations_are_asked_for_by_tag(self) -> None:
        [annotation] = DASHBOARD["annotations"]["list"]
        tags = " ".join(annotation["target"]["tags"])
        self.assertEqual(self.json("/events/get_data", tags=tags, **{"from": str(NOW - 3600)}), [])
