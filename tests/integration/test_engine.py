# SPDX-License-Identifier: MIT
"""The embedded engine as users run it: a real process, real clients, real data."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from htmengine.csv_files import read_rows
from tests.support import processes
from tests.support.engine import Engine, lines, running_engine, wait_for

DATA = Path(__file__).parents[2] / "htmengine" / "data"
SERIES = DATA / "machine_temperature_system_failure.csv"
ROWS = 3000


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first rows of a real series, with the jumps back in time that it has later."""
    path = tmp_path_factory.mktemp("series") / "series.csv"
    lines = SERIES.read_text().splitlines()
    path.write_text("\n".join([*lines[: ROWS + 1], lines[ROWS - 5], lines[ROWS]]) + "\n")
    return path


@pytest.fixture(scope="module")
def expected(series: Path) -> list[tuple[float, float]]:
    """(raw anomaly score, anomaly score) of `htmengine score`."""
    output = htmengine("score", str(series)).stdout
    return [
        (float(row["raw_anomaly_score"]), float(row["anomaly_score"])) for row in csv.DictReader(output.splitlines())
    ]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with running_engine(tmp_path / "data", "--workers", "2", start=processes.start) as started:
        yield started


def htmengine(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "htmengine.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    return done


def lines_of(series: Path, metric: str) -> list[str]:
    return [f"{metric} {value!r} {timestamp!r}" for timestamp, value in read_rows(series)]


def assert_scored_as_expected(engine: Engine, metric: str, expected: list[tuple[float, float]]) -> None:
    scores = engine.wait_until_scored(metric, len(expected))
    assert [rowid for rowid, _, _ in scores] == list(range(1, len(expected) + 1))
    assert [(raw, anomaly) for _, raw, anomaly in scores] == expected


class TestScores:
    def test_a_series_sent_with_nc_gets_the_scores_of_htmengine_score_to_the_last_bit(
        self, engine: Engine, series: Path, expected: list[tuple[float, float]]
    ) -> None:
        text = "\n".join(lines_of(series, "nc.metric")) + "\n"
        command = ["nc", "-N", "127.0.0.1", str(engine.port)]
        subprocess.run(command, input=text, text=True, check=True, timeout=60)
        assert_scored_as_expected(engine, "nc.metric", expected)

    def test_rejects_are_counted_by_reason(self, engine: Engine, series: Path) -> None:
        engine.send([*lines_of(series, "m")[-12:], "m 1", "m nan 1400000000"])
        wait_for(lambda: sum(n for (n,) in engine.query("SELECT count FROM reject_count")) == 4, "the rejects")
        counted = dict(engine.query("SELECT reason, sum(count) FROM reject_count GROUP BY reason"))
        assert counted == {"timestamp_duplicate": 2, "field_count": 1, "value_not_finite": 1}

    def test_a_metric_is_scored_from_its_first_dozen_samples_on_and_its_scores_stay(
        self, engine: Engine, series: Path, expected: list[tuple[float, float]]
    ) -> None:
        lines = lines_of(series, "slow")
        engine.send(lines[:11])
        wait_for(lambda: engine.query("SELECT status, last_rowid FROM metric") == [(8, 11)], "11 rows")
        assert engine.scores("slow") == []
        engine.send(lines[11:12])
        engine.wait_until_scored("slow", 12)
        engine.send(lines[12:287])
        early = engine.wait_until_scored("slow", 287)
        assert engine.query("SELECT generation, scored FROM metric_score") == [(1, 287)]
        assert [anomaly for _, _, anomaly in early] == [anomaly for _, anomaly in expected[:287]]
        engine.send(lines[287:288])
        wait_for(lambda: engine.query("SELECT generation, scored FROM metric_score") == [(2, 288)], "the range")
        wait_for(lambda: engine.query("SELECT status FROM metric") == [(1,)], "ACTIVE")
        assert_scored_as_expected(engine, "slow", expected[:288])
        assert engine.query("SELECT count FROM ledger_total WHERE name = 'results'") == [(288,)]

    def test_the_first_spike_of_a_constant_starts_its_model_and_is_found(self, engine: Engine, tmp_path: Path) -> None:
        values = [0.0] * 700 + [500.0]
        rows = [(1_700_000_000 + 300 * number, value) for number, value in enumerate(values)]
        lines = [f"shop.payment.errors {value!r} {timestamp}" for timestamp, value in rows]
        engine.send(lines[:-1])
        state = "SELECT status, last_rowid, model_params FROM metric"
        wait_for(lambda: engine.query(state) == [(16, 700, None)], "CONSTANT")
        engine.send(lines[-1:])
        scores = engine.wait_until_scored("shop.payment.errors", 701)
        assert engine.query("SELECT rowid FROM anomaly WHERE anomaly_score >= 0.99999") == [(701,)]
        series = tmp_path / "series.csv"
        series.write_text("timestamp,value\n" + "".join(f"{timestamp},{value!r}\n" for timestamp, value in rows))
        offline = csv.DictReader(htmengine("score", str(series)).stdout.splitlines())
        assert [anomaly for _, _, anomaly in scores] == [float(row["anomaly_score"]) for row in offline]
        again = htmengine("backtest", "--since", "1700000000", "--jobs", "2", "--data-dir", str(engine.data_dir)).stdout
        assert "701 of 701 equal the stored ones to the bit" in again

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # graphyte leaves its socket open
    def test_graphyte_and_graphitesend_are_understood(self, engine: Engine) -> None:
        import graphitesend
        import graphyte

        sender = graphyte.Sender("127.0.0.1", port=engine.port)
        sender.send("from.graphyte", 1.5, timestamp=1_400_000_000)
        client = graphitesend.init(
            graphite_server="127.0.0.1", graphite_port=engine.port, system_name="", prefix="from"
        )
        client.send("graphitesend", 2.5, timestamp=1_400_000_060)
        client.disconnect()
        sender.stop()
        sql = "SELECT name, metric_value FROM metric JOIN metric_data USING (uid) ORDER BY name"
        wait_for(lambda: len(engine.query(sql)) == 2, "both samples")
        assert engine.query(sql) == [("from.graphitesend", 2.5), ("from.graphyte", 1.5)]


class TestCrashes:
    def test_file_descriptors_that_are_used_up_are_told_once_and_stop_nobody(self, tmp_path: Path) -> None:
        limited = ["bash", "-c", 'ulimit -n 64; exec "$0" -m htmengine.cli.main run "$@"', sys.executable]
        with running_engine(tmp_path / "data", "--workers", "1", command=limited) as engine:
            engine.send(lines(1, 300, metrics=1))
            with contextlib.ExitStack() as clients:
                for number in range(60):
                    client = clients.enter_context(socket.create_connection(("127.0.0.1", engine.port), timeout=10))
                    client.sendall(f"client.{number} 1 1700000060\n".encode())
                wait_for(lambda: "accepts no connections for now" in engine.log_path.read_text(), "the pause")
                for pid in engine.worker_pids():  # its successor needs descriptors, and so do the database's readers
                    os.kill(pid, signal.SIGKILL)
                assert len(engine.wait_until_scored("m0", 300)) == 300
            wait_for(lambda: "accepts connections again" in engine.log_path.read_text(), "the end of the pause")
            arrived = "SELECT count(*) FROM metric WHERE name LIKE 'client.%'"
            wait_for(lambda: engine.query(arrived)[0][0] == 60, "the lines of those who waited")
            engine.send(lines(301, 310, metrics=1))
            engine.wait_until_scored("m0", 310)
            log = engine.log_path.read_text()
            assert (log.count("accepts no connections"), log.count("accepts connections again")) == (1, 1)
            assert "EMFILE" not in log
            assert engine.stop() == 0

    def test_a_database_that_was_lost_beside_full_checkpoints_is_a_trouble_in_one_line(self, tmp_path: Path) -> None:
        with running_engine(tmp_path / "data", "--workers", "1") as engine:
            engine.environment["HTMENGINE__MODEL_CHECKPOINT__STORAGE__CHECKPOINT_ROWS"] = "100"
            engine.stop()
            engine.start()
            engine.send(lines(1, 300, metrics=2))
            checkpoints = lambda: sorted((engine.data_dir / "checkpoints").rglob("*.[01]"))  # noqa: E731
            wait_for(lambda: len(checkpoints()) >= 2, "checkpoints")
            engine.kill()
            kept = checkpoints()
            whole = shutil.copytree(engine.data_dir, tmp_path / "whole")
            for left_of_log in (random.Random(7).randbytes(100_000), b"", None):
                shutil.rmtree(engine.data_dir)
                shutil.copytree(whole, engine.data_dir)
                log = engine.data_dir / "htmengine.db-wal"
                log.unlink()
                if left_of_log is not None:
                    log.write_bytes(left_of_log)
                    (engine.data_dir / "htmengine.db-shm").unlink(missing_ok=True)
                seen = engine.log_path.stat().st_size
                engine.start()
                told = wait_for(
                    lambda: engine.query("SELECT message FROM trouble WHERE source = 'data'"), "the trouble"
                )
                assert "checkpoints of 2 models, and the database has none of their metrics" in told[0][0]
                assert told[0][0] in htmengine("troubles", "--data-dir", str(engine.data_dir), status=1).stdout
                assert engine.log_path.read_text()[seen:].count(told[0][0]) == 1
                assert checkpoints() == kept
                assert engine.stop() == 0
            engine.start()
            engine.send(lines(1, 300, metrics=2))  # new models score them
            engine.wait_until_scored("m1", 300)
            assert engine.stop() == 0

    def test_killing_engine_and_workers_in_the_middle_changes_no_score(
        self, tmp_path: Path, series: Path, expected: list[tuple[float, float]]
    ) -> None:
        """The client sends again what it is not sure of."""
        chance = random.Random(7)
        lines = lines_of(series, "m")
        with running_engine(tmp_path / "data", "--workers", "2") as engine:
            for _ in range(4):
                killer = threading.Timer(chance.uniform(0.05, 0.8), kill_something, (engine, chance))
                killer.start()
                for at in range(0, len(lines), 100):
                    try:
                        engine.send(lines[at : at + 100])
                    except OSError:
                        break
                killer.join()
                assert engine.process is not None
                if engine.process.poll() is not None:
                    engine.start()
            engine.send(lines)
            assert_scored_as_expected(engine, "m", expected)

    def test_stopping_in_the_middle_loses_nothing(
        self, tmp_path: Path, series: Path, expected: list[tuple[float, float]]
    ) -> None:
        with running_engine(tmp_path / "data") as engine:
            engine.send(lines_of(series, "m"))
            began = time.monotonic()
            assert engine.stop() in (0, -signal.SIGTERM)
            assert time.monotonic() - began < 15
            engine.start()
            assert_scored_as_expected(engine, "m", expected)
            workers = engine.worker_pids()
            for worker in workers:  # some supervisors tell all processes at once
                os.kill(worker, signal.SIGTERM)
            time.sleep(0.3)
            assert engine.worker_pids() == workers

    def test_no_worker_outlives_a_killed_engine(self, engine: Engine) -> None:
        pids = wait_for(lambda: len(engine.worker_pids()) == 2 and engine.worker_pids(), "the workers")
        engine.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the workers to end")


def kill_something(engine: Engine, chance: random.Random) -> None:
    """kill -9 of the engine, or of one of its workers."""
    if chance.random() < 0.5:
        engine.kill()
        return
    for pid in engine.worker_pids():
        os.kill(pid, signal.SIGKILL)


class TestStart:
    RUN = (sys.executable, "-m", "htmengine.cli.main", "run")
    TWISTD = (str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "htmengine")

    def refused(self, *options: str, command: tuple[str, ...] = RUN) -> str:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        output = done.stdout + done.stderr  # twistd has its log, with the line in it, on standard output
        [line] = [line for line in output.splitlines() if re.search("htmengine: |Error: ", line)]
        assert "Traceback" not in output
        return line

    def test_a_second_engine_on_the_same_folder_is_refused(self, engine: Engine) -> None:
        line = self.refused("--data-dir", str(engine.data_dir), "--graphite-port", "0", "--http-port", "0")
        assert "another engine is running" in line

    def test_a_taken_port_is_named(self, engine: Engine, tmp_path: Path) -> None:
        options = ("--data-dir", str(tmp_path / "other"), "--graphite-port", str(engine.port), "--http-port", "0")
        assert str(engine.port) in self.refused(*options)
        assert str(engine.port) in self.refused(*options, command=self.TWISTD)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "file" in self.refused("--data-dir", str(tmp_path / "file" / "data"), "--graphite-port", "0")

    def test_twistd_runs_the_engine(self, tmp_path: Path, series: Path) -> None:
        with running_engine(tmp_path / "data", command=self.TWISTD) as engine:
            engine.send(lines_of(series, "m")[:300])
            engine.wait_until_scored("m", 300)


class TestCommands:
    def test_monitor_results_unmonitor_delete(self, engine: Engine, series: Path) -> None:
        at = ("--data-dir", str(engine.data_dir))
        assert htmengine("monitor", "m", "--min", "0", "--max", "100", *at).stdout == "m: CREATE_PENDING\n"
        wait_for(lambda: "ACTIVE" in htmengine("metrics", *at).stdout, "ACTIVE")
        engine.send(lines_of(series, "m")[:10])
        engine.wait_until_scored("m", 10)
        rows = list(csv.DictReader(htmengine("results", "m", "--format", "csv", *at).stdout.splitlines()))
        assert rows[0]["timestamp"] == "2013-12-02 21:15:00"
        assert float(rows[0]["raw_anomaly_score"]) == 1.0
        assert len(rows) == 10
        assert htmengine("unmonitor", "m", *at).stdout == "m: UNMONITORED\n"
        assert htmengine("delete", "m", "--yes", *at).stdout == "m: deleted, 10 rows\n"
        assert htmengine("results", "m", *at, status=1).stderr == "Error: no metric named 'm'\n"

    def test_a_new_model_runs_all_stored_rows(self, engine: Engine, series: Path) -> None:
        at = ("--data-dir", str(engine.data_dir))
        engine.send(lines_of(series, "m")[:300])
        before = engine.wait_until_scored("m", 300)
        htmengine("monitor", "m", "--min", "0", "--max", "1000", *at)
        wait_for(lambda: engine.scores("m") != before and engine.scores("m")[-1][0] == 300, "new scores")

    def test_follow_prints_anomalies_as_they_come(self, engine: Engine) -> None:
        at = ("--data-dir", str(engine.data_dir))
        htmengine("monitor", "m", "--min", "0", "--max", "100", *at)
        command = [sys.executable, "-m", "htmengine.cli.main", "follow", *at, "--threshold", "0.99999", "--count", "1"]
        engine.send(f"m {50 + number % 3} {1_400_000_000 + 300 * number}" for number in range(400))
        with subprocess.Popen([*command, "--format", "csv"], stdout=subprocess.PIPE, text=True) as follower:
            number, value = 400, 1000.0
            while follower.poll() is None:  # it sees what comes once it follows: each value is beyond all before
                engine.send([f"m {value} {1_400_000_000 + 300 * number}"])
                number, value = number + 1, 2 * value
                time.sleep(0.2)
            assert follower.stdout is not None
            [_head, line] = follower.stdout.read().splitlines()
        _timestamp, name, value_text, score = line.split(",")
        assert (name, float(value_text) >= 1000, float(score) >= 0.99999) == ("m", True, True)

    @pytest.mark.parametrize(
        "words", [["follow", "--threshold", "0"], ["results", "m0", "--follow"], ["status", "--every", "2"]]
    )
    def test_what_runs_on_ends_at_ctrl_c_without_an_error(self, engine: Engine, words: list[str]) -> None:
        at = ("--data-dir", str(engine.data_dir))
        htmengine("monitor", "m0", "--min", "-5", "--max", "5", *at)
        command = [sys.executable, "-m", "htmengine.cli.main", *words, *at]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            row = 1
            while not select.select([running.stdout], [], [], 0.2)[0]:
                engine.send(lines(row, row, metrics=1))
                row += 1
            time.sleep(1)  # it waits for more
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=60)
        assert (running.returncode, errors.strip()) == (1, "Aborted!")

    def test_export_and_import_carry_metrics_to_another_engine(self, engine: Engine, tmp_path: Path) -> None:
        at = ("--data-dir", str(engine.data_dir))
        htmengine("monitor", "m", "--min", "0", "--max", "100", *at)
        htmengine("monitor", "n", "--min", "-1", "--max", "1", "--min-resolution", "0.5", "--classifier", *at)
        exported = tmp_path / "metrics.json"
        exported.write_text(htmengine("export", *at).stdout)
        other = ("--data-dir", str(tmp_path / "other"))
        assert htmengine("import", str(exported), *other).stdout == "m: CREATE_PENDING\nn: CREATE_PENDING\n"
        assert htmengine("export", *other).stdout == exported.read_text()
