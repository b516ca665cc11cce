# SPDX-License-Identifier: MIT
"""What measures this machine, ``htmengine benchmark swap`` and ``capacity``, and ``nab`` in many processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from htmengine.nab.runner import LabelledSeries, Setup, run_all, scored


def measured(*command: str) -> str:
    """What a command prints; its folder is the last argument."""
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "htmengine.cli.main", *command, folder]
        done = subprocess.run(program, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class BenchmarkSwapTest(SynchronousTestCase):
    def run_it(self, *options: str) -> str:
        return measured("benchmark", "swap", *options, "--folder")

    def test_json_has_every_figure_of_each_run(self) -> None:
        printed = self.run_it("--models", "6", "--models", "30", "--rows", "3", "--memory-mb", "2", "--json")
        small, large = map(json.loads, printed.splitlines())
        self.assertEqual((small["models"], large["models"], large["rows"]), (6, 30, 3))
        for key in (
            "rows_per_s",
            "swaps_per_s",
            "rss_bytes",
            "p99_ms",
            "cpu_ms_per_row",
            "checkpoint_bytes",
            "disk_files_per_s",
        ):
            self.assertGreater(large[key], 0, key)
        self.assertGreaterEqual(large["p99_ms"], large["p50_ms"])
        self.assertEqual(large["bytes_written"] > 0, large["writes_per_s"] > 0)

    def test_it_ends_after_the_time_that_it_is_given(self) -> None:
        printed = self.run_it("--models", "6", "--rows", "100000", "--seconds", "0.5", "--json")
        self.assertGreater(json.loads(printed)["rows_per_s"], 0)

    def test_a_table_has_a_column_for_each_run(self) -> None:
        printed = self.run_it("--models", "6", "--rows", "2", "--workers", "1", "--rows-per-s", "1000")
        self.assertRegex(printed, r"models +6\nrows/s +\d+\n")


class CapacityTest(SynchronousTestCase):
    def test_json_has_the_costs_and_a_line_for_each_cadence(self) -> None:
        report = json.loads(measured("capacity", "--seconds", "3", "--json", "--data-dir"))
        self.assertEqual([each["cadence_s"] for each in report["cadences"]], [10, 60, 300, 900])
        self.assertTrue(all(each["metrics"] > 0 and each["bound"] for each in report["cadences"]))
        for part in ("model", "row"):
            self.assertTrue(all(cost > 0 for cost in report[part].values()), report[part])


class NabTest(SynchronousTestCase):
    def test_processes_change_nothing(self) -> None:
        rows = np.arange(300)
        series = [LabelledSeries(f"waves/{period}.csv", 300 * rows, np.sin(rows / period), ()) for period in (5, 9)]
        alone, together = (
            [one.scores.tolist() for one in scored(series, run_all(series, [Setup()], jobs))] for jobs in (1, 2)
        )
        self.assertEqual(alone, together)
