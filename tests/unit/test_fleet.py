# SPDX-License-Identifier: MIT
"""A fleet with labelled faults: read as the engine gets it, and alarms counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import BadSeries
from htmengine.measure.fleet import WEEK_S, Alarmed, Fleet, FleetSeries, load_fleet, score_alarms, score_groups


def event(kind: str, first: int, last: int, incident: str = "") -> dict[str, Any]:
    return {"kind": kind, "first": first, "last": last, "incident": incident}


LABELS = {
    "step": 60,
    "first": 0,
    "warm_up_end": WEEK_S,
    "last": 3 * WEEK_S - 60,
    "metrics": {
        "a": {
            "kind": "noise",
            "benign": [],
            "faults": [event("spike", 700_020, 700_080), event("incident", 800_040, 803_640, "i")],
        },
        "b": {
            "kind": "walk",
            "benign": [event("deploy", 900_000, 903_600)],
            "faults": [event("incident", 800_160, 803_640, "i")],
        },
    },
    "incidents": [{"id": "i", "first": 800_040, "last": 803_640, "metrics": ["a", "b"], "root": "a"}],
}


class FleetTest(SynchronousTestCase):
    def fleet(self) -> Fleet:
        none: Any = ()
        return Fleet(LABELS, [FleetSeries("a", none, none), FleetSeries("b", none, none)])

    def test_alarms_are_early_true_benign_or_false(self) -> None:
        times = [("a", 60), ("a", 703_680), ("a", 703_740), ("b", 800_160), ("a", 800_280), ("b", 907_200)]
        score = score_alarms(self.fleet(), [Alarmed(*each) for each in times])
        self.assertEqual(dict(score.counts), {"early": 1, "true": 3, "false": 1, "benign": 1})
        self.assertEqual((score.weeks, score.pages, score.found(), score.number()), (4.0, 5, 2, 2))
        self.assertEqual((score.found("spike"), score.number("incident"), score.found("leak")), (1, 1, 0))
        self.assertEqual((round(score.event_precision, 4), score.delay_minutes), (0.6667, 31.5))
        self.assertEqual(score.as_json()["by_fault"], {"incident": [1, 1], "spike": [1, 1]})

    def test_groups_of_an_incident(self) -> None:
        groups = [[Alarmed("b", 800_160), Alarmed("a", 800_280)], [Alarmed("a", 700_020)], [Alarmed("b", 803_000)]]
        score = score_groups(self.fleet(), groups)
        self.assertEqual((score.groups, score.groups_an_incident, score.roots_first_three), (3, 2.0, 1))

    def test_counters_are_read_as_rates(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "labels.json").write_text(json.dumps({"metrics": {"a": {}, "b": {}}}))
        rows = [(300 * n, 10 * n if n < 400 else 10 * (n - 400)) for n in range(500)]
        for name, factor in (("a", 1), ("b", -1)):
            lines = "".join(f"{timestamp},{factor * value}\n" for timestamp, value in rows)
            (folder / f"{name}.csv").write_text("timestamp,value\n" + lines)
        counter, gauge = load_fleet(folder).series
        self.assertEqual((len(counter.values), {round(value, 9) for value in counter.values}), (498, {0.033333333}))
        self.assertNotIn(120_000, counter.timestamps)  # the reset has no rate
        self.assertEqual(len(gauge.values), 500)

    def test_a_folder_without_labels_is_refused(self) -> None:
        self.assertRaisesRegex(BadSeries, "not a fleet", load_fleet, Path("/nowhere"))
