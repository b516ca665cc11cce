# SPDX-License-Identifier: MIT
"""Siblings of a metric that begins: what they say, that any replay says the same, and how they are found and kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from unittest import TestCase

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom, siblings
from htmengine.adapters.datasource.siblings import Kin
from htmengine.errors import CorruptCheckpoint, InvalidModelSpec
from htmengine.evidence import Detector
from htmengine.evidence.detector import SIBLING_ROWS
from htmengine.evidence.explaining import why_of
from htmengine.evidence.kinds import Side
from htmengine.evidence.scoring import detector_for
from htmengine.evidence.siblings import Distance, Siblings, hours_of
from htmengine.full_texts import FULL_TEXTS
from htmengine.htm.params import HOURS, ModelParams, SiblingParams
from htmengine.messages import ModelCommand, SampleBatch, decode_model_message
from htmengine.repository import queries
from htmengine.repository.queries import Metric, MetricStatus
from htmengine.runtime.storing import StorerOptions, store_batches
from htmengine.sharding import ShardQueues
from tests.support.database import new_database
from tests.support.evidence_rows import Row, columns

OPTIONS = StorerOptions("samples", ShardQueues("shard.", 4), auto_monitor=True, pending_samples=30)
DAILY = tuple(100.0 + 50.0 * math.sin(hour * math.pi / 12) for hour in range(HOURS))
#: The day, since 1970, on which metrics begin.
BEGIN_DAY = 15
DAY_S = 86_400
PARAMS = SiblingParams(DAILY, (5.0,) * HOURS)


def distances(siblings: Siblings, values: list[float], step: int = 300) -> list[Distance]:
    return [siblings.update(step * row, value) for row, value in enumerate(values)]


def day(level: float = 1.0, rows: int = 288) -> list[float]:
    """A day as the siblings have it."""
    return [level * DAILY[row * 300 // 3600] for row in range(rows)]


def first_day() -> list[Row]:
    """A day at three times the siblings' level; six hours of the afternoon are as the night is."""
    values = [each + row % 3 for row, each in enumerate(day(3.0))]
    values[170:242] = values[0:72]
    return [(300 * row, value, 0.0) for row, value in enumerate(values)]


