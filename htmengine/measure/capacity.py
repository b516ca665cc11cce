# SPDX-License-Identifier: MIT
"""How many metrics a machine carries: what a row and a model cost on it, and what that adds up to.

In: measurements of some seconds.  Out: for a cadence the most metrics, and what bounds them.  `htmengine capacity`
measures and prints; the sums are in here.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from htmengine.htm.model import Model
from htmengine.measure.models import Template
from htmengine.model_swapper.checkpoints import Checkpoint, CheckpointStore

#: What is left free: the part of the CPUs that rows may take, of the memory that models may, of the disk's speed.
CPU_SHARE = 0.7
MEMORY_SHARE = 0.6
DISK_SHARE = 0.5

#: Files written and read to learn the disk's speed.
_FILES = 50
#: Beyond this nobody has measured anything.
_MOST_METRICS = 10_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is."""

    cpus: int
    memory_bytes: int
    disk_free_bytes: int

    @classmethod
    def here(cls, folder: Path) -> Self:
        """This machine, and the disk that the folder is on."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(os.cpu_count() or 1, memory, shutil.disk_usage(folder).free)


@dataclass(frozen=True, slots=True)
class ModelCost:
    """One model, mature: bytes, and milliseconds for its checkpoint, with the sync to disk."""

    memory_bytes: int
    checkpoint_bytes: int
    write_ms: float
    read_ms: float
    learn_ms: float  #: a row, nothing but this model running
    written_bytes_per_s: float  #: of the disk alone, with a sync for each checkpoint
    read_bytes_per_s: float  #: of the disk alone, from files that the system has in no cache

    @classmethod
    def measured(cls, template: Template, folder: Path) -> Self:
        """Written to that folder and read back."""
        store = CheckpointStore(folder)
        model = Model.restore(template.model)

        def save(number: int) -> None:
            store.save(Checkpoint(f"{number:032x}", 1, template.rowid, template.model))

        def read(number: int) -> None:
            Model.restore(next(store.load(f"{number:032x}", 1)).model)

        to_disk_ms, read_ms, to_bytes_ms = _mean_ms(save), _mean_ms(read), _mean_ms(lambda _: model.save())
        rows = iter(range(template.rowid + 1, template.rowid + _FILES + 1))

        def learn(_: int) -> None:
            row = template.row(next(rows))
            model.learn(row.timestamp, row.value)

        size = len(template.model)
        return cls(
            template.memory_bytes,
            size,
            to_bytes_ms + to_disk_ms,
            read_ms,
            _mean_ms(learn),
            1000 * size / to_disk_ms,
            _cold_bytes_per_s(folder),
        )


@dataclass(frozen=True, slots=True)
class RowCost:
    """One row: CPU milliseconds, and bytes to and from disk where its model is not in memory."""

    engine_ms: float  #: in the engine's process: listener, storer, scheduler, Anomaly Service, bus and database
    worker_ms: float  #: in a worker, the model in memory
    swapped_worker_ms: float  #: in a worker, the model on disk
    swapped_read_bytes: float
    swapped_written_bytes: float


@dataclass(frozen=True, slots=True)
class Carried:
    """The most metrics of a cadence, and what bounds them.

    ``cpu``: all models are in memory, the CPUs are busy.  ``engine process``: so is the one process that all rows
    pass; the distributed deployment has several.  ``memory``: with more of it, fewer models would be swapped.
    ``disk speed``, ``disk space``: of the checkpoints.
    """

    cadence_s: int
    metrics: int
    rows_per_s: float
    in_memory: float  #: share of the models that are
    bound: str


def most_metrics(cadence_s: int, machine: Machine, model: ModelCost, row: RowCost) -> Carried:
    """How many metrics with a row each ``cadence_s`` the machine carries.

    >>> machine = Machine(cpus=2, memory_bytes=24 << 30, disk_free_bytes=100 << 30)
    >>> model = ModelCost(memory_bytes=1 << 20, checkpoint_bytes=400_000, write_ms=3.0, read_ms=2.0, learn_ms=0.03,
    ...                   written_bytes_per_s=500e6, read_bytes_per_s=900e6)
    >>> row = RowCost(engine_ms=0.2, worker_ms=0.1, swapped_worker_ms=2.0, swapped_read_bytes=400_000,
    ...               swapped_written_bytes=50_000)
    >>> carried = most_metrics(300, machine, model, row)
    >>> carried.metrics, carried.bound
    (134217, 'disk space')
    """
    cost = _Cost(cadence_s, machine, model, row)
    low, high = 0, _MOST_METRICS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost.bound(middle) is None else (low, middle - 1)
    return Carried(
        cadence_s, low, low / cadence_s, cost.in_memory(low), cost.bound(low + 1) or "nothing that was measured"
    )


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a number of metrics asks for, beside what there is."""

    cadence_s: int
    machine: Machine
    model: ModelCost
    row: RowCost

    def in_memory(self, metrics: int) -> float:
        room = MEMORY_SHARE * self.machine.memory_bytes / self.model.memory_bytes
        return min(1.0, room / max(metrics, 1))

    @property
    def disk_s(self) -> float:
        """Time of the disk that a row takes with its model on disk."""
        read_s = self.row.swapped_read_bytes / self.model.read_bytes_per_s
        return read_s + self.row.swapped_written_bytes / self.model.written_bytes_per_s

    def bound(self, metrics: int) -> str | None:
        """What that many metrics exceed; None if the machine carries them."""
        rows_per_s = metrics / self.cadence_s
        swapped = 1.0 - self.in_memory(metrics)
        engine = rows_per_s * self.row.engine_ms / 1000
        workers = rows_per_s * (self.row.worker_ms + swapped * (self.row.swapped_worker_ms - self.row.worker_ms)) / 1000
        if engine > CPU_SHARE:
            return "engine process"
        if engine + workers > CPU_SHARE * self.machine.cpus:
            return "memory" if swapped else "cpu"
        if rows_per_s * swapped * self.disk_s > DISK_SHARE:
            return "disk speed"
        if 2 * metrics * self.model.checkpoint_bytes > self.machine.disk_free_bytes:  # each model has two slots
            return "disk space"
        return None


def _cold_bytes_per_s(folder: Path) -> float:
    """Reading all files below a folder, which the system is asked to forget before (macOS is not, and reads faster)."""
    seconds, size = 0.0, 0
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            started = time.perf_counter()
            size += len(file.read())
            seconds += time.perf_counter() - started
    return size / seconds


def _mean_ms(do: Callable[[int], object]) -> float:
    started = time.perf_counter()
    for number in range(_FILES):
        do(number)
    return 1000 * (time.perf_counter() - started) / _FILES
