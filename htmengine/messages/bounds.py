# SPDX-License-Identifier: MIT
"""What the values in messages may be: no more than the database, the models and the file system can hold.

The types are checked when a message is decoded; the JSON Schemas of the public messages are made from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta

from htmengine.labels import MAX_NAME_LENGTH

#: What the columns rowid, generation and version hold.
MAX_INTEGER: Final = 2**31 - 1
#: Years 1000 to 9999, which every database holds.
MIN_DATE, MAX_DATE = -30_610_224_000, 253_402_300_799
#: Reasons that rejects are counted under.
MAX_REASON_LENGTH: Final = 40
#: The address of who sent a sample.
MAX_SENDER_LENGTH: Final = 100
#: What is shown of a line that was rejected.
MAX_SHOWN_LENGTH: Final = 120
#: Texts for people, such as why a model fails; each character takes up to 4 of the 65,535 bytes of a text column.
MAX_TEXT_LENGTH: Final = 16_000
#: What the column of a model's state holds, as base64.
MAX_STATE_LENGTH: Final = 22_000_000
#: Free JSON, such as a model's parameters, is nested at most this deep.
MAX_DEPTH: Final = 32

Rowid: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
#: A rowid, or 0: before the first row.
RowidOrZero: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Generation: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Version: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Timestamp: TypeAlias = Annotated[int, Meta(ge=MIN_DATE, le=MAX_DATE, description="Epoch seconds, UTC.")]
#: When something was received, epoch seconds.
Moment: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_DATE, description="For the self-metrics, epoch seconds.")]
Score: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
#: A model's id names its files too.  `$(?!\n)`: in Python `$` alone lets a line feed follow.
Uid: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=40, pattern=r"^[0-9A-Za-z_.\-]+$(?!\n)", description="The metric's uid.")
]
#: No database but SQLite takes NUL in a text.
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=r"^[^\u0000]+$")]
Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH, pattern=r"^[^\u0000]*$")]
#: Names a command or a batch.  Some databases leave out spaces at the end when they compare.
Token: TypeAlias = Annotated[str, Meta(max_length=64)]
Pair: TypeAlias = Annotated[list[float], Meta(min_length=2, max_length=2)]
#: {step: [[value, probability], ...]}, as the results exchange carries it.
Steps: TypeAlias = Annotated[dict[str, Annotated[list[Pair], Meta(max_length=10_000)]], Meta(max_length=1000)]


def fitting(text: str) -> str:
    """A text for people made a `Text`.

    >>> fitting("a\\0b")
    'a\\ufffdb'
    """
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[:MAX_TEXT_LENGTH]


def is_token(text: str) -> bool:
    """Whether a database can keep the text and tell it from others."""
    return text.isprintable() and text == text.strip()


def check_depth(value: Any, deepest: int = MAX_DEPTH) -> None:
    """Raises ValueError if JSON is nested deeper than those who pass it on can follow."""
    if deepest == 0:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return
    for each in value:
        check_depth(each, deepest - 1)
