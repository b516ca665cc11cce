# SPDX-License-Identifier: MIT
"""``htmengine benchmark model``: its figures, and a peer in another interpreter."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from htmengine.cli.benchmark import benchmark


class BenchmarkModelTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(sys.modules["htmengine.cli.benchmark"], "_RUNS", 1)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.data = self.folder / "metric.csv"
        rows = [f"2014-04-01 {row // 60:02}:{row % 60:02}:00,{row % 7}" for row in range(1200)]
        self.data.write_text("\n".join(["timestamp,value", *rows]) + "\n")

    def _invoke(self, *options: str) -> Result:
        return CliRunner().invoke(benchmark, ["model", "--data", str(self.data), *options])

    def _interpreter(self, program: str) -> str:
        """A stand-in for NuPIC's interpreter: it runs ``program`` whatever script it is given."""
        path = self.folder / "python2"
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(program)} "$@"\n')
        path.chmod(0o755)
        return str(path)

    def test_json_has_every_figure_at_every_point(self) -> None:
        result = self._invoke("--json")
        self.assertEqual(result.exit_code, 0, result.output)
        report = json.loads(result.stdout)
        for key in (
            "rows_per_s",
            "memory_bytes",
            "checkpoint_bytes",
            "save_ms",
            "restore_ms",
            "segments",
            "synapses",
        ):
            self.assertEqual(list(report[key]), ["1000", "all"])
            self.assertTrue(all(figure > 0 for figure in report[key].values()), key)
        self.assertEqual((report["rows"], report["nupic"], report["ratio"]), (1200, None, None))

    def test_nupic_runs_on_the_same_rows_with_the_same_range(self) -> None:
        program = (
            "import json, sys\n"
            "script, (dash, path, low, high, points) = sys.stdin.read(), sys.argv[1:]\n"
            "assert 'ModelFactory' in script and dash == '-' and open(path).read().startswith('timestamp,value')\n"
            "assert (float(low), float(high)) == (-1.2000000000000002, 7.2), (low, high)\n"
            "print(json.dumps({point: point / 200 for point in json.loads(points)}))\n"
        )
        result = self._invoke("--json", "--nupic-python", self._interpreter(program))
        self.assertEqual(result.exit_code, 0, result.output)
        report = json.loads(result.stdout)
        self.assertEqual(report["nupic"], {"1000": 200.0, "all": 200.0})
        self.assertAlmostEqual(report["ratio"], report["rows_per_s"]["all"] / 200)

    def test_an_interpreter_without_nupic_is_one_line(self) -> None:
        program = "import sys; sys.stdin.read(); sys.exit('No module named nupic')"
        result = self._invoke("--nupic-python", self._interpreter(program))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("could not run NuPIC: No module named nupic", result.output)

    def test_the_text_shows_the_ratio(self) -> None:
        program = "import sys, json; sys.stdin.read(); print(json.dumps({'1000': 5, '1200': 6}))"
        result = self._invoke("--nupic-python", self._interpreter(program))
        self.assertRegex(result.output, r"NuPIC, rows/s +200 +200\n\d+ times as fast")
