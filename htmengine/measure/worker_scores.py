# SPDX-License-Identifier: MIT
"""A series' raw scores by a worker of another kind, such as NuPIC's: spoken to as the scheduler does.

In: parameters, rows, the command that starts the worker.  Out: raw scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from twisted.internet.defer import Deferred

from htmengine.errors import BenchmarkFailed
from htmengine.htm.params import ModelParams
from htmengine.messages import InputRow
from htmengine.model_swapper.model_cache import RunnerOptions
from htmengine.model_swapper.turns import Outcome, Slice
from htmengine.model_swapper.worker_pool import WorkerPool
from htmengine.process.twisted_types import Reactor

#: Rows that are sent at once; a worker may answer fewer.
ROWS = 100
#: A worker without a sign of life for this long is given up.
TIMEOUT_S = 120.0
_MODEL = "0" * 32
_NEVER = 10**9


class WorkerScores:
    """One model in one worker, which is ended when all rows are scored.  ``folder`` is for its checkpoints."""

    def __init__(
        self,
        reactor: Reactor,
        command: Sequence[str],
        folder: Path,
        params: ModelParams,
        rows: Sequence[InputRow],
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._params = params
        self._rows = rows
        self._progress = progress
        self._raws: list[float] = []
        self._turn = 0
        self._finished: Deferred[None] = Deferred()
        self._pool = WorkerPool(
            reactor=reactor,
            workers=1,
            options=RunnerOptions(str(folder), checkpoint_rows=_NEVER, checkpoint_seconds=float(_NEVER)),
            command=command,
            timeout_s=TIMEOUT_S,
            on_started=lambda _: self._send(),
            on_answer=lambda worker, turn, outcomes: self._answered(outcomes[0]),
            on_death=lambda worker, culprit: self._fail("the worker died; its standard error says why"),
            on_troubles=lambda worker, texts: self._fail("; ".join(texts)) if texts else None,
            on_failure=lambda failure: self._fail(failure.getErrorMessage()),
        )

    async def run(self) -> NDArray[np.float64]:
        """The raw scores of all rows, shape (n,).  Raises `BenchmarkFailed`."""
        self._pool.start()
        try:
            await self._finished
            return np.array(self._raws, dtype=np.float64)
        finally:
            for worker in self._pool.pids():
                self._pool.kill(worker)
            await self._pool.stop()

    def _send(self) -> None:
        """The next rows; the first come with the definition."""
        at = len(self._raws)
        self._turn += 1
        definition = None if at else {"params": self._params.to_json()}
        sent = Slice(_MODEL, 1, at, tuple(self._rows[at : at + ROWS]), confirmed=at, definition=definition)
        self._pool.send_turn(0, self._turn, [sent])

    def _answered(self, outcome: Outcome) -> None:
        if outcome.error is not None or not outcome.rows:
            self._fail(outcome.error or f"the worker stands still after row {len(self._raws)}")
            return
        self._raws += [row.raw for row in outcome.rows]
        self._progress(len(outcome.rows))
        if len(self._raws) < len(self._rows):
            self._send()
        elif not self._finished.called:
            self._finished.callback(None)

    def _fail(self, why: str) -> None:
        if not self._finished.called:
            self._finished.errback(BenchmarkFailed(why))
