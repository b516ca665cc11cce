# SPDX-License-Identifier: MIT
"""Every command against everything that can be broken: one line that says what and what to do, and status 1."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from htmengine.bus.queue_file import QueueFile
from htmengine.process.lifecycle import DataFolder
from htmengine.repository import migrations
from tests.support.processes import Process, run_htmengine, start_forked
from tests.support.servers import MariaDB, PostgreSQL, RabbitMQ, free_port

NAME = "web1.example.org.cpu-0.cpu-user"
EXPORT = f'[{{"spec": {{"datasource": "custom", "metricSpec": {{"metric": "{NAME}"}}}}, "monitored": true}}]'

#: Commands that only look, or that change what must be there already.
DATABASE = {
    "metrics": ["metrics"],
    "results": ["results", NAME],
    "export": ["export"],
    "ledger": ["ledger"],
    "troubles": ["troubles"],
    "rejects": ["rejects"],
    "incidents": ["incidents"],
    "audit": ["audit"],
    "why": ["why", NAME, "1400000000"],
    "alert silences": ["alert", "silences"],
    "alert silence": ["alert", "silence", "web*", "--for", "2h"],
    "alert unsilence": ["alert", "unsilence", "1"],
    "alert acknowledge": ["alert", "acknowledge", "abcd"],
    "alert mark": ["alert", "mark", "abcd", "fine"],
    "alert delete": ["alert", "delete", "load"],
    "backup": ["backup", "copy"],
    "alert list": ["alert", "list"],
    "gc": ["gc", "--threshold-days", "90"],
}
BUS = {
    "status": ["status"],
    "follow": ["follow"],
    "queues": ["queues"],
    "repair": ["repair", NAME],
    "unmonitor": ["unmonitor", NAME],
    "delete": ["delete", NAME, "--yes"],
    "model snapshot": ["model", "snapshot", NAME],
    "model snapshots": ["model", "snapshots", NAME],
    "model export": ["model", "export", NAME, "web1.htmmodel"],
    "model revert": ["model", "revert", NAME],
    "model clone": ["model", "clone", NAME, "web2.cpu"],
}
#: Commands that may begin an engine's folder.
MAKING = {"monitor": ["monitor", NAME], "import": ["import", "metrics.json"]}
#: What commands read or make, in the test's folder.
FILES = ("metrics.json", "copy", "web1.htmmodel")
#: A command that hangs is ended after this long.
HANGS_S = 25.0


def failures(commands: dict[str, list[str]], cwd: Path, wanted: str, *options: str, **environment: str) -> list[str]:
    """Run the commands; what was wrong with their last words."""
    (cwd / "metrics.json").write_text(EXPORT)

    started = {}
    for name, words in commands.items():
        named = [str(cwd / word) if word in FILES else word for word in words]
        command = [sys.executable, "-m", "htmengine.cli.main", *named, *options]
        log = cwd / f"{uuid.uuid4()}.log"
        started[name] = start_forked(command, log, environment), log
    found = {name: _wrong(process, log, wanted) for name, (process, log) in started.items()}
    return [f"{name}: {wrong}" for name, wrong in found.items() if wrong]


def _wrong(process: Process, log: Path, wanted: str) -> str | None:
    try:
        status = process.wait(HANGS_S)
    except TimeoutError:
        process.kill()
        return "hangs"
    said = log.read_text()
    if status != 1 or said.count("\n") != 1 or not said.startswith("Error: ") or wanted not in said:
        return f"status {status}: {said}"
    return None


# --- a folder -------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    assert failures({**DATABASE, **BUS}, tmp_path, "no engine has ever run", "--data-dir", str(folder)) == []
    assert not folder.exists()


def test_a_folder_without_a_database_is_said_and_gets_none(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    folder.mkdir()
    assert failures({**DATABASE, **BUS}, tmp_path, "no engine has ever run", "--data-dir", str(folder)) == []
    assert list(folder.iterdir()) == []


def _made(folder: Path) -> DataFolder:
    found = DataFolder(folder)
    found.make()
    migrations.upgrade(found.database_url)
    return found


def _text_in_its_place(folder: DataFolder) -> None:
    (folder.path / "htmengine.db").write_text("this is no database\n" * 100)


def _pages_overwritten(folder: DataFolder) -> None:
    path = folder.path / "htmengine.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:4096].replace(b"CREATE TABLE", b"\xff" * 12) + b"\xff" * (len(whole) - 4096))


@pytest.mark.parametrize("damage", [_text_in_its_place, _pages_overwritten])
def test_a_damaged_database_is_said(damage: Callable[[DataFolder], None], tmp_path: Path) -> None:
    folder = _made(tmp_path / "engine")
    damage(folder)
    commands = {**DATABASE, **BUS, **MAKING, "run": ["run"], "db upgrade": ["db", "upgrade"]}
    assert failures(commands, tmp_path, "htmengine.db", "--data-dir", str(folder.path)) == []


def test_a_database_that_another_program_has_locked_is_said(tmp_path: Path) -> None:
    folder = _made(tmp_path / "engine")
    with contextlib.closing(sqlite3.connect(folder.database_path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        commands = {
            "metrics": ["metrics"],
            "status": ["status"],
            "alert silence": ["alert", "silence", "web*", "--for", "2h"],
            "monitor": ["monitor", NAME],
            "db reset": ["db", "reset", "--yes"],
            "backup": ["backup", str(tmp_path / "copy")],
        }
        said, options = "another program holds its lock", ("--data-dir", str(folder.path))
        assert failures(commands, tmp_path, said, *options) == []
        assert failures({"run": ["run"]}, tmp_path, said, *options) == []  # others wait longer while an engine runs


def test_a_folder_that_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    commands = {"metrics": ["metrics"], "status": ["status"], "backup": ["backup", str(tmp_path / "copy")]}
    assert failures(commands, tmp_path, "File name too long", "--data-dir", str(tmp_path / ("x" * 300))) == []


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A folder that nobody may write; root may write all but a file system that is read-only."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
        undo: Callable[[], Any] = partial(subprocess.run, ["umount", "--lazy", str(path)], check=True)
    else:
        path.chmod(0o500)
        undo = partial(path.chmod, 0o700)
    try:
        yield
    finally:
        undo()


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    folder = _made(tmp_path / "engine")
    QueueFile(folder.bus_path).close()
    looks = {"status": "metrics: none", "troubles": "no troubles", "queues": "messages", "metrics": "status"}
    writes = {"follow": BUS["follow"], "alert silence": DATABASE["alert silence"], **MAKING}
    with read_only(folder.path):
        for command, said in looks.items():
            done = _run([command, "--data-dir", str(folder.path)])
            assert (done.returncode, said in done.stdout) == (0, True), done.stdout + done.stderr
        assert failures(writes, tmp_path, "", "--data-dir", str(folder.path)) == []


def test_damaged_queues_are_said(tmp_path: Path) -> None:
    folder = _made(tmp_path / "engine")
    folder.bus_path.write_text("these are no queues\n" * 100)
    assert failures({**BUS, **MAKING}, tmp_path, "bus.db", "--data-dir", str(folder.path)) == []


def test_a_metric_that_is_not_there_is_said_and_so_is_that_no_engine_runs(tmp_path: Path) -> None:
    folder = _made(tmp_path / "engine")
    named = {name: words for name, words in {**DATABASE, **BUS}.items() if NAME in words}
    assert failures(named, tmp_path, f"no metric named '{NAME}'", "--data-dir", str(folder.path)) == []
    done = _run(["status", "--data-dir", str(folder.path)])
    assert (done.returncode, done.stderr) == (0, f"no engine runs on {folder.path}\n")


# --- files ----------------------------------------------------------------------------------------------


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return run_htmengine(*words, timeout=HANGS_S)


SPEC = (
    '[{"spec": {"datasource": "custom", "metricSpec": {"metric": "web1.cpu"},'
    ' "modelParams": {"min": 0, "max": %s}}, "monitored": true}]'
)


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a":' * 100_000, SPEC % ("1" + "0" * 400), SPEC % ("1" * 10_000), SPEC % "1e400", "7", "[7]", ""],
    ids=["deep list", "deep object", "10^400", "10,000 digits", "infinite", "number", "list of a number", "empty"],
)
def test_a_file_that_is_no_export_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(content)
    done = _run(["import", str(tmp_path / "metrics.json"), "--data-dir", str(tmp_path / "engine")])
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 1000
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize("command", ["import", "model import", "score", "replay"])
def test_a_file_that_is_not_there_is_named(command: str, tmp_path: Path) -> None:
    done = _run([*command.split(), str(tmp_path / "none.json")])
    assert done.returncode == 2
    assert f"'{tmp_path / 'none.json'}' does not exist" in done.stderr


# --- servers --------------------------------------------------------------------------------------------


def _configuration(folder: Path, url: str, broker_port: int) -> dict[str, str]:
    """An engine's environment."""
    (folder / "application.conf").write_text(f"[repository]\nurl = {url}\n")
    for name in ("model-swapper", "model-checkpoint"):
        (folder / f"{name}.conf").touch()
    (folder / "rabbitmq.conf").write_text(
        f"[connection]\nhost = 127.0.0.1\nport = {broker_port}\n[credentials]\nuser = guest\npassword = wrong\n"
    )
    return {"APPLICATION_CONFIG_PATH": str(folder)}


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield listening.getsockname()[1]


