# SPDX-License-Identifier: MIT
"""The command line without an engine: statuses, errors, help, scores of a file."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec, Rebuild
from htmengine.adapters.datasource.why import Told
from htmengine.alerts import queries as alert_queries
from htmengine.cli import metrics
from htmengine.cli.common import Engine
from htmengine.cli.load import load_sources, of_files
from htmengine.cli.main import main
from htmengine.cli.why import lines, why
from htmengine.csv_files import Columns
from htmengine.deployment import Deployment
from htmengine.errors import DatabaseFailed, HtmEngineError
from htmengine.evidence.scale import anomaly_score
from htmengine.evidence.scoring import detector_for, likelihood_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.messages import Reason, Why
from htmengine.offline.scores import YOUNG_SAMPLES
from htmengine.operations import Operations
from htmengine.process.extras import TLS
from htmengine.process.lifecycle import DataFolder
from htmengine.repository import connections, counts, migrations, queries, reading, troubles
from htmengine.repository import engine as repository_engine
from htmengine.repository.counts import MetricScore
from htmengine.repository.engine import Database
from htmengine.repository.queries import Metric, MetricStatus
from tests.support.extras import needed
from tests.support.notifications import FIRING
from tools.commands_page import commands

ROOT = Path(__file__).parents[2]


class CommandLineTestCase(SynchronousTestCase):
    def run_command(self, *words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    def write(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text)
        return path.resolve()


class WhyTest(SynchronousTestCase):
    def test_a_row_is_told_in_words(self) -> None:
        reasons = [Reason("level 36", 4.23, "the mean of 3 hours is the highest in 8 weeks")]
        told = Told(7, 1_400_000_000, 99.0, 0.99999, Why(4.1, "up", 12.0, 8.0, 16.0, reasons))
        self.assertEqual(
            list(lines(told)),
            [
                "2014-05-13 16:53:20  value 99, anomaly score 0.99999",
                "expected 12, mostly 8 to 16",
                "   4.2  the mean of 3 hours is the highest in 8 weeks (level 36)",
            ],
        )

    def test_a_time_that_is_none_is_refused_by_name(self) -> None:
        result = CliRunner().invoke(why, ["web.cpu", "yesterday"])
        self.assertEqual(result.exit_code, 2)
        self.assertIn("TIME: timestamp 'yesterday'; ISO 8601 or epoch seconds are allowed", result.output)

    def test_a_usual_row_of_which_nothing_was_expected(self) -> None:
        told = Told(1, 1_400_000_000, 99.0, 0.0, Why(0.0, None, None, None, None, []))
        self.assertEqual(list(lines(told))[1:], ["no kind of evidence finds it unusual"])


class HelpTest(CommandLineTestCase):
    def test_every_command_explains_itself_with_an_example_of_its_own(self) -> None:
        for words, command in commands():
            self.assertTrue(command.help, words)
            self.assertIn(" ".join(("htmengine", *words)), command.epilog or "", words)


@pytest.mark.long
class ListTest(SynchronousTestCase):
    """A process of its own: this one has imported everything."""

    LISTED = """
