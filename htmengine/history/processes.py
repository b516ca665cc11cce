# SPDX-License-Identifier: MIT
"""Work on many metrics in several processes.

In: tasks as they are read, one by one.  Out: results as they end.  Few tasks are ahead of the processes, so that memory
is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Tasks that wait for each process.
AHEAD = 2


def in_processes(work: Callable[[Task], Result], tasks: Iterable[Task], jobs: int) -> Iterator[Result]:
    """``work`` of each task in ``jobs`` processes, in this one if it is one; what it raises is raised."""
    if jobs == 1:
        yield from map(work, tasks)
        return
    # spawn: a fork of a process that has threads may hang, and Python 3.12 warns of it
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: set[Future[Result]] = set()
        for task in tasks:
            running.add(pool.submit(work, task))
            if len(running) >= AHEAD * jobs:
                yield from _ended(running)
        while running:
            yield from _ended(running)


def _ended(running: set[Future[Result]]) -> Iterator[Result]:
    """Results of those that have ended, at least one, which are taken out."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    running -= done
    for each in done:
        yield each.result()
