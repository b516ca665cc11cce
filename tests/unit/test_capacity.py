# SPDX-License-Identifier: MIT
"""What a machine carries: each bound in turn."""

from __future__ import annotations

from dataclasses import replace
from unittest import TestCase

from htmengine.measure.capacity import Carried, Machine, ModelCost, RowCost, most_metrics

MACHINE = Machine(cpus=2, memory_bytes=24 << 30, disk_free_bytes=1 << 40)
MODEL = ModelCost(
    1 << 20, 400_000, write_ms=3.0, read_ms=2.0, learn_ms=0.03, written_bytes_per_s=5e9, read_bytes_per_s=9e9
)
ROW = RowCost(
    engine_ms=0.1, worker_ms=0.1, swapped_worker_ms=2.1, swapped_read_bytes=400_000, swapped_written_bytes=50_000
)


def carried(cadence_s: int = 300, machine: Machine = MACHINE, model: ModelCost = MODEL, row: RowCost = ROW) -> Carried:
    return most_metrics(cadence_s, machine, model, row)


class MostMetricsTest(TestCase):
    def test_a_fast_cadence_is_bound_by_the_cpus(self) -> None:
        self.assertEqual(carried(1, row=replace(ROW, worker_ms=0.3)), Carried(1, 3500, 3500.0, 1.0, "cpu"))

    def test_where_one_process_has_most_of_the_work_it_is_the_bound(self) -> None:
        self.assertEqual(carried(1, row=replace(ROW, engine_ms=0.2)), Carried(1, 3500, 3500.0, 1.0, "engine process"))

    def test_a_slow_cadence_is_bound_by_the_cost_of_swapping(self) -> None:
        slow = carried()
        self.assertEqual(slow.bound, "memory")
        self.assertLess(slow.in_memory, 1.0)
        self.assertGreater(carried(machine=replace(MACHINE, memory_bytes=48 << 30)).metrics, slow.metrics)

    def test_a_slow_disk_is_told(self) -> None:
        self.assertEqual(carried(model=replace(MODEL, written_bytes_per_s=10e6)).bound, "disk speed")
        self.assertEqual(carried(model=replace(MODEL, read_bytes_per_s=50e6)).bound, "disk speed")

    def test_two_checkpoints_a_model_have_to_fit(self) -> None:
        small = carried(machine=replace(MACHINE, disk_free_bytes=8_000_000_000))
        self.assertEqual((small.metrics, small.bound), (10_000, "disk space"))

    def test_twice_the_cadence_is_at_least_as_many_metrics(self) -> None:
        numbers = [carried(cadence).metrics for cadence in (1, 2, 4, 8, 60, 300, 900)]
        self.assertEqual(numbers, sorted(numbers))
