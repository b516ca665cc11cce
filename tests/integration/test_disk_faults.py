# SPDX-License-Identifier: MIT
"""Disks that lie, refuse or are full: no score changes, no other model is harmed, and the operator is told."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.offline.scores import score_rows
from tests.support.crashes import SETTINGS
from tests.support.engine import Engine, wait_for
from tests.support.processes import run_htmengine

METRICS = ("a", "b", "c")
FIRST, SECOND = 80, 100
#: No model is written when it has grown old, only after this many rows: the test knows what is on the disk.
QUIET = SETTINGS | {"HTMENGINE__MODEL_CHECKPOINT__STORAGE__CHECKPOINT_SECONDS": "3600"}


def value(row: int) -> float:
    return round(50 + 40 * math.sin(row / 5) + row * 7 % 5, 3)


def lines(first: int, last: int) -> list[str]:
    return [f"{name} {value(row)!r} {1_400_000_000 + 60 * row}" for row in range(first, last + 1) for name in METRICS]


def expected(last: int) -> list[tuple[float, float]]:
    """The scores of an engine whose disk is well."""
    values = [value(row) for row in range(1, last + 1)]
    params = ModelParams.for_sample(values[:20])
    timestamps = [1_400_000_000 + 60 * row for row in range(1, last + 1)]
    return score_rows(Model(params), detector_for(params), timestamps, values)


def assert_scored(engine: Engine, last: int) -> None:
    for name in METRICS:
        scores = engine.wait_until_scored(name, last)
        assert [(raw, anomaly) for _, raw, anomaly in scores] == expected(last)


def troubles(engine: Engine, *, status: int) -> str:
    done = run_htmengine("troubles", "--data-dir", str(engine.data_dir))
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "data", "--workers", "1")
    engine.environment = dict(QUIET)
    yield engine
    if engine.process is not None and engine.process.poll() is None:
        engine.kill()


# --- checkpoints that lie -------------------------------------------------------------------------------


def newest_checkpoints(engine: Engine) -> list[Path]:
    """Of each model the file that was written last."""
    files = [path for path in (engine.data_dir / "checkpoints").rglob("*.[01]") if path.is_file()]
    newest: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
        newest[path.stem] = path
    assert len(newest) == len(METRICS)
    return list(newest.values())


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 0x10
    path.write_bytes(data)


def of_another(path: Path) -> None:
    """A backup of another model, put back under the wrong name."""
    other = next(each for each in path.parent.parent.rglob("*.[01]") if each.stem != path.stem)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [torn, empty, flipped, of_another, Path.unlink])
def test_a_damaged_checkpoint_is_found_and_the_one_before_is_used(
    engine: Engine, damage: Callable[[Path], None]
) -> None:
    engine.start()
    engine.send(lines(1, FIRST))
    assert_scored(engine, FIRST)
    engine.kill()
    damaged = newest_checkpoints(engine)[0]
    damage(damaged)
    engine.start()
    engine.send(lines(FIRST + 1, SECOND))
    assert_scored(engine, SECOND)
    if damage in (torn, empty, flipped):
        assert f"{damaged} cannot be used" in engine.log_path.read_text()
        assert "1 damaged checkpoints were skipped" in troubles(engine, status=1)


def test_with_all_checkpoints_damaged_all_rows_are_run_again(engine: Engine) -> None:
    engine.start()
    engine.send(lines(1, FIRST))
    assert_scored(engine, FIRST)
    engine.kill()
    for path in (engine.data_dir / "checkpoints").rglob("*.[01]"):
        flipped(path)
    engine.start()
    engine.send(lines(FIRST + 1, SECOND))
    assert_scored(engine, SECOND)


# --- disks that refuse ----------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own, which only root can mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> Path:
    """Leave no room on a disk."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for block in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * block)
    return filler


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_models_go_on_while_checkpoints_are_refused(engine: Engine, tmp_path: Path, fault: str) -> None:
    with small_disk(tmp_path / "disk", "8M") as disk:
        engine.environment["HTMENGINE__MODEL_CHECKPOINT__STORAGE__ROOT"] = str(disk / "checkpoints")
        engine.start()
        engine.send(lines(1, 40))
        assert_scored(engine, 40)
        if fault == "full":
            filler = fill(disk)
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        engine.send(lines(41, FIRST))
        assert_scored(engine, FIRST)
        reason = "No space left on device" if fault == "full" else "Read-only file system"
        wait_for(lambda: engine.query("SELECT 1 FROM trouble"), "the trouble to be told")
        assert "checkpoints cannot be written, a restart will replay rows: [Errno" in troubles(engine, status=1)
        assert reason in troubles(engine, status=1)
        assert reason in engine.log_path.read_text()
        engine.kill()  # and what was not written is run again
        engine.start()
        engine.send(lines(FIRST + 1, 90))
        assert_scored(engine, 90)
        if fault == "full":
            filler.unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        engine.send(lines(91, 130))
        assert_scored(engine, 130)
        wait_for(lambda: not engine.query("SELECT 1 FROM trouble"), "the trouble to be over")
        engine.kill()