#: One of each way to the servers: a look at the database, the bus beside it, the schema.
WAYS = {"metrics": ["metrics"], "status": ["status"], **MAKING, "db upgrade": ["db", "upgrade"]}


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_a_database_server_that_is_away_is_said(kind: str, tmp_path: Path) -> None:
    environment = _configuration(tmp_path, f"{kind}://engine:secret@127.0.0.1:{free_port()}/htmengine", free_port())
    commands = {name: words for name, words in {**DATABASE, **BUS, **WAYS}.items() if name != "backup"}
    assert failures(commands, tmp_path, "is the server running?", **environment) == []


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_a_database_server_that_never_answers_is_said(kind: str, tmp_path: Path) -> None:
    with silent_server() as port:
        environment = _configuration(tmp_path, f"{kind}://engine:secret@127.0.0.1:{port}/htmengine", free_port())
        assert failures(WAYS, tmp_path, "is the server running?", **environment) == []


def test_a_mariadb_that_refuses_is_said(mariadb: MariaDB, tmp_path: Path) -> None:
    url = f"mysql://root:wrong@127.0.0.1:{mariadb.port}/htmengine"
    environment = _configuration(tmp_path, url, free_port())
    assert failures(WAYS, tmp_path, "refuses the user", **environment) == []
    environment = _configuration(tmp_path, f"mysql://root@127.0.0.1:{mariadb.port}/none", free_port())
    assert failures(WAYS, tmp_path, "create the database", **environment) == []


