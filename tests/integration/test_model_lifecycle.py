# SPDX-License-Identifier: MIT
"""Snapshot, revert, clone, export and import of models, by command, on a running engine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from htmengine.evidence import Detector
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.offline.scores import score_rows
from tests.support.engine import Engine, htmengine, running_engine, wait_for

PARAMS = ModelParams.for_range(0, 100)
Scores = list[tuple[float, float]]


def value(row: int) -> float:
    return round(50 + 40 * math.sin(row / 5) + row * 7 % 5, 3)


def lines(name: str, first: int, last: int) -> list[str]:
    return [f"{name} {value(row)!r} {1_400_000_000 + 60 * row}" for row in range(first, last + 1)]


class Reference:
    """The model as it should be, run here."""

    def __init__(self) -> None:
        self.model = Model(PARAMS)
        self.detector = detector_for(PARAMS)

    def run(self, first: int, last: int) -> Scores:
        numbers = range(first, last + 1)
        return score_rows(
            self.model, self.detector, [1_400_000_000 + 60 * row for row in numbers], [value(row) for row in numbers]
        )

    def copy(self) -> Reference:
        other = Reference()
        other.model = Model.restore(self.model.save())
        other.detector = Detector.restore(self.detector.save())
        return other


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with running_engine(tmp_path / "data", "--workers", "2") as started:
        htmengine(started, "monitor", "m", "--min", "0", "--max", "100")
        yield started


def scores(engine: Engine, name: str, first: int, last: int) -> Scores:
    """The scores of the rows, when all of them are there and the ledger says so."""
    wait_for(lambda: settled(engine, name, last), f"row {last} of {name}")
    return [(raw, anomaly) for rowid, raw, anomaly in engine.scores(name) if first <= rowid <= last]


def settled(engine: Engine, name: str, last: int) -> bool:
    sql = "SELECT s.rowid, m.status FROM metric_score s JOIN metric m USING (uid) WHERE m.name = ?"
    return engine.query(sql, name) == [(last, 1)]


class TestSnapshots:
    def test_a_reverted_model_forgets_what_it_learnt_since_and_goes_on(self, engine: Engine) -> None:
        reference = Reference()
        engine.send(lines("m", 1, 120))
        before = reference.run(1, 120)
        assert scores(engine, "m", 1, 120) == before
        assert htmengine(engine, "model", "snapshot", "m") == "m: version 1 after row 120\n"
        kept = reference.copy()
        engine.send(lines("m", 121, 160))
        after = reference.run(121, 160)
        assert scores(engine, "m", 121, 160) == after
        assert htmengine(engine, "model", "revert", "m") == "m: CREATE_PENDING\n"
        engine.send(lines("m", 161, 200))
        assert scores(engine, "m", 1, 200) == before + after + kept.run(161, 200)
        [listed] = htmengine(engine, "model", "snapshots", "m").splitlines()[1:]
        assert (listed.split()[0], listed.split()[-1]) == ("1", "120")
        assert "skipped" not in htmengine(engine, "ledger", "m")

    def test_a_replay_runs_the_rows_after_the_snapshot_again_over_a_crash_too(self, engine: Engine) -> None:
        reference = Reference()
        engine.send(lines("m", 1, 100))
        expected = reference.run(1, 100)
        assert scores(engine, "m", 1, 100) == expected
        htmengine(engine, "model", "snapshot", "m")
        engine.send(lines("m", 101, 140))
        expected += reference.run(101, 140)
        assert scores(engine, "m", 1, 140) == expected
        htmengine(engine, "monitor", "m", "--min", "0", "--max", "1000")  # another model altogether
        wait_for(lambda: settled(engine, "m", 140) and scores(engine, "m", 1, 140) != expected, "the other model")
        htmengine(engine, "model", "revert", "m", "--version", "1", "--replay")
        engine.kill()
        engine.start()
        assert scores(engine, "m", 101, 140) == expected[100:]

    def test_a_reverted_model_is_made_again_when_its_checkpoints_are_lost(self, engine: Engine) -> None:
        reference = Reference()
        engine.send(lines("m", 1, 100))
        reference.run(1, 100)
        scores(engine, "m", 1, 100)
        htmengine(engine, "model", "snapshot", "m")
        kept = reference.copy()
        engine.send(lines("m", 101, 140))
        scores(engine, "m", 101, 140)
        htmengine(engine, "model", "revert", "m")
        engine.send(lines("m", 141, 150))
        scores(engine, "m", 141, 150)
        engine.kill()
        for path in (engine.data_dir / "checkpoints").rglob("*"):
            if path.is_file():
                path.unlink()
        engine.start()
        engine.send(lines("m", 151, 170))
        assert scores(engine, "m", 141, 170) == kept.run(141, 170)


class TestCopies:
    def test_a_clone_goes_on_as_its_source_does(self, engine: Engine) -> None:
        reference = Reference()
        engine.send(lines("m", 1, 120))
        reference.run(1, 120)
        scores(engine, "m", 1, 120)
        assert htmengine(engine, "model", "clone", "m", "n") == "n: CREATE_PENDING\n"
        engine.send([*lines("n", 121, 150), *lines("m", 121, 150)])
        expected = reference.run(121, 150)
        assert scores(engine, "m", 121, 150) == expected
        assert scores(engine, "n", 1, 30) == expected
        assert "already has a model" in htmengine(engine, "model", "clone", "m", "n", status=1)

    def test_an_exported_model_goes_on_in_another_engine(self, engine: Engine, tmp_path: Path) -> None:
        reference = Reference()
        engine.send(lines("m", 1, 120))
        reference.run(1, 120)
        scores(engine, "m", 1, 120)
        file = tmp_path / "m.htmmodel"
        htmengine(engine, "model", "export", "m", str(file))
        with running_engine(tmp_path / "other", "--workers", "1") as other:
            assert htmengine(other, "model", "import", str(file)) == "m: CREATE_PENDING\n"
            other.send(lines("m", 121, 150))
            assert scores(other, "m", 1, 30) == reference.run(121, 150)
        file.write_bytes(file.read_bytes()[:-1])
        refused = htmengine(engine, "model", "import", str(file), "--name", "n", status=1)
        assert refused == "Error: the file is damaged or cut short: its checksum does not match\n"


def test_history_and_late_samples_end_in_the_scores_of_the_sorted_series(engine: Engine, tmp_path: Path) -> None:
    live = lines("m", 301, 340)
    engine.send(live[:10])
    engine.wait_until_scored("m", 10)
    engine.send(live[12:])
    engine.send([*live[10:12], *lines("m", 299, 299)])
    engine.wait_until_scored("m", 40)
    history = tmp_path / "m.csv"
    rows = "".join(f"{1_400_000_000_000 + 60_000 * row};{value(row)!r}\n" for row in range(310, 0, -1))
    history.write_text(f"time;load\n{rows}")
    loading = ["load", str(history), "--timestamp", "time", "--value", "load"]
    assert htmengine(engine, *loading).startswith("m: 300 new rows; CREATE_PENDING\n")
    engine.send(lines("m", 341, 350))
    scores = engine.wait_until_scored("m", 350)
    assert [(raw, anomaly) for _, raw, anomaly in scores] == Reference().run(1, 350)
    assert htmengine(engine, *loading).startswith("m: nothing new in 310 rows\n")


def test_history_by_http_and_from_an_engines_own_graphite_api(engine: Engine, tmp_path: Path) -> None:
    engine.send(lines("m", 301, 340))
    engine.wait_until_scored("m", 40)
    text = {"Content-Type": "text/plain"}
    with httpx.Client(base_url=engine.url) as client:
        loaded = client.post("/api/v1/history", content="\n".join(lines("m", 1, 310)), headers=text)
        assert loaded.json() == {"accepted": 310, "new": 300}
        assert client.post("/api/v1/metrics/m/rebuild").json()["joined"] == 300
    scores = engine.wait_until_scored("m", 340)
    assert [(raw, anomaly) for _, raw, anomaly in scores] == Reference().run(1, 340)
    with running_engine(tmp_path / "other", "--workers", "1") as other:
        htmengine(other, "monitor", "m", "--min", "0", "--max", "100")
        asked = ("--graphite", engine.url, "--query", "m", "--since", "1395000000", "--until", "1400020400")
        assert htmengine(other, "load", *asked).startswith("m: 340 new rows; CREATE_PENDING\n")
        assert other.wait_until_scored("m", 340) == scores
        away = htmengine(other, "load", "--prometheus", "http://127.0.0.1:9", "--query", "up", status=1)
        assert away.startswith("Error: http://127.0.0.1:9: ")