import sys
from htmengine.cli.main import main
main(sys.argv[1:], prog_name="htmengine", standalone_mode=False)
print([name for name in ("htmengine.cli.common", "twisted", "sqlalchemy", "numpy") if name in sys.modules])
"""

    def run_alone(self, *words: str, **environment: str) -> str:
        command = [sys.executable, "-c", self.LISTED, *words]
        environ = {**os.environ, **environment}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout

    def test_help_lists_all_commands_without_importing_them(self) -> None:
        *lines, imported = self.run_alone("--help").splitlines()
        listed = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if line]
        self.assertEqual((listed, imported), (sorted(main.commands), "[]"))

    def test_what_commands_share_imports_no_alembic(self) -> None:
        code = "import sys, htmengine.cli.common; print('sqlalchemy' in sys.modules, 'alembic' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        self.assertEqual(done.stdout, "True False\n")

    def test_a_shell_completes_names_of_commands_and_their_options(self) -> None:
        asked = {"COMP_CWORD": "1", "_HTMENGINE_COMPLETE": "bash_complete"}
        self.assertEqual(self.run_alone(COMP_WORDS="htmengine tok", **asked), "plain,token\n")
        asked["COMP_CWORD"] = "2"
        self.assertEqual(self.run_alone(COMP_WORDS="htmengine doctor --wit", **asked), "plain,--within\n")


def spiked_series() -> str:
    """Days of hours, and two that are far above them."""
    values = [30.0 + 20.0 * ((row % 24) // 6) + row % 5 for row in range(370)]
    values[345:347] = [400.0, 410.0]
    rows = (f"{1_700_000_000 + 3600 * row},{value}\n" for row, value in enumerate(values))
    return "timestamp,value\n" + "".join(rows)


class ScoreTest(CommandLineTestCase):
    def series(self, rows: int) -> str:
        return "timestamp,value\n" + "".join(f"{60 * row},{row % 7}.25\n" for row in range(1, rows + 1))

    def test_scores_are_those_of_model_and_evidence(self) -> None:
        detector = detector_for(ModelParams.for_range(0.0, 10.0))
        self.assert_scored(lambda time, value, raw: anomaly_score(detector.update(time, value, raw)))

    def test_scores_of_the_sequence_alone_are_those_of_the_likelihood(self) -> None:
        likelihood = likelihood_for(ModelParams.for_range(0.0, 10.0))
        self.assert_scored(lambda _time, value, raw: likelihood.score(value, raw), "--evidence", "sequence")

    def test_rows_that_fill_gaps_are_run_and_not_written(self) -> None:
        lines = self.series(120).splitlines()
        with_gap, held = [*lines[:50], *lines[52:]], [*lines[:50], "3000,0.25", "3060,0.25", *lines[52:]]
        options = ("--min", 0, "--max", 10)
        filled = self.run_command("score", self.write("\n".join(with_gap)), "--fill-gaps", "hold 2", *options)
        given = self.run_command("score", self.write("\n".join(held)), *options)
        found = given.stdout.splitlines()
        self.assertEqual(filled.stdout.splitlines(), [*found[:50], *found[52:]])
        refused = self.run_command("score", self.write("\n".join(with_gap)), "--fill-gaps", "cubic 2")
        self.assertEqual(refused.exit_code, 2)
        self.assertIn("hold ROWS, linear ROWS (1 to 100) and skip are allowed", refused.stderr)

    def assert_scored(self, expected: Callable[[int, float, float], float], *options: str) -> None:
        done = self.run_command("score", self.write(self.series(120)), "--min", 0, "--max", 10, *options)
        self.assertEqual(done.exit_code, 0, done.output)
        model = Model(ModelParams.for_range(0.0, 10.0))
        for row, line in enumerate(csv.DictReader(done.stdout.splitlines()), 1):
            value = row % 7 + 0.25
            raw = model.learn(60 * row, value)
            self.assertEqual(float(line["value"]), value)
            self.assertEqual(float(line["raw_anomaly_score"]), raw)
            self.assertEqual(float(line["anomaly_score"]), expected(60 * row, value, raw))

    def test_rows_that_an_engine_would_reject_are_left_out_and_counted(self) -> None:
        path = self.write(self.series(3) + "60,1\n180,1\n240,nan\n30000000000,1\n300,\n")
        done = self.run_command("score", path, "--min", 0, "--max", 10)
        self.assertEqual(len(done.stdout.splitlines()), 1 + 3)
        self.assertEqual(
            done.stderr.splitlines(),
            [
                "series: 1, rows: 3, alarms (scores of 0.99999 or more): 0, 0.0 a week",
                "a rule with 5 pages a week would send none: the first 14 days of a metric are learnt",
                "days with the highest scores:",
                "  0.343007  1970-01-01 00:01:00  1.25  " + path.stem,
                "left out: 1 rows without a value",
                "rejected: 2 timestamp_duplicate (several series, rows within a second, or a clock set back?)",
                "rejected: 1 timestamp_out_of_range (another column?)",
                "rejected: 1 value_not_finite",
            ],
        )

    def test_the_summary_tells_the_likely_cause_of_odd_times(self) -> None:
        text = "timestamp,value\n" + "".join(f"{1_700_000_000_000 + 60_000 * row},{row}\n" for row in range(3))
        done = self.run_command("score", self.write(text), "--min", 0, "--max", 10)
        self.assertEqual(done.stderr.splitlines()[-1], "3 timestamps taken as milliseconds")

    def test_the_summary_has_the_incidents_of_a_rule_with_their_reasons(self) -> None:
        done = self.run_command("score", self.write(spiked_series()), "--min", 0, "--max", 100)
        lines = done.stderr.splitlines()
        self.assertEqual(
            lines[1], "a rule with 5 pages a week would send 1 in 2.2 weeks, and list 0 more incidents", done.stderr
        )
        self.assertIn("2023-11-29 07:13:20  page", lines[2])
        self.assertIn("the highest in", lines[2])

    def test_the_readme_s_folder_of_files_becomes_scores_and_a_report(self) -> None:
        [line] = re.findall(r"^\$ htmengine (score .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
        folder = Path(self.mktemp())
        folder.mkdir()
        with contextlib.chdir(folder):
            for host in ("web1", "web2"):
                Path("metrics", host).mkdir(parents=True)
                Path("metrics", host, "load.csv").write_text(spiked_series())
            done = self.run_command(*line.split())
            scores, report = Path("scores.csv").read_text().splitlines(), Path("report.html").read_text()
        self.assertEqual((done.exit_code, len(scores)), (0, 1 + 2 * 370), done.stderr)
        self.assertIn(html.escape(done.stderr.strip()), report)
        self.assertIn("a rule with 5 pages a week would send 1 in 2.2 weeks", done.stderr)
        self.assertIn("page  7.0  web1.load and 1 more", done.stderr)
        headings = re.findall("<h2>(.*)</h2>", report)
        self.assertEqual(headings[0], "Page")
        self.assertEqual(len(re.findall("<svg", report)), len(headings))

    def test_rows_are_written_in_the_format_that_the_file_s_name_says(self) -> None:
        path, folder = self.write(self.series(3)), Path(self.mktemp()).absolute()
        folder.mkdir()
        scores = {}
        for name in ("scores.csv", "scores.jsonl"):
            done = self.run_command("score", path, "--min", 0, "--max", 10, "-o", folder / name)
            self.assertEqual((done.exit_code, done.stdout), (0, ""), done.stderr)
            scores[name] = (folder / name).read_text().splitlines()
        self.assertEqual(
            [float(row["anomaly_score"]) for row in csv.DictReader(scores["scores.csv"])],
            [json.loads(line)["anomaly_score"] for line in scores["scores.jsonl"]],
        )
        self.assertEqual(
            list(json.loads(scores["scores.jsonl"][0])), ["timestamp", "value", "raw_anomaly_score", "anomaly_score"]
        )

    def test_a_file_that_is_read_is_not_written(self) -> None:
        text = self.series(3)
        path = self.write(text)
        link = path.with_name(f"{path.name}.link")
        link.symlink_to(path)
        for options in (("-o", path), ("--html", link)):
            done = self.run_command("score", path, "--min", 0, "--max", 10, *options)
            self.assertEqual((done.exit_code, "name another one to write" in done.stderr), (1, True), done.stderr)
        self.assertEqual(path.read_text(), text)

    def test_a_device_or_a_pipe_keeps_its_place_and_is_written(self) -> None:
        """A file in its place would be the end of /dev/null, for root."""
        pipe = Path(self.mktemp()).absolute()
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        for written in ("-o", "--html"):
            done = self.run_command("score", self.write(self.series(3)), "--min", 0, "--max", 10, written, pipe)
            self.assertEqual((done.exit_code, pipe.is_fifo()), (0, True), done.stderr)
            self.assertTrue(os.read(reader, 1 << 16))

    def test_a_run_that_fails_leaves_the_output_as_it_was(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for number in range(2):
            (folder / f"bad{number}.csv").write_text("a,b\n1,2\n")
        output = folder / "scores.csv"
        for paths in ([folder / "bad0.csv"], [folder / "bad0.csv", folder / "bad1.csv"]):
            self.assertEqual(self.run_command("score", *paths, "-o", output).exit_code, 1)
            self.assertEqual(sorted(each.name for each in folder.iterdir()), ["bad0.csv", "bad1.csv"])
        output.write_text("earlier")
        self.assertEqual(self.run_command("score", folder / "bad0.csv", "-o", output).exit_code, 1)
        self.assertEqual(output.read_text(), "earlier")

    def test_parquet_has_exact_scores_and_times_with_their_zone(self) -> None:
        parquet = needed("pyarrow.parquet")
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for name in "ab":
            (folder / f"{name}.csv").write_text(self.series(3))
        with patch("htmengine.cli.score_output.ROWS_AT_ONCE", 4):
            done = self.run_command("score", folder, "--min", 0, "--max", 10, "-o", folder / "scores.parquet")
        self.assertEqual(done.exit_code, 0, done.stderr)
        rows = parquet.read_table(folder / "scores.parquet").to_pylist()
        self.assertEqual([(row["metric"], row["timestamp"].timestamp()) for row in rows][3:5], [("b", 60), ("b", 120)])
        plain = self.run_command("score", folder, "--min", 0, "--max", 10).stdout.splitlines()
        self.assertEqual(
            [row["anomaly_score"] for row in rows], [float(row["anomaly_score"]) for row in csv.DictReader(plain)]
        )

    def test_parquet_needs_a_file(self) -> None:
        path = self.write(self.series(3))
        done = self.run_command("score", path, "--format", "parquet")
        self.assertIn("Parquet needs -o FILE", done.stderr)

    def test_files_of_a_folder_are_scored_each_and_summed_up(self) -> None:
        folder = Path(self.mktemp()).absolute()
        (folder / "web1").mkdir(parents=True)
        for name, rows in (("web1/cpu.csv", 20), ("load.csv", 10)):
            (folder / name).write_text(self.series(rows))
        (folder / "bad.csv").write_text("a,b\n1,2\n")
        done = self.run_command("score", folder, "--min", 0, "--max", 10, "--format", "json")
        self.assertEqual(
            Counter(json.loads(line)["metric"] for line in done.stdout.splitlines()), {"load": 10, "web1.cpu": 20}
        )
        self.assertIn("series: 2, rows: 30, alarms", done.stderr)
        self.assertIn(
            "bad.csv, line 1: the header must have the columns timestamp and value; there are a, b", done.stderr
        )
        self.assertEqual((done.exit_code, "1 of 3 series cannot be scored" in done.stderr), (1, True))

    def test_a_file_that_is_too_short_to_tell_its_range_is_refused(self) -> None:
        done = self.run_command("score", self.write(self.series(11)))
        self.assertEqual(done.exit_code, 1)
        self.assertIn("11 rows; without a minimum and a maximum at least 12 are needed", done.stderr)
        self.assertEqual(YOUNG_SAMPLES, custom.YOUNG_SAMPLES)

    def test_a_file_of_a_young_metric_has_the_scores_that_a_longer_one_begins_with(self) -> None:
        scores = []
        for rows in (12, 287, 300):
            done = self.run_command("score", self.write(self.series(rows)))
            self.assertEqual(done.exit_code, 0, done.stderr)
            scores.append([row["anomaly_score"] for row in csv.DictReader(done.stdout.splitlines())])
        short, young, grown = scores
        self.assertEqual((short, young), (grown[:12], grown[:287]))

    def test_a_bad_row_is_left_out_and_named_by_its_line(self) -> None:
        done = self.run_command("score", self.write("timestamp,value\n60,1\n120,x\n"), "--min", 0, "--max", 1)
        self.assertEqual((done.exit_code, len(done.stdout.splitlines())), (0, 1 + 1))
        self.assertIn("left out: 1 rows that cannot be read; the first: ", done.stderr)
        self.assertIn("line 3: value 'x'", done.stderr)

    def test_a_file_without_a_row_that_can_be_read_is_one_line_with_its_number(self) -> None:
        done = self.run_command("score", self.write("timestamp,value\n\n120,x\n"), "--min", 0, "--max", 1)
        self.assertEqual(done.exit_code, 1)
        self.assertIn("line 3", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_a_folder_that_is_not_there_is_said_before_the_work(self) -> None:
        path = self.write(self.series(3))
        for option in ("-o", "--html"):
            done = self.run_command("score", path, "--min", 0, "--max", 10, option, "nowhere/file")
            self.assertEqual((done.exit_code, done.stdout), (2, ""))
            self.assertIn("there is no folder nowhere", done.stderr)

    def test_local_times_are_of_a_time_zone(self) -> None:
        path = self.write("timestamp,value\n2026-07-01 02:00:00,1\n2026-07-01T00:05:00Z,1\n")
        done = self.run_command("score", path, "--min", 0, "--max", 1, "--timezone", "Europe/Berlin")
        self.assertEqual(
            [line[:19] for line in done.stdout.splitlines()[1:]], ["2026-07-01 00:00:00", "2026-07-01 00:05:00"]
        )
        done = self.run_command("score", path, "--timezone", "Mars")
        self.assertEqual((done.exit_code, "'Mars' is no time zone" in done.stderr), (2, True))

    def test_an_output_that_cannot_be_made_is_named_itself(self) -> None:
        done = self.run_command("score", self.write(self.series(20)), "--output", "/proc/scores.csv")
        self.assertEqual((done.exit_code, done.stderr), (1, "Error: /proc/scores.csv: No such file or directory\n"))

    def test_half_a_range_is_a_wrong_use(self) -> None:
        self.assertEqual(self.run_command("score", self.write(self.series(1)), "--min", 0).exit_code, 2)


class LoadTest(CommandLineTestCase):
    def test_a_bad_file_does_not_stop_the_others(self) -> None:
        good, bad = self.write("timestamp,value\n60,1\n"), self.write("a,b\n1,2\n")
        operations = Mock(spec=Operations, max_future_s=60.0)
        operations.load.return_value = 1
        operations.rebuild.side_effect = lambda name: Rebuild("uid", name, MetricStatus.PENDING_DATA, 1, 0)
        sources = of_files([good, bad, good], None, Columns())
        with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
            loading = Deferred.fromCoroutine(load_sources(operations, list(sources), monitor=True))
        self.assertIn("1 of 3 sources cannot be loaded", str(self.failureResultOf(loading, HtmEngineError).value))
        self.assertEqual([each.args[0] for each in operations.load.await_args_list], [good.stem] * 2)
        self.assertIn(f"{bad}: left out: {bad}, line 1: the header must have the columns", told.getvalue())

    def test_an_empty_folder_is_refused_before_anything_is_made(self) -> None:
        empty, data_dir = Path(self.mktemp()), Path(self.mktemp())
        empty.mkdir()
        done = self.run_command("load", empty, "--data-dir", data_dir)
        self.assertEqual((done.exit_code, data_dir.exists()), (1, False))
        self.assertIn("no files in this folder end in .csv, .csv.gz, .tsv, .tsv.gz", done.stderr)


@pytest.mark.long
class StatusTest(CommandLineTestCase):
    def setUp(self) -> None:
        self.data_dir = Path(self.mktemp()).resolve()

    def make(self) -> None:
        folder = DataFolder(self.data_dir)
        folder.make()
        migrations.upgrade(folder.database_url)

    def test_an_unknown_metric_is_one_line_and_status_1(self) -> None:
        self.make()
        done = self.run_command("results", "nobody", "--data-dir", self.data_dir)
        self.assertEqual((done.exit_code, "nobody" in done.stderr), (1, True))

    def test_an_argument_that_is_not_utf_8_is_one_line_and_status_1(self) -> None:
        self.make()
        latin = os.fsdecode("größe".encode("latin-1"))
        for command in (("results", latin), ("metrics", "--search", latin), ("ledger", latin), ("incidents", latin)):
            done = self.run_command(*command, "--data-dir", self.data_dir)
            self.assertEqual((done.exit_code, "gr\\xf6\\xdfe" in done.stderr), (1, True), command)

    def test_a_status_that_nobody_knows_is_an_error_of_its_metric_alone(self) -> None:
        self.make()
        with Engine(Deployment.embedded(None, self.data_dir)).database() as database:
            statuses = {"odd": MetricStatus.ACTIVE, "failed": MetricStatus.ERROR, "fine": MetricStatus.UNMONITORED}
            made = [Metric(name, "custom", name, None, None, None, None, statuses[name]) for name in statuses]
            database.run_sync(queries.create_metrics, made)
            database.run_sync(lambda conn: conn.exec_driver_sql("UPDATE metric SET status = 3 WHERE uid = 'odd'"))
            self.assertEqual(database.run_sync(counts.metrics_by_status), {"ERROR": 2, "UNMONITORED": 1})
            self.assertEqual(database.run_sync(reading.status_counts)[MetricStatus.ERROR], 2)
        done = self.run_command("metrics", "--format", "csv", "--data-dir", self.data_dir)
        shown = {row["name"]: row for row in csv.DictReader(done.stdout.splitlines())}
        self.assertEqual([shown[name]["status"] for name in statuses], ["ERROR", "ERROR", "UNMONITORED"])
        self.assertEqual(shown["odd"]["message"], "metric.status is 3; known are 0, 1, 2, 4, 8, 16, 32")

    def write_for_a_while(self, folder: DataFolder) -> None:
        """Hold the database's lock for longer than a command waits."""
        for module in (connections, repository_engine):
            self.patch(module, "COMMAND_TIMEOUT_S", 0.05)
        writer = sqlite3.connect(folder.database_path, isolation_level=None, check_same_thread=False)
        self.addCleanup(writer.close)
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("BEGIN IMMEDIATE")
        end = threading.Timer(0.4, writer.rollback)
        self.addCleanup(end.join)
        end.start()

    def test_the_lock_of_an_engine_that_runs_is_waited_for(self) -> None:
        self.make()
        folder = DataFolder(self.data_dir)
        folder.acquire()
        self.addCleanup(folder.release)
        self.write_for_a_while(folder)
        with Engine(Deployment.embedded(None, self.data_dir)).make().database() as database:
            self.assertEqual(database.run_sync(queries.list_metrics), [])

    def test_the_lock_of_another_program_is_said(self) -> None:
        self.make()
        self.write_for_a_while(DataFolder(self.data_dir))
        with Engine(Deployment.embedded(None, self.data_dir)).database() as database:
            self.assertRaises(DatabaseFailed, database.run_sync, queries.list_metrics)

    def test_an_empty_engine_has_no_metrics(self) -> None:
        self.make()
        done = self.run_command("metrics", "--format", "csv", "--data-dir", self.data_dir)
        self.assertEqual((done.exit_code, len(done.stdout.splitlines())), (0, 1))

    def test_metrics_come_page_by_page_as_searched_selected_and_sorted(self) -> None:
        self.make()
        database = Database(DataFolder(self.data_dir).database_url)
        self.addCleanup(database.close)
        names = ["web.a", "web.b", "web.c", "db.a", "web.d", "web.e"]
        for place, name in enumerate(names):
            metric, _ = database.run_sync(custom.monitor_metric, ModelSpec.for_name(name, min=0, max=10), 288)
            database.run_sync(queries.insert_samples, [(metric.uid, n, 60 * n, float(place)) for n in (1, 2)])
            database.run_sync(queries.update_tails, [(metric.uid, 2, 120)])
            newest = MetricScore(metric.uid, 1, 2 - place % 2, 1, 120, float(place), 0.0, place / 10, interval_s=60.0)
            database.run_sync(counts.save_scores, [newest] if place < 5 else [])
        self.patch(metrics, "PAGE", 2)

        def shown(*words: object) -> list[list[str]]:
            done = self.run_command("metrics", *words, "--format", "csv", "--data-dir", self.data_dir)
            return [[line.split(",")[at] for at in (0, 4, 5)] for line in done.stdout.splitlines()[1:]]

        self.assertEqual([name for name, _, _ in shown()], sorted(names))
        done = self.run_command("metrics", "web.a", "--format", "csv", "--data-dir", self.data_dir)
        self.assertIn(",60 s,", done.stdout)
        self.assertEqual(
            shown("--sort", "score", "--limit", 3),
            [
                ["web.d", "4.0", "0.4"],
                ["db.a", "3.0", ""],
                ["web.c", "2.0", "0.2"],
            ],
        )
        by_score = [name for name, _, _ in shown("--sort", "score", "--search", "web", "!web.c")]
        self.assertEqual(by_score, ["web.d", "web.b", "web.a", "web.e"])
        self.assertEqual(shown("--limit", 1, "web.*"), [["web.a", "0.0", "0.0"]])

    def test_db_upgrade_and_reset_leave_an_empty_database(self) -> None:
        self.assertEqual(self.run_command("db", "upgrade", "--data-dir", self.data_dir).exit_code, 0)
        self.assertEqual(self.run_command("db", "reset", "--data-dir", self.data_dir).exit_code, 1)  # not confirmed
        self.assertEqual(self.run_command("db", "reset", "--yes", "--data-dir", self.data_dir).exit_code, 0)

    def test_gc_says_how_many_rows_it_removed(self) -> None:
        self.make()
        done = self.run_command("gc", "--threshold-days", 1, "--data-dir", self.data_dir)
        self.assertEqual((done.exit_code, done.stdout), (0, "0 rows removed\n"))

    def test_an_engine_that_runs_and_hangs_is_told_of_with_status_1(self) -> None:
        self.make()
        folder = DataFolder(self.data_dir)
        folder.acquire()
        self.addCleanup(folder.release)
        folder.give_sign(2003)
        done = self.run_command("troubles", "--data-dir", self.data_dir)
        self.assertEqual((done.exit_code, done.stdout), (0, "no troubles\n"))
        os.utime(self.data_dir / "lock", (1_700_000_000, 1_700_000_000))
        done = self.run_command("troubles", "--data-dir", self.data_dir)
        silence = f"the engine (pid {os.getpid()}) has given no sign of life since 2023-11-14 22:13:20"
        self.assertEqual((done.exit_code, silence in done.stdout), (1, True), done.stdout)
        self.assertNotIn("no troubles", done.stdout)

    def test_replay_to_no_engine_names_the_place(self) -> None:
        done = self.run_command("replay", self.write("timestamp,value\n60,1\n"), "--metric", "m", "--port", 1)
        self.assertEqual((done.exit_code, "127.0.0.1:1" in done.stderr), (1, True))

    def test_check_config_lists_all_that_is_wrong_at_once(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "application.conf").write_text("[metric_listener]\nport = many\nhots = x\n")
        (folder / "rabbitmq.conf").write_text("[connection]\nport = -1\n")
        done = self.run_command("check-config", "--config", folder)
        self.assertEqual(done.exit_code, 1)
        for part in ("application.conf [metric_listener] port = 'many'", "perhaps host", "rabbitmq.conf [connection]"):
            self.assertIn(part, done.stderr)

    def test_check_config_reads_the_tokens(self) -> None:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        (folder / "application.conf").write_text(f"[web]\ntokens_file = {folder}/tokens\n")
        for text, problem in ((None, "No such file"), ("ada admin sha256:1\n", "tokens, line 1: NAME ROLE sha256")):
            if text is not None:
                (folder / "tokens").write_text(text)
            done = self.run_command("check-config", "--config", folder)
            self.assertEqual((done.exit_code, problem in done.stderr), (1, True), done.stderr)

    def test_check_config_names_the_drivers_that_are_missing(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "application.conf").write_text(
            "[repository]\nurl = postgresql://x@db/y\n[web]\ntls_certificate = a\n"
        )
        (folder / "rabbitmq.conf").write_text("")
        with patch.dict(sys.modules, {"psycopg": None, "pika": None, TLS: None}):
            done = self.run_command("check-config", "--config", folder)
        brings = [line.partition(" is not installed; pip install ")[::2] for line in done.stderr.splitlines()]
        self.assertEqual(
            (done.exit_code, brings),
            (
                1,
                [
                    (f"[web] tls_certificate: {TLS}", "'htmengine[tls]' brings it"),
                    ("[repository] url: postgresql: psycopg", "'htmengine[postgresql]' brings it"),
                    ("rabbitmq.conf [connection]: pika", "'htmengine[amqp]' brings it"),
                ],
            ),
        )

    def test_check_config_says_that_an_embedded_engine_uses_no_server(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "application.conf").write_text("[repository]\nurl = postgresql://x:secret@db/y\n")
        done = self.run_command("check-config", "--config", folder)
        self.assertEqual((done.exit_code, "secret" in done.stderr), (0, False))
        self.assertIn("[repository] url: without effect on an embedded engine", done.stderr)

    def test_check_config_reads_the_rules_of_admission(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        rules = "rules = drop\n  keep web.*\n  rename a to\n"
        (folder / "application.conf").write_text(f"[admission]\n{rules}counters = web.*, {{a}}\n")
        done = self.run_command("check-config", "--config", folder)
        problems = [line.partition(";")[0] for line in done.stderr.splitlines()]
        self.assertEqual(done.exit_code, 1)
        self.assertEqual(
            problems,
            ["[admission] counters: 'a'", "[admission] rules: rule 'drop'", "[admission] rules: rule 'rename a to'"],
        )

    def test_lines_of_a_sample_that_cannot_be_read_are_told_and_stay_nowhere(self) -> None:
        sample = self.write("a 1 60\na 2 120\nb\nc 1\nd 1 60 7\ne x 60\nf;g 1 60\n\n")
        done = self.run_command("admission", "--data-dir", self.mktemp(), "--sample", sample)
        counted, *unread = done.stdout.splitlines()
        self.assertEqual(counted, "2 stay, 0 renamed, 0 kept out")
        told = [line.partition(", the first: ")[0] for line in unread]
        self.assertEqual(told, ["2 not read: field_count", "1 not read: value_not_a_number", "1 not read: tag_form"])

    def test_a_rule_that_cannot_be_read_is_told_with_its_option_or_file(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        for option, bad in (
            ("rules", "drop"),
            ("counters", "{a}"),
            ("counters", '{a=~"("}'),
            ("counters", "a.[c"),
            ("counters", "!!a.c"),
            ("allow", "a.[c"),
            ("deny", "!a"),
        ):
            (folder / "application.conf").write_text(f"[admission]\n{option} = {bad}\n")
            done = self.run_command("admission", "--config", folder, "--sample", self.write("a 1 60\n"))
            self.assertEqual((done.exit_code, f"[admission] {option}" in done.stderr), (1, True), done.stderr)
            self.assertNotIn("b'", done.stderr)
        (folder / "application.conf").write_text("")
        rules = self.write("drop\n")
        done = self.run_command("admission", "--config", folder, "--rules", rules)
        self.assertIn(f"{rules}: rule 'drop'", done.stderr)


@pytest.mark.long
class TerminalTest(CommandLineTestCase):
    """What HTM Engine or another program wrote into the database may hold anything."""

    def test_no_text_from_the_database_reaches_the_terminal_as_a_command(self) -> None:
        folder = DataFolder(Path(self.mktemp()))
        folder.make()
        migrations.upgrade(folder.database_url)
        database = Database(folder.database_url)
        self.addCleanup(database.close)
        evil = "a\x1b]0;title\x07\x1b[31m\nb"
        metric = Metric("u" * 32, "custom", evil, None, None, None, "{}", MetricStatus.UNMONITORED)
        database.run_sync(queries.create_metrics, [metric])
        database.run_sync(troubles.replace, evil, [evil], 0)
        database.run_sync(alert_queries.add_alert, replace(FIRING, metric=evil))
        for words in (["metrics"], ["troubles"], ["alert", "list"]):
            arguments = [*words, "--data-dir", str(folder.path)]
            shown = CliRunner().invoke(main, arguments, color=True).output
            self.assertIn("a?]0;title??[31m?b", shown)
            self.assertEqual([sign for sign in shown if not sign.isprintable() and sign != "\n"], [])
