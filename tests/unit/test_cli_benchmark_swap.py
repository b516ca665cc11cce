# SPDX-License-Identifier: MIT
"""``htmengine benchmark swap``: real workers, few models."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from twisted.trial.unittest import SynchronousTestCase

_COMMAND = [sys.executable, "-m", "htmengine.cli.main", "benchmark", "swap"]


class BenchmarkSwapTest(SynchronousTestCase):
    def run_it(self, *options: str) -> subprocess.CompletedProcess[str]:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        command = [*_COMMAND, "--folder", folder.name, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    def test_json_has_every_figure_of_each_run(self) -> None:
        done = self.run_it("--models", "6", "--models", "30", "--rows", "3", "--memory-mb", "2", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        small, large = map(json.loads, done.stdout.splitlines())
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
        done = self.run_it("--models", "6", "--rows", "100000", "--seconds", "0.5", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(json.loads(done.stdout)["rows_per_s"], 0)

    def test_a_table_has_a_column_for_each_run(self) -> None:
        done = self.run_it("--models", "6", "--rows", "2", "--workers", "1", "--rows-per-s", "1000")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"models +6\nrows/s +\d+\n")
