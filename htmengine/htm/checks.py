# SPDX-License-Identifier: MIT
"""Parameter classes whose fields are checked: the annotation of a field says what is allowed.

In: values from a program, a JSON document or a NuPIC model description.  Out: normalised values, or an
``InvalidModelSpec`` that names the field, the value and what is allowed.  Used by ``htmengine.htm.params``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Self, get_args, get_origin, get_type_hints

from htmengine.errors import InvalidModelSpec


def refusal(name: str, value: object, allowed: str) -> InvalidModelSpec:
    """The error for a value that is not allowed."""
    return InvalidModelSpec(f"{name}: {value!r} is not allowed; allowed is {allowed}")


@dataclass(frozen=True, slots=True)
class Whole:
    """Whole numbers from ``low`` to ``high``, or only the odd ones; 40.0 counts as 40."""

    low: int
    high: int
    odd: bool = False

    def check(self, name: str, value: object) -> int:
        """``value`` as an int, or InvalidModelSpec."""
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            whole = int(value)
            if whole == value and self.low <= whole <= self.high and not (self.odd and whole % 2 == 0):
                return whole
        kind = "an odd whole number" if self.odd else "a whole number"
        raise refusal(name, value, f"{kind} from {self.low} to {self.high}")


@dataclass(frozen=True, slots=True)
class Real:
    """Finite numbers from ``low`` to ``high``; ``above`` leaves ``low`` itself out."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def check(self, name: str, value: object) -> float:
        """``value`` as a float, or InvalidModelSpec."""
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            number = float(value)
            if self.low <= number <= self.high and not (self.above and number == self.low):
                return number
        raise refusal(name, value, self._allowed())

    def _allowed(self) -> str:
        if self.low == -math.inf:
            return "a finite number"
        low = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return f"a number {low}" + ("" if self.high == math.inf else f" to {self.high:g}")


_LARGEST = 1.7976931348623157e308


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false, also written 1 or 0."""

    def check(self, name: str, value: object) -> bool:
        """``value`` as a bool, or InvalidModelSpec."""
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise refusal(name, value, "true or false")
        return bool(value)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def check(self, name: str, value: object) -> str:
        """``value`` itself, or InvalidModelSpec."""
        if not isinstance(value, str) or value not in self.words:
            raise refusal(name, value, " or ".join(repr(word) for word in self.words))
        return value


Check = Whole | Real | Flag | OneOf


@dataclass(frozen=True, slots=True)
class Params:
    """What all parameter classes share: annotated fields are checked and normalised on construction.

    A subclass is a frozen dataclass with slots; a field is declared ``Annotated[type, check]``, or ``| None``.

    >>> @dataclass(frozen=True, slots=True)
    ... class Pool(Params):
    ...     columns: Annotated[int, Whole(1, 2048)] = 2048
    >>> Pool(40.0).columns
    40
    >>> Pool(0)
    Traceback (most recent call last):
    htmengine.errors.InvalidModelSpec: Pool.columns: 0 is not allowed; allowed is a whole number from 1 to 2048
    """

    def __post_init__(self) -> None:
        for name, (check, optional) in self.checks().items():
            value = getattr(self, name)
            if value is not None or not optional:
                object.__setattr__(self, name, check.check(f"{type(self).__name__}.{name}", value))
        self._check_together()

    @classmethod
    @cache
    def checks(cls) -> dict[str, tuple[Check, bool]]:
        """The checks by field name, with whether None is allowed; fields without a check are left out."""
        found: dict[str, tuple[Check, bool]] = {}
        for name, hint in get_type_hints(cls, include_extras=True).items():
            options = [hint] if get_origin(hint) is Annotated else list(get_args(hint))
            for option in options:
                if get_origin(option) is Annotated:
                    found[name] = (get_args(option)[1], type(None) in options)
        return found

    def _check_together(self) -> None:
        """Refuse values that are allowed each by itself but not together."""

    def _require(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise refusal(f"{type(self).__name__}.{name}", getattr(self, name), allowed)

    def to_json(self) -> dict[str, Any]:
        """All parameters as plain JSON values; ``from_json`` gives an equal object."""
        return {part.name: _to_json(getattr(self, part.name)) for part in fields(self)}

    @classmethod
    def from_json(cls, document: object, path: str = "params") -> Self:
        """The parameters that ``to_json`` wrote; ``path`` is what errors call the document.

        What is missing has its default.  Raises InvalidModelSpec for anything that is not allowed.
        """
        names = {part.name for part in fields(cls)}
        given = {}
        for name, value in as_object(path, document).items():
            if name not in names:
                raise InvalidModelSpec(f"{path}.{name}: no such parameter; there are {', '.join(sorted(names))}")
            given[name] = cls._read(name, value, f"{path}.{name}")
        try:
            return cls(**given)
        except TypeError as error:
            raise InvalidModelSpec(f"{path}: {error}") from error

    @classmethod
    def _read(cls, name: str, value: Any, path: str) -> Any:
        """The Python value of one JSON value, for the fields where they differ."""
        return value


def as_object(path: str, document: object) -> Mapping[str, Any]:
    """``document``, which must be a JSON object."""
    if not isinstance(document, Mapping):
        raise refusal(path, document, "an object")
    return document


def as_tuple(path: str, document: object) -> tuple[Any, ...]:
    """``document``, which must be a list, as a tuple."""
    if not isinstance(document, list | tuple):
        raise refusal(path, document, "a list")
    return tuple(document)


def _to_json(value: Any) -> Any:
    if isinstance(value, Params):
        return value.to_json()
    return [_to_json(item) for item in value] if isinstance(value, tuple) else value
