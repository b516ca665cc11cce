# SPDX-License-Identifier: MIT
"""Bytes to typed messages: what is not valid is an `InvalidMessage` that says where and why, never another error."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from htmengine.errors import InvalidMessage

#: What an error says of a value is cut to this many characters.
_MAX_ERROR_LENGTH = 300

T = TypeVar("T")


def read(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Read a body.  Raises `InvalidMessage`, with the path of what is wrong.

    >>> read(b'{"a": [1, "x"]}', msgspec.json.Decoder(dict[str, list[int]]))
    Traceback (most recent call last):
    htmengine.errors.InvalidMessage: $[...][1]: Expected `int`, got `str`
    """
    try:
        body.decode()  # properties that nobody knows are checked too
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidMessage(_placed(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"not JSON: {error}") from None
    except RecursionError:
        raise InvalidMessage("nested too deep") from None


def refuse_repeated(body: bytes, members: int = -1) -> None:
    """Raises `InvalidMessage` if an object has a property twice: readers would not agree which one counts.

    ``members`` is how many properties a body that was read turned out to have.  As each takes a colon, as many colons
    prove that nothing came twice; else the body is read again.
    """
    if body.count(b":") == members:
        return
    try:
        json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"not JSON: {error}") from None


def invalid(path: str, why: object) -> InvalidMessage:
    """The error for what no type can say."""
    return InvalidMessage(f"{path}: {str(why)[:_MAX_ERROR_LENGTH]}")


def _placed(text: str) -> str:
    """msgspec's words, the path first."""
    what, at, path = text.rpartition(" - at `")
    return f"{path[:-1]}: {what[:_MAX_ERROR_LENGTH]}" if at else f"$: {text[:_MAX_ERROR_LENGTH]}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidMessage(f"property {twice[:60]!r} comes twice")
    return found
