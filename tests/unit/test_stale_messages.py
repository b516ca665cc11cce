# SPDX-License-Identifier: MIT
"""What an older database and newer queues make of each other before an engine starts."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.bus.interface import DEFAULT_LIMITS
from htmengine.bus.queue_file import QueueFile
from htmengine.messages import (
    DEFINE_MODEL,
    DELETE_MODEL,
    CommandResult,
    InputRow,
    ModelCommand,
    ModelInput,
    ModelResult,
    ResultRow,
    encode_command_result,
    encode_model_command,
    encode_model_inputs,
    encode_results,
)
from htmengine.repository import counts, queries, troubles
from htmengine.runtime.stale_messages import drop_stale
from tests.support.database import new_database

ROWS = 20


class StaleMessagesTest(SynchronousTestCase):
    """A metric with 20 rows, and its model's first generation."""

    def setUp(self) -> None:
        self.database = new_database(self)
        metric, _ = self.database.run_sync(custom.monitor_metric, ModelSpec.for_name("m", min=0, max=10), 288)
        self.uid = metric.uid
        self.database.run_sync(queries.update_tails, [(self.uid, ROWS, 60 * ROWS)])
        self.file = QueueFile(Path(self.mktemp()))
        self.addCleanup(self.file.close)
        with self.file.transaction():
            for queue in ("shard.0", "results"):
                self.file.declare_queue(queue, DEFAULT_LIMITS, 0.0)

    def rows(self, last: int, generation: int = 1) -> bytes:
        return encode_model_inputs([ModelInput(self.uid, generation, last - 1, (InputRow(last, 60 * last, 1.0),))])

    def results(self, last: int, uid: str | None = None) -> bytes:
        return encode_results([ModelResult(uid or self.uid, 1, (ResultRow(last, 60 * last, 1.0, 0.5),))])

    def left(self, queue: str, *bodies: bytes) -> list[bytes]:
        """What is left of these messages."""
        with self.file.transaction():
            self.file.put(queue, bodies, {}, 0.0)
        dropped = drop_stale(self.file, self.database, ["shard.0", "shard.1"], "results", 7)
        left = [body for _, _, body in self.file.read(queue, 0, 100, 1 << 20).messages]
        self.assertEqual(len(left), len(bodies) - dropped)
        return left

    def test_rows_and_models_that_the_database_does_not_have_go(self) -> None:
        kept = [self.rows(ROWS), b"nonsense", encode_model_command(ModelCommand(DELETE_MODEL, self.uid, 2, "c"))]
        gone = [
            self.rows(ROWS + 1),
            self.rows(ROWS, 2),
            encode_model_command(ModelCommand(DEFINE_MODEL, self.uid, 2, "c")),
        ]
        self.assertEqual(self.left("shard.0", *kept, *gone), kept)
        [told] = self.database.run_sync(troubles.list_of)
        self.assertIn("it is older than the queue", told.message)
        self.assertEqual(self.database.run_sync(counts.get_totals)[counts.SET_ASIDE], 3)

    def test_so_do_their_results(self) -> None:
        answer = CommandResult(DEFINE_MODEL, self.uid, 1, "c")
        kept = [self.results(ROWS), self.results(99, "another"), encode_command_result(answer)]
        self.assertEqual(self.left("results", self.results(ROWS + 1), *kept), kept)

    def test_nothing_is_told_when_all_is_well(self) -> None:
        self.left("shard.0", self.rows(ROWS))
        self.assertEqual(self.database.run_sync(troubles.list_of), [])
