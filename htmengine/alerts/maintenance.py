# SPDX-License-Identifier: MIT
"""Maintenance as plain data, as the API and the table maintenance have it, and which is in force.

In: JSON with the options of ``[maintenance:NAME]``; alerts.conf; what is stored.  Out: a `Maintenance`, or
`InvalidMaintenance` that names the options.  Maintenance of alerts.conf hides stored one of the same name.  Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from htmengine.alerts import plain_options
from htmengine.alerts.configuration import AlertConfig, Maintenance, windows_of
from htmengine.alerts.kinds import NAME, NAME_ALLOWED
from htmengine.errors import InvalidMaintenance

_DECLARED = plain_options.fields_of(Maintenance)
#: Who writes alerts.conf may name files of the machine; who only has a token may not.
_OPTIONS = {name: each for name, each in _DECLARED.items() if name != "calendar"}


@dataclass(frozen=True, slots=True)
class KnownMaintenance:
    """Maintenance in force, where it comes from, and who stored it when."""

    maintenance: Maintenance
    source: Literal["alerts.conf", "stored"]
    changed_at: float | None = None
    changed_by: str | None = None


def known_maintenance(config: AlertConfig, stored: Iterable[KnownMaintenance]) -> list[KnownMaintenance]:
    """What is in force: that of alerts.conf, then the stored.

    >>> stored = KnownMaintenance(Maintenance("night"), "stored")
    >>> [each.source for each in known_maintenance(AlertConfig(maintenance=(Maintenance("night"),)), [stored])]
    ['alerts.conf']
    """
    hidden = {each.name for each in config.maintenance}
    return [
        *(KnownMaintenance(each, "alerts.conf") for each in config.maintenance),
        *(each for each in stored if each.maintenance.name not in hidden),
    ]


def maintenance_of(name: str, options: Mapping[str, Any], name_labels: tuple[str, ...] = ()) -> Maintenance:
    """Maintenance of plain options.  Raises `InvalidMaintenance`.

    >>> maintenance_of("move", {"metrics": ["db*"], "at": "2026-03-01 22:00"}).windows.window(1_772_402_400.0)
    Window(start=1772402400.0, end=1772406000.0)
    """
    values, problems = plain_options.read(_OPTIONS, options)
    if not NAME.fullmatch(name):
        problems.append(("name", NAME_ALLOWED))
    if problems:
        raise InvalidMaintenance(name, problems)
    section = Maintenance(name, **values, name_labels=name_labels)
    return dataclasses.replace(section, windows=windows_of(section, Path()))


def options_of(maintenance: Maintenance) -> dict[str, Any]:
    """Its options as JSON has them, but those that are as by default.

    >>> options_of(Maintenance(cron="0 2 * * *", learning=False))
    {'cron': '0 2 * * *', 'learning': False}
    """
    return plain_options.changed(_DECLARED, maintenance)
