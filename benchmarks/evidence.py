# SPDX-License-Identifier: MIT
"""Rows a second on one core of the evidence and the likelihood, without the interpreter's lock; state in bytes.

Processor time of the one thread that computes is counted, the best of some rounds.  Beside it what bounds it: the
nearest-shape search alone in numpy for a row, and copying 10 KB, about what a row reads of a metric's state.

    python benchmarks/evidence.py --rows 100000 --rounds 5
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from htmengine.evidence import AnomalyLikelihood, Detector


def series(rows: int) -> tuple[Any, Any, Any]:
    """A noisy daily curve every 5 minutes, with raw scores that are mostly low."""
    rng = np.random.default_rng(1)
    timestamps = 1_500_000_000 + 300 * np.arange(rows)
    values = 10 * np.sin(timestamps / 86_400 * 2 * np.pi) + rng.normal(size=rows)
    return timestamps, values, np.round(rng.random(rows) ** 4 * 40) / 40


def rate(rows: int, rounds: int, work: Callable[[], object]) -> float:
    """Rows a second of this thread's processor time, in the best round."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.thread_time()
        work()
        best = min(best, time.thread_time() - begun)
    return rows / best


def nearest_shapes(rows: int) -> None:
    """What numpy needs for the distances of a row to 2 x 256 shapes."""
    rng = np.random.default_rng(1)
    store, now = rng.normal(size=(512, 8)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    for _ in range(rows):
        distances = store - now
        np.einsum("ij,ij->i", distances, distances).min()


def copies(rows: int) -> None:
    """10 KB copied once a row."""
    state, copy = np.zeros(10_000, dtype=np.uint8), np.zeros(10_000, dtype=np.uint8)
    for _ in range(rows):
        np.copyto(copy, state)


def counted_meanwhile(rows: tuple[Any, Any, Any]) -> bool:
    """Whether Python code of another thread runs while the rows are judged."""
    stop, count = threading.Event(), [0]

    def count_on() -> None:
        while not stop.is_set():
            count[0] += 1

    thread = threading.Thread(target=count_on)
    detector = Detector()
    thread.start()
    time.sleep(0.05)
    before = count[0]
    detector.update_many(*rows)
    after = count[0]
    stop.set()
    thread.join()
    return after > before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    timestamps, values, raws = rows = series(options.rows)
    pairs = list(zip(timestamps.tolist(), values.tolist(), raws.tolist(), strict=True))

    def one_by_one() -> None:
        detector = Detector()
        for row in pairs:
            detector.update(*row)

    def likelihood_alone() -> None:
        likelihood = AnomalyLikelihood()
        for _, value, raw in pairs:
            likelihood.score(value, raw)

    some = max(1, options.rows // 20)
    for name, count, work in (
        ("evidence and likelihood, many rows a call", options.rows, lambda: Detector().update_many(*rows)),
        ("evidence and likelihood, a row a call", options.rows, one_by_one),
        ("likelihood alone, a row a call", options.rows, likelihood_alone),
        ("bound: copying 10 KB", some, lambda: copies(some)),
        ("bound: nearest of 512 shapes in numpy", some, lambda: nearest_shapes(some)),
    ):
        print(f"{name:45} {rate(count, options.rounds, work):12,.0f} rows/s")
    print(f"{'other threads run meanwhile':45} {'yes' if counted_meanwhile(rows) else 'no':>12}")
    detector = Detector()
    for first, last in ((0, 100), (100, 1000), (1000, 10_000)):
        detector.update_many(*(column[first:last] for column in rows))
        saved = f"{len(detector.save()):,} bytes saved, {detector.memory_bytes:,} in memory"
        print(f"{f'after {last:,} rows':45} {saved}")


if __name__ == "__main__":
    main()