def move(engine: Engine, disk: Path) -> None:
    """Let it run on another disk."""
    engine.data_dir = disk / "data"
    engine._options[1] = str(engine.data_dir)


def test_an_engine_whose_whole_disk_is_full_waits_for_room_and_loses_nothing(engine: Engine, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "24M") as disk:
        move(engine, disk)
        engine.start()
        engine.send(lines(1, 40))
        assert_scored(engine, 40)
        filler = fill(disk)
        with ThreadPoolExecutor() as pool:
            sending = pool.submit(engine.send, lines(41, FIRST))
            wait_for(lambda: "is full" in engine.log_path.read_text(), "the log to tell of the full disk")
            assert engine.process is not None
            assert engine.process.poll() is None
            assert not sending.done()  # the client waits with its lines
            assert f"the disk of {engine.data_dir} is full" in troubles(engine, status=1)
            filler.unlink()
            sending.result()
        assert_scored(engine, FIRST)
        engine.kill()


def test_an_engine_whose_writes_fail_for_a_while_waits_and_loses_nothing(engine: Engine) -> None:
    engine.start()
    assert engine.process is not None
    engine.send(lines(1, 40))
    assert_scored(engine, 40)
    may_write = engine.log_path.stat().st_size + 16_384  # its log, and no log of SQLite's
    resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (may_write, resource.RLIM_INFINITY))
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(engine.send, lines(41, FIRST))
        wait_for(lambda: "disk I/O error; all services wait" in engine.log_path.read_text(), "the log to tell of it")
        assert engine.process.poll() is None
        assert not sending.done()  # the client waits with its lines
        resource.prlimit(engine.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        sending.result()
    assert_scored(engine, FIRST)
    assert engine.stop() == 0
    assert "Traceback" not in engine.log_path.read_text()


def file_system(path: Path) -> str:
    """The name of a new ext4, whose errors make it read-only, mounted on ``path``; only root can do that."""
    image = path.with_suffix(".image")
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(64 << 20)
        path.mkdir()
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop,errors=remount-ro", str(image), str(path)], check=True)
    device = os.stat(path).st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mkfs.ext4") is None or not Path("/sys/fs/ext4").exists(),
    reason="only root can mount a file system that fails",
)
def test_an_engine_whose_file_system_becomes_read_only_tells_it_ends_and_goes_on_after_the_check(
    engine: Engine, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    fault = Path("/sys/fs/ext4", file_system(disk), "trigger_fs_error")
    try:
        move(engine, disk)
        engine.start()
        engine.send(lines(1, 40))
        assert_scored(engine, 40)
        fault.write_text("as the kernel does after an error of the disk")
        with ThreadPoolExecutor() as pool, contextlib.suppress(ConnectionError):
            pool.submit(engine.send, lines(41, FIRST))
            wait_for(lambda: "all services wait" in engine.log_path.read_text(), "the log to tell of it")
            assert f"the disk of {engine.data_dir} takes nothing (Read-only file system)" in troubles(engine, status=1)
            assert engine.process is not None
            engine.process.send_signal(signal.SIGTERM)
            engine.process.wait(20)
        assert "Traceback" not in engine.log_path.read_text()
        subprocess.run(["umount", str(disk)], check=True)
        subprocess.run(["fsck.ext4", "-fp", str(disk.with_suffix(".image"))], capture_output=True, check=False)
        file_system(disk)
        engine.start()
        engine.send(lines(1, FIRST))  # the client repeats what it has no answer for
        assert_scored(engine, FIRST)
        engine.kill()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
