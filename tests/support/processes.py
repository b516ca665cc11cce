# SPDX-License-Identifier: MIT
"""Engines and services as processes: started as users start them, or forked from one that has imported everything.

Tests that start many of them would spend most of their time on imports.  What is forked is a process of its own all the
same, and dies of kill -9 as any other.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Process(Protocol):
    """As much of `subprocess.Popen` as tests use."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class Start(Protocol):
    """Starts a command that appends to a log; the environment is added to that of the tests."""

    def __call__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process: ...


def start(command: Sequence[str], log: Path, environment: Mapping[str, str], cwd: Path | None = None) -> Process:
    """As a user would, in a working folder."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, "PYTHONUNBUFFERED": "1", **environment}, cwd=cwd
        )


def start_forked(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    """The same for ``python -m MODULE ...``, in a tenth of the time."""
    return _Forked(command, log, log, {**os.environ, **environment})


def start_quickly(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
    """Forked where that makes no difference: a module, and nothing in the environment that an interpreter reads."""
    forked = list(command[:2]) == [sys.executable, "-m"] and not _is_read_at_start(environment)
    return (start_forked if forked else start)(command, log, environment)


def _is_read_at_start(environment: Mapping[str, str]) -> bool:
    """Whether an interpreter reads something of it that is not in the tests' own environment."""
    return any(
        name.startswith(("PYTHON", "LD_")) and name != "PYTHONUNBUFFERED" and os.environ.get(name) != value
        for name, value in environment.items()
    )


def run_htmengine(
    *words: str, environment: Mapping[str, str] | None = None, timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """A command of ``htmengine``, to its end, forked as `start_quickly` does; one that hangs is killed, and raises.

    The environment is added to that of the tests.
    """
    command = [sys.executable, "-m", "htmengine.cli.main", *words]
    environ = {**os.environ, **(environment or {})}
    if _is_read_at_start(environ):
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=timeout, check=False)
    with tempfile.TemporaryDirectory(prefix="htmengine-command-") as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = _Forked(command, stdout, stderr, environ)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, status, stdout.read_text(), stderr.read_text())


#: Imports what our processes need, but nothing that chooses a reactor, which no two processes may share.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["htmengine.cli.engine", "tests.support.processes"])


class _Forked:
    def __init__(self, command: Sequence[str], stdout: Path, stderr: Path, environment: Mapping[str, str]) -> None:
        if list(command[:2]) != [sys.executable, "-m"]:
            raise ValueError(f"{command}: only commands of python -m can be forked")
        job = (list(command[2:]), str(stdout), str(stderr), os.getcwd(), dict(environment))
        self._process = _SERVER.Process(target=_run, args=job, daemon=True)
        self._process.start()
        self._lock = threading.Lock()  # its status can be read once
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise TimeoutError(f"process {self.pid} has not ended within {timeout} s")
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(words: list[str], stdout: str, stderr: str, cwd: str, environment: dict[str, str]) -> None:
    """In the forked process."""
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # the module was imported before
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
