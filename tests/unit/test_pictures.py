# SPDX-License-Identifier: MIT
"""The report of a fleet: which events it shows, and that a picture has them."""

from __future__ import annotations

from unittest import TestCase
from xml.etree import ElementTree

import numpy as np

from htmengine.measure.fleet import Alarmed, Fleet, FleetSeries, score_alarms
from htmengine.measure.pictures import Example, examples, page, svg
from tests.unit.test_fleet import LABELS


class PicturesTest(TestCase):
    def setUp(self) -> None:
        times = np.arange(600_000, 1_000_000, 60)
        self.fleet = Fleet(LABELS, [FleetSeries(name, times, times % 7.0) for name in "ab"])
        self.heights = [np.full(len(times), 1.0)] * 2

    def chosen(self, alarms: list[Alarmed]) -> list[Example]:
        return examples(self.fleet, self.heights, score_alarms(self.fleet, alarms), alarms)

    def test_each_kind_has_a_found_and_a_missed_example(self) -> None:
        chosen = self.chosen([Alarmed("b", 800_160), Alarmed("a", 800_220)])
        found = [(each.kind, each.found, each.series.name, each.alarms) for each in chosen]
        self.assertEqual(found, [("incident", True, "a", [800_220]), ("spike", False, "a", [])])

    def test_the_page_has_a_picture_an_example_and_what_it_was_given_as_text(self) -> None:
        chosen = self.chosen([Alarmed("a", 700_020)])
        text = page("What was <found>", "a & b", chosen, 4.0)
        self.assertEqual(text.count("<svg "), 2)
        self.assertIn("<h1>What was &lt;found&gt;</h1>\n<pre>a &amp; b</pre>", text)
        self.assertIn("<h2>spike, found: a</h2>", text)

    def test_a_picture_shows_the_fault_and_its_alarms_within_its_frame(self) -> None:
        found = self.chosen([Alarmed("a", 700_020)])[1]
        root = ElementTree.fromstring(svg(found, 4.0))
        rect, values = root.find("rect"), root.find("polyline")
        assert rect is not None
        assert values is not None
        alarm = [line for line in root.findall("line") if line.get("class") == "alarm"]
        self.assertEqual([line.get("x1") for line in alarm], [rect.get("x")])
        places = [point.split(",") for point in values.attrib["points"].split()]
        self.assertTrue(all(0 <= float(x) <= 720 and 0 <= float(y) <= 110 for x, y in places))

    def test_a_metric_without_rows_there_has_an_empty_picture(self) -> None:
        none = FleetSeries("a", np.array([], dtype=np.int64), np.array([]))
        self.assertEqual(svg(Example("silence", False, none, np.array([]), 0, 60, []), 4.0), "")
