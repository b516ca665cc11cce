# SPDX-License-Identifier: MIT
"""README's section "Run it" as it stands, from a clone with a fresh environment, then the programs of docs/client.md.

What is run is each ``$`` line of a block ``console`` and each block ``python``, in their order, by a user who has
nothing yet.  The ports are those that the documents name, in a network of the test's own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import installs
from tests.support.engine import wait_for
from tests.support.servers import program

#: What only Ctrl-C ends.
_ENDLESS = re.compile(r"htmengine (run|follow)\b|--follow\b|client\.results\(")
_METRIC = "web1.cpu.load"
_VALUE = "0.42"
_SEND = f'echo "{_METRIC} {_VALUE} -1" | nc -N 127.0.0.1 2003'


def examples(document: str, section: str = "") -> list[str]:
    """The commands of a document, or of one of its sections, as a shell takes them."""
    text = (installs.ROOT / document).read_text()
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    commands = []
    for language, block in re.findall(r"^```(console|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language == "python":
            commands.append(f"python -P - <<'end of example'\n{block}end of example")
        else:
            commands += re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    return commands


@dataclass
class Started:
    """A command at work, and the file that it prints into."""

    command: str
    process: subprocess.Popen[bytes]
    output: Path

    def printed(self) -> str:
        return self.output.read_text()

    def end(self, number: int) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        self.process.wait(60)


class User:
    """Somebody at a shell in a clone: a home that is empty, and a network in which no other program is."""

    def __init__(self, home: Path, clone: Path, binaries: Path) -> None:
        self._home, self._clone = home, clone
        self._environment = {
            "HOME": str(home),
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PIP_NO_BUILD_ISOLATION": "false",  # what builds it is installed, and there is no way to an index
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        hold = "ip link set lo up && echo up && exec cat"
        self._network = subprocess.Popen(
            [program("unshare"), "--net", "sh", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._network.stdout is not None
        if self._network.stdout.readline() != b"up\n":
            pytest.skip("only root has a network of its own")
        self._started: list[Started] = []

    def start(self, command: str) -> Started:
        """Type a command, and do not wait for its end."""
        output = self._home / f"output-{len(self._started)}"
        enter = [program("nsenter"), f"--net=/proc/{self._network.pid}/ns/net", "sh", "-c", command]
        with output.open("wb") as file:
            process = subprocess.Popen(
                enter, cwd=self._clone, env=self._environment, stdout=file, stderr=file, start_new_session=True
            )
        self._started.append(Started(command, process, output))
        return self._started[-1]

    def make_series(self, path: str) -> None:
        """A CSV file with a metric's rows."""
        file = self._clone / path
        file.parent.mkdir()
        rows = "".join(f"{1_400_000_000 + 300 * row},{row % 7}\n" for row in range(300))
        file.write_text(f"timestamp,value\n{rows}")

    def run(self, command: str) -> str:
        """Type a command that ends by itself; what it printed."""
        started = self.start(command)
        status = started.process.wait(500)
        assert status == 0, f"$ {command}\n{started.printed()}"
        return started.printed()

    def leave(self) -> None:
        for started in reversed(self._started):
            started.end(signal.SIGINT)
        self._network.communicate(timeout=60)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    folder = tmp_path_factory.mktemp("user")
    (folder / "home").mkdir()
    venv = installs.environment(folder / "venv")
    # Python 3.11 puts an old one into a new environment.
    installs.run(venv / "bin" / "python", "-m", "pip", "uninstall", "--yes", "setuptools")
    user = User(folder / "home", installs.clone(folder / "htmengine"), venv / "bin")
    yield user
    user.leave()


def sees_values(user: User, follower: Started) -> None:
    """Values are sent until a command that follows the results shows one."""

    def seen() -> bool:
        user.run(_SEND)
        assert follower.process.poll() is None, f"$ {follower.command}\n{follower.printed()}"
        return _VALUE in follower.printed()

    wait_for(seen, f"$ {follower.command}")


def test_run_it(user: User) -> None:
    commands = examples("README.md", "Run it")
    assert commands[:2] == ["pip install .", "htmengine run"]
    assert _SEND in commands
    user.run(commands[0])
    user.make_series("metrics/web1.cpu.csv")
    engine = user.start(commands[1])
    wait_for(lambda: "127.0.0.1:2003" in engine.printed() and ":8080/" in engine.printed(), "the engine to listen")
    printed = {command: user.run(command) for command in commands[2:] if not _ENDLESS.search(command)}
    assert _METRIC in printed["htmengine metrics"]
    anomalies = user.start("htmengine follow")
    assert anomalies.command in commands
    [results] = [command for command in commands if "--follow" in command]
    sees_values(user, user.start(results))
    assert anomalies.process.poll() is None, anomalies.printed()
    assert "Traceback" not in engine.printed() + anomalies.printed()


def test_programs_on_the_client_library(user: User) -> None:
    for program_text in examples("docs/client.md"):
        started = user.start(program_text)
        sees_values(user, started)
        started.end(signal.SIGTERM)
