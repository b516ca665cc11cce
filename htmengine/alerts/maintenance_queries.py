# SPDX-License-Identifier: MIT
"""The table maintenance: what was made through the API, the page or ``htmengine maintenance``.

As `repository.queries`: synchronous, ``conn`` first, in the caller's transaction.  Each change is audited, and counts
for all rows that are stored or judged after it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

from sqlalchemy import Connection

from htmengine.alerts.configuration import AlertConfig, Maintenance
from htmengine.alerts.evaluation import unlearnt_window
from htmengine.alerts.maintenance import KnownMaintenance, known_maintenance, maintenance_of, options_of
from htmengine.alerts.stored_options import StoredOptions
from htmengine.errors import InvalidMaintenance, MaintenanceNotFound
from htmengine.repository.schema import maintenance

_STORED = StoredOptions(maintenance, "maintenance", InvalidMaintenance)


def stored_maintenance(
    conn: Connection, config: AlertConfig, warn: Callable[[InvalidMaintenance], None] = lambda _: None
) -> list[KnownMaintenance]:
    """In the order of their names.  ``warn`` gets those that this version, or this machine, cannot read."""
    found = []
    for row in _STORED.rows(conn):
        try:
            made = _read(row.name, row.options, config.general.name_labels)
        except InvalidMaintenance as error:
            warn(error)
        else:
            found.append(KnownMaintenance(made, "stored", row.changed_at, row.changed_by))
    return found


@functools.lru_cache(maxsize=1000)
def _read(name: str, options: str, name_labels: tuple[str, ...]) -> Maintenance:
    """Made once, with the windows that it remembers."""
    return maintenance_of(name, json.loads(options), name_labels)


def known(conn: Connection, config: AlertConfig) -> list[KnownMaintenance]:
    """That of alerts.conf, its files as they are now, and the stored."""
    for each in config.maintenance:
        each.windows.renew()
    return known_maintenance(config, stored_maintenance(conn, config))


def in_force(conn: Connection, config: AlertConfig) -> list[Maintenance]:
    """The same without where it comes from."""
    return [each.maintenance for each in known(conn, config)]


def problems(conn: Connection, config: AlertConfig) -> list[str]:
    """What cannot be read of it."""
    unreadable: list[InvalidMaintenance] = []
    stored_maintenance(conn, config, unreadable.append)
    told = ((each.name, each.windows.renew()) for each in config.maintenance)
    return [*map(str, unreadable), *(f"maintenance {name!r}: {text}" for name, text in told if text)]


def unlearnt_windows(
    conn: Connection, config: AlertConfig
) -> Callable[[str, float], tuple[float, float] | None] | None:
    """The window, if any, whose rows a metric is not to learn, by its name and an epoch second; None: there is none."""
    unlearnt = [each for each in in_force(conn, config) if not each.learning]
    return functools.partial(unlearnt_window, unlearnt) if unlearnt else None


def put_maintenance(conn: Connection, made: Maintenance, who: str, now: float) -> bool:
    """Store maintenance; whether there is anything new.  Raises `InvalidMaintenance` when there is too much."""
    return _STORED.put(conn, made.name, json.dumps(options_of(made)), who, now)


def delete_maintenance(conn: Connection, name: str, who: str, now: float) -> None:
    """Remove stored maintenance; a window that is open ends.  Raises `MaintenanceNotFound`."""
    if not _STORED.remove(conn, name, who, now):
        raise MaintenanceNotFound(name)
