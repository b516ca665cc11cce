# SPDX-License-Identifier: MIT
"""Options of a section of alerts.conf as plain data: as the API, the page and the database have them.

In: JSON.  Out: the values of a section's fields and what is wrong with them; the same back.  Pure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from htmengine.alerts.kinds import Change


def fields_of(section: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """A section's options by name."""
    return {each.name: each for each in dataclasses.fields(section) if each.metadata}


def read(
    fields: Mapping[str, dataclasses.Field[Any]], options: Mapping[str, Any]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The values, and (option, what is wrong with it)."""
    values: dict[str, Any] = {}
    problems = []
    for option, value in options.items():
        try:
            values[option] = fields[option].metadata["kind"].read(_as_text(value))
        except KeyError:
            problems.append((option, f"unknown; allowed are {', '.join(fields)}"))
        except ValueError:
            problems.append((option, f"{fields[option].metadata['kind'].allowed} is allowed"))
    return values, problems


def changed(fields: Mapping[str, dataclasses.Field[Any]], section: Any) -> dict[str, Any]:
    """The options that are not as by default, as JSON has them."""
    names = [each.name for each in fields.values() if getattr(section, each.name) != each.default]
    return {name: _as_plain(name, getattr(section, name)) for name in names}


def _as_text(value: Any) -> str:
    """A value as it stands in alerts.conf."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_single(name)}={_single(_as_text(each))}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_as_text, value))
    return value if isinstance(value, str) else repr(value)


def _single(text: str) -> str:
    if set(text) & set(",\n"):
        raise ValueError(text)
    return text


def _as_plain(option: str, value: Any) -> Any:
    if option == "valid_range":
        return "..".join("" if math.isinf(each) else repr(each) for each in value)
    if option == "silence":
        return False if value is None else value
    if option in {"labels", "severity"}:
        return dict(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, Change | ZoneInfo):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
