# SPDX-License-Identifier: MIT
"""Tables of options by name, which people change while the engine runs: each change is audited.

As `repository.queries`: synchronous, ``conn`` first, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from htmengine.errors import InvalidOptions
from htmengine.repository.audit import Act, record

#: Rows that a table has at most.
MOST_STORED = 1000


@dataclass(frozen=True, slots=True)
class StoredOptions:
    """One of them.  ``what``: what a row is, as the audit tells it; ``refused``: the error when there are too many."""

    table: Table
    what: str
    refused: type[InvalidOptions]

    def rows(self, conn: Connection) -> Sequence[Any]:
        """In the order of their names."""
        return conn.execute(select(self.table).order_by(self.table.c.name)).all()

    def version(self, conn: Connection) -> tuple[int, float]:
        """Changes with each change."""
        count, newest = conn.execute(select(func.count(), func.max(self.table.c.changed_at))).one()
        return int(count), float(newest or 0.0)

    def put(self, conn: Connection, name: str, options: str, who: str, now: float) -> bool:
        """Store options in place of those of that name; whether there is anything new."""
        c = self.table.c
        before = conn.execute(select(c.options).where(c.name == name).with_for_update()).scalar()
        if before == options:
            return False
        count, newest = self.version(conn)
        values = {"options": options, "changed_at": max(now, newest + 0.001), "changed_by": who}
        if before is not None:
            conn.execute(update(self.table).where(c.name == name).values(values))
        elif count >= MOST_STORED:
            raise self.refused(name, [("name", f"{MOST_STORED} are stored, which is the most")])
        else:
            conn.execute(insert(self.table), {"name": name, **values})
        record(conn, Act(now, who, f"{'changed' if before else 'added'} {self.what}", name, options))
        return True

    def remove(self, conn: Connection, name: str, who: str, now: float) -> bool:
        """Remove what has that name; whether there was any."""
        found = bool(conn.execute(delete(self.table).where(self.table.c.name == name)).rowcount)
        if found:
            record(conn, Act(now, who, f"removed {self.what}", name))
        return found
