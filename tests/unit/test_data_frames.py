# SPDX-License-Identifier: MIT
"""Scores in Python programs: of pandas and polars frames, and row by row."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from unittest import TestCase

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import htmengine
from htmengine.errors import HtmEngineError, InvalidSample, TooFewRows
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.offline.scores import score_rows
from tests.support.extras import needed

ROWS = 320
TIMES = [1_700_000_000 + 300 * row for row in range(ROWS)]
VALUES = [20.0 + row % 7 for row in range(ROWS - 1)] + [90.0]
RANGE = {"minimum": 0.0, "maximum": 100.0}


def expected(params: ModelParams, times: list[int], values: list[float]) -> list[float]:
    return [score for _, score in score_rows(Model(params), detector_for(params), times, values)]


LEARNT = expected(ModelParams.for_sample(VALUES[:288]), TIMES, VALUES)
KNOWN = expected(ModelParams.for_range(0.0, 100.0), TIMES, VALUES)


class FramesTest(TestCase):
    def test_pandas_times_of_any_zone_and_index_have_the_scores_of_an_engine_in_the_order_of_the_rows(self) -> None:
        pandas = needed("pandas")
        needed("narwhals")
        order = np.random.default_rng(3).permutation(ROWS)
        times = pandas.to_datetime(np.array(TIMES)[order], unit="s", utc=True).tz_convert("Europe/Berlin")
        frame = pandas.DataFrame({"at": times, "load": np.array(VALUES)[order]}, index=order * 2)
        found = htmengine.score(frame, timestamp="at", value="load")
        self.assertEqual(found["anomaly_score"].tolist(), [LEARNT[place] for place in order])
        self.assertEqual(list(found.columns), ["at", "load", "raw_anomaly_score", "anomaly_score"])
        self.assertEqual(found.index.tolist(), frame.index.tolist())
        self.assertEqual(list(frame.columns), ["at", "load"])

    def test_polars_epoch_numbers_may_be_milliseconds(self) -> None:
        polars = needed("polars")
        needed("narwhals")
        frame = polars.DataFrame({"timestamp": [1000 * at for at in TIMES], "value": VALUES})
        found = htmengine.score(frame, **RANGE)
        self.assertIsInstance(found, polars.DataFrame)
        self.assertEqual(found["anomaly_score"].to_list(), KNOWN)

    def test_series_are_scored_each_and_what_cannot_be_scored_is_nan_and_counted(self) -> None:
        pandas = needed("pandas")
        needed("narwhals")
        frame = pandas.DataFrame({"timestamp": TIMES * 2, "value": VALUES * 2, "host": ["a"] * ROWS + ["b"] * ROWS})
        frame.loc[len(frame)] = [TIMES[0], 1.0, "a"]
        frame.loc[len(frame)] = [TIMES[0], 1.0, "short"]
        frame.loc[5, "value"] = None
        with warnings.catch_warnings(record=True, action="always") as told:
            found = htmengine.score(frame, by="host")
        self.assertEqual(
            [str(each.message) for each in told],
            ["rows without scores: 1 series_too_short, 1 timestamp_duplicate, 1 value_not_finite"],
        )
        self.assertEqual(found["anomaly_score"].tolist()[ROWS : 2 * ROWS], LEARNT)
        self.assertEqual(np.flatnonzero(np.isnan(found["anomaly_score"])).tolist(), [5, 2 * ROWS, 2 * ROWS + 1])

    def test_gaps_are_filled_as_an_engine_fills_them(self) -> None:
        polars = needed("polars")
        needed("narwhals")
        times, values = TIMES[:300] + TIMES[302:], VALUES[:300] + VALUES[302:]
        found = htmengine.score(polars.DataFrame({"timestamp": times, "value": values}), fill_gaps="hold 2", **RANGE)
        held = [*VALUES[:300], VALUES[299], VALUES[299], *VALUES[302:]]
        scores = expected(ModelParams.for_range(0.0, 100.0), TIMES, held)
        self.assertEqual(found["anomaly_score"].to_list(), scores[:300] + scores[302:])

    def test_what_is_wrong_with_a_frame_is_named(self) -> None:
        polars = needed("polars")
        needed("narwhals")
        frame = polars.DataFrame({"timestamp": TIMES[:20], "value": VALUES[:20], "name": ["x"] * 20})
        with self.assertRaises(TooFewRows):
            htmengine.score(frame.head(11))
        with self.assertRaisesRegex(HtmEngineError, "no column 'load'; there are 'timestamp', 'value', 'name'"):
            htmengine.score(frame, value="load")
        with self.assertRaisesRegex(HtmEngineError, "column 'name' holds String; numbers"):
            htmengine.score(frame, value="name")
        with self.assertRaisesRegex(HtmEngineError, "go together"):
            htmengine.score(frame, minimum=1.0)
        for other in (frame.lazy(), frame["value"], [1.0], None):
            with self.assertRaisesRegex(HtmEngineError, "is no frame with rows"):
                htmengine.score(other)

    def test_a_time_in_the_index_is_named(self) -> None:
        pandas = needed("pandas")
        needed("narwhals")
        frame = pandas.DataFrame({"value": VALUES}, index=pandas.to_datetime(TIMES, unit="s"))
        with self.assertRaisesRegex(HtmEngineError, r"no column 'timestamp'; there are 'value'; .* by reset_index\(\)"):
            htmengine.score(frame)


class StreamingTest(TestCase):
    @settings(max_examples=3, deadline=None)
    @given(st.sampled_from([RANGE, {}]), st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
    def test_row_by_row_the_scores_are_the_engine_s_whether_rows_are_scored_first_or_only_learnt(
        self, known: dict[str, float], scored: list[bool]
    ) -> None:
        scorer, found = htmengine.AnomalyScorer(**known), []
        for at, value, scores in zip(TIMES, VALUES, scored, strict=True):
            row = {"timestamp": at, "value": value}
            found.append(scorer.score_one(row) if scores else None)
            scorer.learn_one(row)
        engine = KNOWN if known else LEARNT
        self.assertEqual(found, [score if each else None for each, score in zip(scored, engine, strict=True)])

    def test_one_that_was_pickled_goes_on_exactly(self) -> None:
        for known in ({}, RANGE):
            scorer, found = htmengine.AnomalyScorer(**known), []
            for place, (at, value) in enumerate(zip(TIMES, VALUES, strict=True)):
                if place % 100 == 50:
                    scorer = pickle.loads(pickle.dumps(scorer))  # noqa: S301  (our own)
                found.append(scorer.score_one({"timestamp": at, "value": value}))
            self.assertEqual(found, KNOWN if known else LEARNT)

    def test_a_great_score_has_its_reasons_and_a_usual_one_has_none(self) -> None:
        scorer = htmengine.AnomalyScorer(minimum=0.0, maximum=100.0, timestamp="at", value="load")
        whys = []
        for at, value in zip(TIMES, VALUES, strict=True):
            scorer.score_one({"at": datetime.fromtimestamp(at, UTC).replace(tzinfo=None), "load": value})
            whys.append(scorer.why)
        self.assertIsNone(whys[-2])
        assert whys[-1] is not None
        self.assertEqual(whys[-1].direction, "up")

    def test_a_row_that_an_engine_would_reject_changes_nothing(self) -> None:
        scorer = htmengine.AnomalyScorer(minimum=0.0, maximum=100.0)
        found = []
        for at, value in zip(TIMES, VALUES, strict=True):
            found.append(scorer.score_one({"timestamp": at, "value": value}))
            for reason, wrong in {
                "timestamp_duplicate": {"timestamp": at, "value": value + 1},
                "timestamp_old": {"timestamp": at - 1, "value": value},
                "value_not_finite": {"timestamp": at + 1, "value": float("nan")},
                "value_not_a_number": {"timestamp": at + 1, "value": None},
                "timestamp_not_a_number": {"timestamp": "tomorrow", "value": value},
                "timestamp_out_of_range": {"timestamp": -1, "value": value},
                "field_count": {"timestamp": at + 1},
            }.items():
                with self.assertRaises(InvalidSample) as refused:
                    scorer.learn_one(wrong)
                self.assertEqual(refused.exception.reason, reason)
        self.assertEqual(found, KNOWN)

    def test_a_range_that_no_model_has_is_refused_at_once(self) -> None:
        for wrong in ({"minimum": 5.0, "maximum": 1.0}, {"minimum": 0.0, "maximum": float("nan")}, {"minimum": 0.0}):
            with self.subTest(wrong), self.assertRaises(HtmEngineError):
                htmengine.AnomalyScorer(**wrong)


class ImportTest(TestCase):
    def test_the_package_imports_nothing_until_it_is_used(self) -> None:
        code = "import sys, htmengine; print([name for name in ('numpy', 'msgspec') if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        self.assertEqual(done.stdout, "[]\n")
        with self.assertRaisesRegex(AttributeError, "no attribute 'scores'"):
            _ = htmengine.scores
        self.assertEqual(sorted(htmengine.__all__), ["AnomalyScorer", "score"])


class ExampleTest(TestCase):
    def test_the_examples_of_the_page_run(self) -> None:
        needed("pandas")
        needed("narwhals")
        page = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
        blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
        self.assertGreater(len(blocks), 1)
        here: dict[str, object] = {}
        for block in blocks:
            exec(compile(block, "docs/python.md", "exec"), here)  # noqa: S102
        self.assertEqual(here["alarms"], 1)
