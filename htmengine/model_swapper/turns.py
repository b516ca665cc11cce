# SPDX-License-Identifier: MIT
"""What the scheduler asks of a worker, and its answer: a turn is some slices, answered by an outcome for each.

Made and read by `swap_controller`, run by `model_runner`, carried by `frames`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from htmengine.messages import InputRow, ModelCommand, ResultRow


class Need(enum.Enum):
    """What keeps a worker from running a slice."""

    ROWS = "rows"  #: the model is behind ``after``
    DEFINITION = "definition"  #: neither in memory nor in a checkpoint
    PROOF = "proof"  #: its checkpoint may rest on rows that the database has no more


@dataclass(frozen=True, slots=True)
class Claim:
    """What a checkpoint says of itself: the rows up to ``rowid``, with this digest, went into it."""

    rowid: int
    digest: int | None  #: None: not known


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the database says to a claim."""

    claim: Claim
    fits: bool  #: False: it has other rows, or fewer
    scored: int  #: the rows up to here have their scores
    digest: int | None = None  #: after the claim's last row, as far as it is known


@dataclass(frozen=True, slots=True)
class Slice:
    """A model's part of a turn: at most one command, then rows that directly follow the row ``after``."""

    model_id: str
    generation: int
    after: int = 0
    rows: tuple[InputRow, ...] = ()
    confirmed: int = 0  #: results up to this row are safe; a checkpoint has to carry those after it
    #: When the worker asked for it: the model's parameters, and the state that it starts from, if not from nothing.
    definition: dict[str, Any] | None = None
    command: ModelCommand | None = None
    verdict: Verdict | None = None  #: when the worker asked for proof


@dataclass(frozen=True, slots=True)
class Outcome:
    """A worker's answer to one slice."""

    model_id: str
    generation: int
    at: int = 0  #: the model's last rowid now
    rows: tuple[ResultRow, ...] = ()
    need: Need | None = None
    error: str | None = None  #: the model failed; the text goes into the metric's message
    model: bytes | None = None  #: the model's state, for the command snapshotModel
    claim: Claim | None = None  #: what needs proof
    refused: str | None = None  #: why the command cannot be done; the model is as it was
