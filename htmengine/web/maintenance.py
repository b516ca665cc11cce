# SPDX-License-Identifier: MIT
"""The API's part about maintenance: that of alerts.conf, and the stored, which is changed here.

In: calls that may go on.  Out: JSON.  docs/http-api.md describes all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from htmengine.alerts import maintenance_queries
from htmengine.alerts.calendars import upcoming
from htmengine.alerts.configuration import AlertConfig
from htmengine.alerts.maintenance import KnownMaintenance, maintenance_of, options_of
from htmengine.errors import InvalidMaintenance, MaintenanceNotFound
from htmengine.process.twisted_types import Clock
from htmengine.repository.engine import Database
from htmengine.web.document import Document
from htmengine.web.http import JSON, Call, Reply
from htmengine.web.reader import Reader, shielded
from htmengine.web.refused import Refused
from htmengine.web.views import encoded

#: Windows of each that are told.
MOST_NEXT = 5


@dataclass(frozen=True, slots=True)
class MaintenanceApi:
    """What the handlers use.  ``config``: alerts.conf."""

    database: Database
    reader: Reader
    clock: Clock
    document: Document
    config: AlertConfig

    async def list_maintenance(self, call: Call) -> Reply:
        return await self._read(_list)

    async def get_maintenance(self, call: Call) -> Reply:
        return await self._read(_one, call.path["maintenance"])

    async def put_maintenance(self, call: Call) -> Reply:
        name, now, who = call.path["maintenance"], self.clock.seconds(), call.who
        options = self.document.operations["put_maintenance"].read_body(call.body(JSON))
        self._refuse_declared(name)
        try:
            made = maintenance_of(name, options)
            await shielded(self.database.run(maintenance_queries.put_maintenance, made, who, now))
        except InvalidMaintenance as error:
            raise Refused(422, str(error), error.problems) from None
        return await self._read(_one, name)

    async def delete_maintenance(self, call: Call) -> Reply:
        name, now, who = call.path["maintenance"], self.clock.seconds(), call.who
        self._refuse_declared(name)
        await shielded(self.database.run(maintenance_queries.delete_maintenance, name, who, now))
        return Reply(status=204, content_type="")

    # --- parts ------------------------------------------------------------------------------------------

    def _refuse_declared(self, name: str) -> None:
        if name in {each.name for each in self.config.maintenance}:
            raise Refused(409, f"maintenance {name!r} stands in alerts.conf; change it there, or take another name")

    async def _read(self, view: Callable[..., Any], *args: Any) -> Reply:
        return Reply(await self.reader.read(encoded, view, self.config, self.clock.seconds(), *args))


# --- views ----------------------------------------------------------------------------------------------


def _list(conn: Connection, config: AlertConfig, now: float) -> dict[str, Any]:
    return {"maintenance": [_json(each, now) for each in maintenance_queries.known(conn, config)]}


def _one(conn: Connection, config: AlertConfig, now: float, name: str) -> dict[str, Any]:
    known = {each.maintenance.name: each for each in maintenance_queries.known(conn, config)}
    if name not in known:
        raise MaintenanceNotFound(name)
    return _json(known[name], now)


def _json(each: KnownMaintenance, now: float) -> dict[str, Any]:
    next_windows = upcoming(each.maintenance.windows, now, MOST_NEXT)
    return {
        "name": each.maintenance.name,
        "source": each.source,
        "options": options_of(each.maintenance),
        "changed_at": each.changed_at,
        "changed_by": each.changed_by,
        "next": [{"from": window.start, "until": window.end} for window in next_windows],
    }
