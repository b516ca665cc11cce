# SPDX-License-Identifier: MIT
"""``htmengine nab``: folders of labelled series, and what the command reports."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from htmengine.cli.nab import nab
from htmengine.errors import BadSeries
from htmengine.evidence.kinds import FUSED, NAMES
from htmengine.evidence.likelihood import AnomalyLikelihood
from htmengine.nab.runner import Setup, likelihood_scores, load_folder, run_series

_SPIKE = 310
_ROWS = 400


class NabTestCase(SynchronousTestCase):
    """A folder of two series: a wave with one spike that is labelled, and a quiet one."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        wave = [10 * math.sin(row / 5) for row in range(_ROWS)]
        self.write("real/spike.csv", [*wave[:_SPIKE], 100.0, *wave[_SPIKE + 1 :]])
        self.write("quiet/wave.csv", wave)
        self.windows = self.folder / "windows.json"
        self.windows.write_text(
            json.dumps({"real/spike.csv": [[_time(_SPIKE), _time(_SPIKE + 9)]], "quiet/wave.csv": [], "other.csv": []})
        )

    def write(self, name: str, values: list[float]) -> None:
        path = self.folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("timestamp,value\n" + "".join(f"{_time(row)},{value}\n" for row, value in enumerate(values)))


def _time(row: int) -> str:
    return f"2014-04-{1 + row // 288:02} {row % 288 // 12:02}:{row % 12 * 5:02}:00"


class LoadTest(NabTestCase):
    def test_series_come_by_name_with_windows_as_rows(self) -> None:
        quiet, spike = load_folder(self.folder, self.windows)
        self.assertEqual((quiet.name, quiet.category, quiet.windows), ("quiet/wave.csv", "quiet", ()))
        self.assertEqual((spike.name, spike.windows), ("real/spike.csv", ((_SPIKE, _SPIKE + 9),)))
        self.assertEqual(spike.timestamps[:2].tolist(), [1396310400, 1396310700])

    def test_repeated_and_earlier_timestamps_keep_their_rows(self) -> None:
        path = self.folder / "data" / "real" / "spike.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:3], lines[1], lines[1], *lines[3:]]) + "\n")
        spike = load_folder(self.folder, self.windows)[1]
        self.assertEqual(len(spike.values), _ROWS + 2)
        self.assertEqual(spike.windows, ((_SPIKE + 2, _SPIKE + 11),))

    def test_what_cannot_be_read_is_refused_by_file(self) -> None:
        for name, text, message in (
            ("data/real/spike.csv", "time,value\n1,2\n", "spike.csv: .*timestamp"),
            ("data/real/spike.csv", "timestamp,value\n2014-04-01 00:00:00,x\n", "spike.csv: .*'x'"),
            (
                "data/real/spike.csv",
                "timestamp,value\n2014-04-01 00:00:00,1\n",
                "spike.csv: .*no row in the window",
            ),
            ("data/real/more.csv", "timestamp,value\n", "windows.json: no entry for real/more.csv"),
            ("windows.json", "[", "windows.json"),
        ):
            self.setUp()
            (self.folder / name).write_text(text)
            with self.subTest(text=text), self.assertRaisesRegex(BadSeries, message):
                load_folder(self.folder, self.windows)

    def test_an_empty_folder_is_refused(self) -> None:
        (self.folder / "empty").mkdir()
        with self.assertRaisesRegex(BadSeries, "empty"):
            load_folder(self.folder / "empty", self.windows)


