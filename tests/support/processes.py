# SPDX-License-Identifier: MIT
"""Engines and services as processes: started as users start them, or forked from one that has imported everything.

A harness that starts thousands of them would spend most of its time on imports.  What is forked is a process of its own
all the same, and dies of kill -9 as any other.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
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
    if list(command[:2]) != [sys.executable, "-m"]:
        raise ValueError(f"{command}: only commands of python -m can be forked")
    return _Forked(command[2], command[3:], log, environment)


#: Imports what our processes need, but nothing that chooses a reactor, which no two processes may share.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["htmengine.cli.engine", "tests.support.processes"])


class _Forked:
    def __init__(self, module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        job = (module, list(arguments), str(log), dict(environment))
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


def _run(module: str, arguments: list[str], log: str, environment: dict[str, str]) -> None:
    """In the forked process."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