class SiblingsTest(TestCase):
    def test_a_metric_of_another_level_is_like_its_siblings_until_it_is_not(self) -> None:
        others = [PARAMS, replace(PARAMS, means=tuple(2 * mean for mean in DAILY)), PARAMS]
        found = distances(Siblings(others), [*day(3.0), 900.0, 900.0, 900.0, 900.0, 900.0, 900.0])
        self.assertLess(max(each.decades for each in found[:288]), 0.5)
        self.assertEqual((found[-1].side, found[-1].decades > 4.0), (Side.UP, True))

    def test_siblings_that_agree_on_a_level_say_that_another_one_is_odd(self) -> None:
        self.assertGreater(distances(Siblings([PARAMS] * 3), day(3.0, 12))[-1].decades, 4.0)

    def test_the_nearest_sibling_counts(self) -> None:
        night = replace(PARAMS, means=tuple(reversed(DAILY)))
        found = distances(Siblings([PARAMS, PARAMS, night]), day())
        self.assertLess(max(each.decades for each in found), 0.5)

    def test_fast_rows_are_judged_by_their_means_of_five_minutes(self) -> None:
        found = distances(Siblings([PARAMS] * 3), [100.0 + 40 * (row % 2) for row in range(120)], step=60)
        self.assertEqual([row for row, each in enumerate(found) if each.decades][:2], [54, 59])

    def test_values_of_any_size_and_none_at_all_are_borne(self) -> None:
        for odd in (1.7e308, -1.7e308, math.nan, math.inf, 0.0):
            found = distances(Siblings([PARAMS] * 3), [odd, *day(rows=20), odd, *day(rows=10)])
            self.assertTrue(all(math.isfinite(each.decades) for each in found), odd)

    def test_what_never_differs(self) -> None:
        constant = SiblingParams((1.0,) * HOURS, (0.0,) * HOURS)
        found = distances(Siblings([constant] * 3), [1.0] * 20 + [0.0, 0.0])
        self.assertEqual((found[19].decades, found[21].side), (0.0, Side.DOWN))

    def test_hours(self) -> None:
        times = np.arange(0, 7 * DAY_S, 600)
        shown = hours_of(times, np.where(times // 600 % 2, 3.0, 1.0))
        self.assertEqual(shown, SiblingParams((2.0,) * HOURS, (1.0,) * HOURS))
        self.assertIsNone(hours_of(times[:100], np.ones(100)), "not all hours")
        self.assertIsNone(hours_of(times, np.where(times // 600 % 2, 1.7e308, -1.7e308)), "no finite deviation")
        self.assertEqual(hours_of(times, np.where(times % 3600, 2.0, np.nan)), SiblingParams((2.0,) * 24, (0.0,) * 24))

    def test_damaged_states_are_refused(self) -> None:
        for data in (b"", b"{}", Siblings([PARAMS]).save()[:-1]):
            self.assertRaises(CorruptCheckpoint, Siblings.restore, data)


class DetectorTest(TestCase):
    params = replace(ModelParams.for_range(0.0, 500.0), siblings=(PARAMS,) * 3)

    def test_a_fault_of_the_first_day_is_found_and_told(self) -> None:
        alone, rows = Detector(), first_day()
        beside = Detector(siblings=Siblings([PARAMS, replace(PARAMS, means=tuple(2 * m for m in DAILY)), PARAMS]))
        heights = [each.update_many(*columns(rows)).heights for each in (alone, beside)]
        self.assertLess(heights[0][180:240].max(), 4.0)
        self.assertGreater(heights[1][180:240].max(), 4.0)
        self.assertLess(heights[1][:160].max(), heights[0][:160].max())

    def test_the_reason_is_told(self) -> None:
        detector = detector_for(self.params)
        detector.update_many(*columns([(300 * row, 400.0, 0.0) for row in range(20)]))
        [reason] = why_of(detector).evidence
        self.assertEqual(reason.kind, "siblings")
        self.assertIn("above what the same metrics of other hosts show", reason.text)

    @given(st.sets(st.integers(1, 300), max_size=3), st.sampled_from([60, 300, 3600]))
    @settings(max_examples=10)
    def test_any_replay_gives_the_same_scores(self, cuts: set[int], step: int) -> None:
        rows = [(step * row, value, 0.0) for row, (_, value, _) in enumerate([*first_day(), *first_day()[:20]])]
        one = detector_for(self.params)
        expected = [(one.update(*row), one.height, list(one.evidence), list(one.sides)) for row in rows]
        other, found = detector_for(self.params), []
        for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(rows)], strict=True):
            other = Detector.restore(other.save())
            scored = other.update_many(*columns(rows[first:last]))
            found += list(zip(*(column.tolist() for column in scored[:4]), strict=True))
        self.assertEqual(found, expected)
        self.assertEqual(other.save(), one.save())

    def test_after_its_first_rows_a_metric_is_alone(self) -> None:
        beside, alone = detector_for(self.params), detector_for(replace(self.params, siblings=()))
        rows = [*first_day(), (300 * SIBLING_ROWS, 9000.0, 0.0)]
        for detector in (beside, alone):
            detector.update_many(*columns(rows))
        self.assertEqual((beside.height, beside.save()), (alone.height, alone.save()))

    def test_parameters_are_checked_and_say_nothing_without_siblings(self) -> None:
        document = json.loads(json.dumps(self.params.to_json()))
        self.assertEqual(ModelParams.from_json(document), self.params)
        self.assertNotIn("siblings", ModelParams.for_range(0.0, 1.0).to_json())
        document["siblings"][0]["deviations"][3] = -1.0
        self.assertRaisesRegex(InvalidModelSpec, "deviations: -1.0", ModelParams.from_json, document)
        self.assertRaisesRegex(InvalidModelSpec, "24 numbers", SiblingParams, (1.0,), (1.0,))


class KinTest(SynchronousTestCase):
    DAYS = 8

    def setUp(self) -> None:
        self.database = new_database(self)
        self.kin = Kin()

    def has(self, *names: str, days: int = DAYS) -> None:
        """Metrics that have been there for so many days, a row each half hour."""
        for name in names:
            rows = [(at, DAILY[at // 3600 % HOURS] + at // 1800 % 2) for at in range(0, days * DAY_S, 1800)]
            self.store([f"{name} {value} {(BEGIN_DAY - days) * DAY_S + at}" for at, value in rows])

    def store(self, lines: list[str]) -> list[ModelCommand]:
        batch, now = SampleBatch(lines), 60.0 * DAY_S
        stored = self.database.run_sync(lambda conn: store_batches(conn, [batch], OPTIONS, now, [], kin=self.kin))
        messages = [decode_model_message(message.body) for message in stored.outbox]
        return [each for each in messages if isinstance(each, ModelCommand)]

    def begins(self, name: str, first: int = 0, rows: int = 12) -> tuple[SiblingParams, ...]:
        """The siblings in the definition of the model that these rows start."""
        lines = [f"{name} {row % 5} {BEGIN_DAY * DAY_S + 300 * row}" for row in range(first, first + rows)]
        [command] = self.store(lines)
        return ModelParams.from_json(command.args["params"]).siblings

    def metric(self, name: str) -> Metric:
        return self.database.run_sync(queries.find_metric, name)

    def test_a_metric_that_begins_keeps_what_three_siblings_show(self) -> None:
        self.has("web1.cpu", "web2.cpu", "web3.cpu", "db1.cpu")
        found = self.begins("web4.cpu")
        self.assertEqual(len(found), 3)
        for hour, mean in enumerate(DAILY):
            self.assertAlmostEqual(found[0].means[hour], mean + 0.5)
            self.assertAlmostEqual(found[0].deviations[hour], 0.5)
        self.assertEqual({name for name, _ in self.kin.shown}, {"web1.cpu", "web2.cpu", "web3.cpu"})
        self.assertEqual(self.begins("web4.cpu", first=12, rows=20), found, "the model of the whole range")
        _, [message] = self.database.run_sync(custom.rebuild_metric, self.metric("web4.cpu"), 30, 0)
        command = decode_model_message(message)
        assert isinstance(command, ModelCommand)
        self.assertEqual(ModelParams.from_json(command.args["params"]).siblings, found, "a rebuild")

    def test_tags_name_the_host(self) -> None:
        self.has(*(f"cpu;core=0;host=web{n}" for n in range(3)))
        self.assertEqual(len(self.begins("cpu;core=0;host=new")), 3)
        self.assertEqual(self.begins("cpu;core=1;host=new"), ())

    def test_tags_past_the_255th_byte_of_a_name_name_it_too(self) -> None:
        self.patch(FULL_TEXTS, "_texts", {})
        long = f"cpu;core={'0' * 300}"
        self.has(*(f"{long};host=web{n}" for n in range(3)))
        self.assertEqual(len(self.begins(f"{long};host=new")), 3)

    def test_two_are_too_few(self) -> None:
        self.has("web1.cpu", "web2.cpu", "web3.disk")
        self.assertEqual(self.begins("web4.cpu"), ())

    def test_young_ones_are_not_asked(self) -> None:
        self.has("web1.cpu", "web2.cpu")
        self.has("web3.cpu", days=3)
        self.assertEqual(self.begins("web4.cpu"), ())

    def test_rows_of_the_day_itself_and_another_process_change_nothing(self) -> None:
        self.has("web1.cpu", "web2.cpu", "web3.cpu")
        found = self.begins("web4.cpu")
        self.store([f"web{n} 999 {BEGIN_DAY * DAY_S + 60}" for n in (1, 2, 3)])
        self.kin = Kin()
        self.assertEqual(self.begins("web5.cpu"), found)

    def test_of_many_rows_some_are_read(self) -> None:
        self.has("web1.cpu", "web2.cpu", "web3.cpu")
        self.patch(siblings, "READ_ROWS", 200)
        [first, *_] = self.begins("web4.cpu")
        self.assertAlmostEqual(max(first.deviations), 0.0)

    def test_metrics_that_have_no_model_show_nothing(self) -> None:
        self.has("web1.cpu", "web2.cpu", "web3.cpu")
        uid = self.metric("web2.cpu").uid
        self.database.run_sync(queries.set_status, uid, MetricStatus.UNMONITORED, None)
        self.assertEqual(self.begins("web4.cpu"), ())
