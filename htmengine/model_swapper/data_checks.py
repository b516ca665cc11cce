# SPDX-License-Identifier: MIT
"""Whether database and checkpoints belong together, and no row was passed by.

In: the checkpoints' names, and the database.  Out: what is wrong, in sentences, which
`htmengine.telemetry.trouble_watch` tells the operator.  Nothing is changed.
"""

from __future__ import annotations

from sqlalchemy import Connection

from htmengine.model_swapper.checkpoints import CheckpointStore
from htmengine.process.twisted_types import Clock
from htmengine.repository import holes, queries
from htmengine.repository.engine import Database

#: How often rows without a score are looked for.
HOLES_S = 3600.0
#: A model whose metric is being deleted has its checkpoint for a moment longer.
PATIENCE_S = 60.0
#: Metrics that are named.
NAMED = 10


class DataChecks:
    """Looks at one engine's database, and at the checkpoints of one scheduler."""

    def __init__(self, *, database: Database, store: CheckpointStore, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._fitted_at = float("-inf")  #: the last look at which database and checkpoints belonged together
        self._holes: list[str] = []
        self._holes_due = 0.0

    async def look(self) -> list[str]:
        """What is wrong now."""
        strangers = await self._database.read(models_without_metrics, self._store)
        now = self._clock.seconds()
        if not strangers:
            self._fitted_at = now
        if now >= self._holes_due:
            self._holes_due = now + HOLES_S
            self._holes = await self._find_holes()
        return [*([self._told(strangers)] if now - self._fitted_at > PATIENCE_S else []), *self._holes]

    def _told(self, strangers: int) -> str:
        return (
            f"{self._store.root} has checkpoints of {strangers} models, and the database has none of their metrics: it"
            " is empty, new or another one; the checkpoints stay until you bring their database back or remove them"
        )

    async def _find_holes(self) -> list[str]:
        found: dict[str, int] = {}
        after: str | None = ""
        while after is not None:
            more, after = await self._database.read(holes.find, after=after)
            found |= more
        told = [
            f"{rows} of the newest {holes.ROWS_BACK} scored rows of {name} have no raw score:"
            f" `htmengine monitor` gives it a new model, which scores all its rows"
            for name, rows in list(found.items())[:NAMED]
        ]
        more_metrics = len(found) - len(told)
        return [*told, f"the same of {more_metrics} metrics more"] if more_metrics else told


def models_without_metrics(conn: Connection, store: CheckpointStore) -> int:
    """How many models have checkpoints, if the database has a metric of none of them; else 0."""
    models = 0
    for some in store.model_ids():
        if queries.last_rowids(conn, sorted(some)):
            return 0
        models += len(some)
    return models
