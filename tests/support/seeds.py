# SPDX-License-Identifier: MIT
"""Random tests by seed: each seed runs in a folder of its own, which is kept if it has a problem.

`tests.support.crashes`, `tests.support.power_cuts` and `tests.support.chaos` run on it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from tqdm import tqdm


@dataclass(slots=True)
class Report:
    """What happened in one run, and what is wrong with its end."""

    seed: int
    happened: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, expected: object) -> None:
        """Anything else is a problem."""
        if found != expected:
            self.problems.append(f"{what}: {found!r:.300} instead of {expected!r:.300}")


ReportT = TypeVar("ReportT", bound=Report)
#: Runs a seed in a new folder.
RunSeed: TypeAlias = Callable[[int, Path], Report]


class Run(Protocol[ReportT]):
    """What one seed does; its report fills meanwhile."""

    @property
    def report(self) -> ReportT: ...
    def run(self) -> object: ...


def finish(run: Run[ReportT]) -> ReportT:
    """Run it to its end; an engine that hangs or ends wrongly is a problem of its report."""
    try:
        run.run()
    except AssertionError as error:
        run.report.problems.append(str(error))
    return run.report


# --- many seeds -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Seeds:
    """Those of one command.  ``size``: how much was done, in words."""

    name: str
    size: Callable[[Seeds], str]
    count: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _root: Path = field(init=False)

    def __post_init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix=f"htmengine-{self.name}-"))

    def run_all(self, seeds: Sequence[int], run: RunSeed, jobs: int = 1) -> None:
        """Some at a time."""
        with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(seeds), unit="seed") as progress:
            try:
                for done in as_completed([pool.submit(self._run, seed, run) for seed in seeds]):
                    self._add(done.result(), progress)
                    progress.update()
            finally:
                pool.shutdown(cancel_futures=True)

    def run_for(self, seconds: float, first: int, run: RunSeed) -> None:
        """One after the other, until the time is over."""
        with tqdm(total=round(seconds), unit="s") as progress:
            while self._seconds < seconds:
                self._add(self._run(first + self.count, run), progress)
                progress.update(round(self._seconds) - progress.n)

    def lines(self) -> Iterator[str]:
        """The summary."""
        for what, count in sorted(self.happened.items()):
            yield f"{what:<24} {count:>6}"
        yield f"{self._so_far}, {self._seconds:.0f} s"

    @property
    def _so_far(self) -> str:
        failed = f"{len(self.failed)} failed" + (f" {self.failed}" if self.failed else "")
        return f"{self.count} seeds, {self.size(self)}, {failed}"

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self.began

    def _folder(self, seed: int) -> Path:
        return self._root / str(seed)

    def _run(self, seed: int, run: RunSeed) -> Report:
        """The folder stays if there is a problem."""
        folder = self._folder(seed)
        folder.mkdir()
        report = run(seed, folder)
        if not report.problems:
            shutil.rmtree(folder, ignore_errors=True)  # a worker whose engine was killed may still write
        return report

    def _add(self, report: Report, progress: tqdm[Any]) -> None:
        self.count += 1
        self.happened.update(report.happened)
        if report.problems:
            self.failed.append(report.seed)
            kept = f"kept in {self._folder(report.seed)}"
            progress.write(f"seed {report.seed}: {'; '.join(report.problems)}\n  {kept}")
        progress.set_postfix_str(self._so_far, refresh=False)


@contextlib.contextmanager
def command(name: str, size: Callable[[Seeds], str]) -> Iterator[Seeds]:
    """Seeds whose summary is printed at the end, however it comes; then status 1 if any has a problem."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no engine is left behind
    seeds = Seeds(name, size)
    try:
        yield seeds
    finally:
        print("\n".join(seeds.lines()))
    sys.exit(1 if seeds.failed else 0)
