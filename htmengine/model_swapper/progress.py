# SPDX-License-Identifier: MIT
"""What the scheduler knows of one model: its state, how far it is, its rows in memory, the messages that wait for it.

`TRANSITIONS` is the machine of a model's states; docs/states.md has a picture that is made from it, and a paragraph on
each state.  `swap_controller` owns the models and decides.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from htmengine.errors import InvalidTransition
from htmengine.messages import SNAPSHOT_MODEL, InputRow, ModelCommand, ModelInput
from htmengine.model_swapper.turns import Slice, Verdict

#: Names a message of a shard queue until it is acknowledged.
MessageToken: TypeAlias = int


class ModelState(enum.Enum):
    """Where a model is; `TRANSITIONS` has what leads from one to another."""

    IDLE = "idle"  #: nothing to do
    READY = "ready"  #: waits for its turn
    RUNNING = "running"  #: in a turn that a worker has not answered
    FETCHING = "fetching"  #: waits for rows or its definition from the database
    FAILED = "failed"  #: in ERROR: its rows are let go until it is defined again
    FORGOTTEN = "forgotten"  #: not the controller's any more, though a turn or an answer may still be on its way

    __hash__ = object.__hash__  # members are compared by identity; Enum's own hash is slow


#: The members by themselves: tables and decisions read better, and Python 3.11 takes its time for ``ModelState.IDLE``.
IDLE, READY, RUNNING, FETCHING, FAILED, FORGOTTEN = ModelState

_LEFT = "deleted, defined again, or its shard is another scheduler's"
_BROKEN = "its messages or results cannot be processed"

#: From one state to the next, and when.  No other transition is possible.
TRANSITIONS: Mapping[tuple[ModelState, ModelState], str] = {
    (IDLE, READY): "rows in memory, a command, or a question to its worker",
    (IDLE, FETCHING): "the next rows are not in memory",
    (IDLE, FAILED): _BROKEN,
    (READY, RUNNING): "its turn is sent",
    (READY, FAILED): _BROKEN,
    (RUNNING, IDLE): "the worker answered, or died",
    (RUNNING, FETCHING): "the worker has no such model, or a checkpoint without proof",
    (RUNNING, FAILED): "the model failed, or killed too many workers",
    (FETCHING, IDLE): "the database answered",
    (FETCHING, FAILED): "its data in the database cannot be read",
    (IDLE, FORGOTTEN): _LEFT,
    (READY, FORGOTTEN): _LEFT,
    (RUNNING, FORGOTTEN): _LEFT,
    (FETCHING, FORGOTTEN): _LEFT,
    (FAILED, FORGOTTEN): _LEFT,
}
_FOLLOWERS = {state: tuple(after for before, after in TRANSITIONS if before is state) for state in ModelState}

#: The last transitions of all models: model, generation, from, to.
TransitionLog: TypeAlias = deque[tuple[str, int, ModelState, ModelState]]


@dataclass(slots=True, eq=False)
class Progress:
    """One generation of a model.  `go` alone changes ``state``."""

    model_id: str
    generation: int
    log: TransitionLog = field(repr=False)  #: of all models together
    state: ModelState = IDLE
    target: int = 0  #: the greatest rowid that exists, as far as we were told
    done: int | None = None  #: the last rowid that the worker ran; None: only the worker knows
    handed_out: int = 0  #: results up to here went into a Publish already
    confirmed: int = 0  #: results up to here are published
    after: int = 0  #: the rowid before ``rows[0]``
    rows: deque[InputRow] = field(default_factory=deque)  #: each directly follows the one before
    definition: dict[str, Any] | None = None  #: fetched because the worker asked for it
    verdict: Verdict | None = None  #: likewise
    commands: deque[tuple[ModelCommand, MessageToken]] = field(default_factory=deque)
    tickets: deque[tuple[int, MessageToken]] = field(default_factory=deque)  #: (rowid, message that brought it)
    strikes: int = 0  #: workers that died of this model since it last got past ``struck_at``
    struck_at: int = 0

    # --- states

    def go(self, after: ModelState) -> None:
        """To another state.  Raises `InvalidTransition`, with what the model did before, if none leads there."""
        before = self.state
        if after not in _FOLLOWERS[before]:
            raise InvalidTransition(self.model_id, before.value, after.value, self.story())
        self.log.append((self.model_id, self.generation, before, after))
        self.state = after

    def story(self) -> list[str]:
        """The model's last transitions, of all its generations, as far as the log has them."""
        return [
            f"generation {generation}: {before.value} to {after.value}"
            for model_id, generation, before, after in self.log
            if model_id == self.model_id
        ]

    # --- what waits for it

    def next_command(self) -> ModelCommand | None:
        """The command whose turn it is: a snapshot waits for the rows that it is to contain."""
        command = self.commands[0][0] if self.commands else None
        if (
            command is not None
            and command.method == SNAPSHOT_MODEL
            and (self.done is None or self.done < up_to(command))
        ):
            return None
        return command

    def settled(self) -> list[MessageToken]:
        """Takes the messages whose rows of this model are done.  Tickets wait in the order in which they came."""
        messages = []
        while self.tickets and self.done is not None and self.tickets[0][0] <= self.done:
            messages.append(self.tickets.popleft()[1])
        return messages

    def let_go(self) -> list[MessageToken]:
        """Takes all messages that wait for this model."""
        messages = [message for _, message in self.tickets]
        messages += [message for _, message in self.commands]
        self.tickets.clear()
        self.commands.clear()
        return messages

    @property
    def awaits_definition(self) -> bool:
        """Whether its definition is on its way, or here and not used."""
        held = self.definition is not None and self.state in (READY, RUNNING)
        return held or self.state is FETCHING

    def next_slice(self, most: int) -> Slice:
        """Its part of a turn: a command, at most that many rows, or the question how far the worker is."""
        command = self.next_command()
        rows: tuple[InputRow, ...] = ()
        if command is not None:
            after = 0
        elif self.rows:
            rows, after = tuple(islice(self.rows, most)), self.after
        else:
            after = self.target
        return Slice(
            self.model_id, self.generation, after, rows, self.confirmed, self.definition, command, self.verdict
        )

    # --- rows in memory

    def keep(self, model_input: ModelInput, most: int) -> None:
        """Keep new rows if they follow those in memory, which stay at most ``most``; others are fetched later."""
        if self.rows:
            last = self.rows[-1].rowid
            if model_input.after > last:
                return
        else:
            last = self.after = max(model_input.after, self.done or 0)
        fresh = [row for row in model_input.rows if row.rowid > last]
        if len(self.rows) + len(fresh) <= most:
            self.rows.extend(fresh)

    def fetched(self, after: int, rows: Sequence[InputRow], *, complete: bool) -> None:
        """The rows after a rowid take the place of those in memory, but for what directly follows them there.

        ``complete``: the database has no more, so nothing can lie between.
        """
        last = rows[-1].rowid if rows else self.done or 0
        tail = [row for row in self.rows if row.rowid > last] if complete or last >= self.after else []
        self.after = after
        self.rows = deque([*rows, *tail])

    def ran_to(self, rowid: int) -> None:
        """The worker has run the rows up to here, by whatever definition it was given."""
        self.done = rowid
        self.definition = self.verdict = None
        while self.rows and self.rows[0].rowid <= rowid:
            self.after = self.rows.popleft().rowid


def up_to(command: ModelCommand) -> int:
    """The rows up to here are to be run through the model: after the command that makes it, before a snapshot."""
    return int(command.args.get("upTo", 0))