@pytest.mark.long
class RunTest(NabTestCase):
    def test_every_row_is_scored_and_the_same_seed_gives_the_same_scores(self) -> None:
        spike = load_folder(self.folder, self.windows)[1]
        one, two, other = (run_series(spike, Setup(seed=seed)) for seed in (0, 0, 1))
        self.assertEqual((one.name, one.seed, len(one.raw), len(one.scores)), (spike.name, 0, _ROWS, _ROWS))
        self.assertEqual(one.scores.tolist(), two.scores.tolist())
        self.assertNotEqual(one.raw.tolist(), other.raw.tolist())

    def test_no_row_looks_ahead(self) -> None:
        quiet, spike = load_folder(self.folder, self.windows)
        setup = Setup(range_rows=_SPIKE)  # so that both models are told the same range
        before = [run_series(series, setup).scores[:_SPIKE].tolist() for series in (quiet, spike)]
        self.assertEqual(*before)

    def test_saving_and_restoring_on_the_way_changes_no_score(self) -> None:
        spike = load_folder(self.folder, self.windows)[1]
        straight = run_series(spike, Setup())
        for rows in (7, 299):
            saved = run_series(spike, Setup(restore_every=rows))
            self.assertEqual(
                (saved.raw.tolist(), saved.scores.tolist()), (straight.raw.tolist(), straight.scores.tolist())
            )

    def test_inference_goes_back_on_request_and_where_the_range_is_not_known(self) -> None:
        setups = Setup(), Setup(backtracking=True), Setup(range_rows=10)
        values = np.arange(20.0)
        self.assertEqual([setup.params_for(values).temporal.max_inference for setup in setups], [0, 10, 10])

    def test_the_spike_has_the_greatest_score(self) -> None:
        spike = load_folder(self.folder, self.windows)[1]
        scores = run_series(spike, Setup()).scores
        self.assertGreater(scores[_SPIKE], 2.6)
        self.assertLess(scores[:_SPIKE].max(), scores[_SPIKE])

    def test_kinds_that_are_left_out_do_not_count(self) -> None:
        spike = load_folder(self.folder, self.windows)[1]
        alone = run_series(spike, Setup(without=tuple(set(NAMES[:FUSED]) - {"level 1"}))).scores
        self.assertEqual((alone[_SPIKE] > 6.0, alone[_SPIKE - 1] < 3.0), (True, True))
        self.assertLess(run_series(spike, Setup(sequence_only=True)).scores.max(), 1.0)

    def test_likelihood_scores_are_on_the_log_scale(self) -> None:
        scores = likelihood_scores(AnomalyLikelihood(min_sample=2), [0.0, 10.0, 100.0, 5.0], [0.0] * 4)
        np.testing.assert_allclose(scores, [0.0, 0.0, 1.0, 0.0301], atol=1e-4)


@pytest.mark.long
class CommandTest(NabTestCase):
    def _invoke(self, *options: str) -> Result:
        return CliRunner().invoke(nab, [str(self.folder), "--windows", str(self.windows), *options])

    def test_json(self) -> None:
        result = self._invoke("--json", "--seeds", "2")
        self.assertEqual(result.exit_code, 0, result.output)
        report = json.loads(result.stdout)
        for profile in ("standard", "reward_low_fp", "reward_low_fn"):
            self.assertAlmostEqual(report[profile], 100.0)
            self.assertEqual(report["spread"][profile]["min"], report[profile])
            self.assertGreater(report["thresholds"][profile], 0.5)
        self.assertEqual((report["files"], report["rows"], len(report["seeds"])), (2, 2 * _ROWS, 2))
        self.assertEqual(report["categories"]["real"]["found"], 1)
        self.assertIsNone(report["categories"]["quiet"]["standard"])
        self.assertEqual(report["categories"]["quiet"]["false_positives"], 0)
        self.assertGreater(report["rows_per_s"], 0)

    def test_alarms_at_a_fixed_threshold_are_told_beside(self) -> None:
        report = json.loads(self._invoke("--json").stdout)
        self.assertEqual(set(report["fixed"]), {"standard", "reward_low_fp", "reward_low_fn"})
        self.assertIsNone(json.loads(self._invoke("--json", "--evidence", "sequence").stdout)["fixed"])

    def test_every_rows_score_is_written_on_request(self) -> None:
        folder = Path(self.mktemp())
        self.assertEqual(self._invoke("--scores", str(folder), "--without", "level 1").exit_code, 0)
        spike = load_folder(self.folder, self.windows)[1]
        with (folder / spike.name).open() as file:
            rows = list(csv.DictReader(file))
        run = run_series(spike, Setup(without=("level 1",)))
        self.assertEqual([float(row["score"]) for row in rows], run.scores.tolist())
        self.assertEqual([float(row["raw_anomaly_score"]) for row in rows], run.raw.tolist())

    def test_text_has_a_line_for_each_category(self) -> None:
        result = self._invoke(
            "--evidence", "sequence", "--range-rows", "288", "--backtracking", "--restore-every", "100"
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertRegex(result.stdout, r"(?s)2 series, 800 rows, .*standard.*\nall .*\nquiet .*\nreal ")

    def test_errors_are_one_line(self) -> None:
        self.windows.write_text("{}")
        result = self._invoke()
        self.assertEqual(result.exit_code, 1)
        self.assertIn("no entry for quiet/wave.csv", result.output)