def test_a_postgresql_that_refuses_is_said(postgresql: PostgreSQL, tmp_path: Path) -> None:
    url = f"postgresql://postgres@127.0.0.1:{postgresql.port}/none"
    environment = _configuration(tmp_path, url, free_port())
    assert failures(WAYS, tmp_path, 'database "none" does not exist', **environment) == []


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_a_database_without_our_tables_is_said(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    environment = _configuration(tmp_path, request.getfixturevalue(kind).new_database(), free_port())
    commands = {name: words for name, words in WAYS.items() if name != "db upgrade"}
    assert failures(commands, tmp_path, "run `htmengine db upgrade`", **environment) == []


@pytest.mark.parametrize("broken", ["away", "silent", "refuses"])
def test_a_broker_that_does_not_serve_us_is_said(
    broken: str, mariadb: MariaDB, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    url = mariadb.new_database()
    migrations.upgrade(url)
    with silent_server() as silent:
        port = {"away": free_port(), "silent": silent, "refuses": rabbitmq.port}[broken]
        environment = _configuration(tmp_path, url, port)
        commands = {"status": ["status"], "follow": ["follow"], "monitor": ["monitor", NAME]}
        assert failures(commands, tmp_path, f"RabbitMQ at 127.0.0.1:{port}", **environment) == []
        assert failures({"export": ["export", NAME]}, tmp_path, "no metric named", **environment) == []
