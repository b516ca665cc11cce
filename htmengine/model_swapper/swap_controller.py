# SPDX-License-Identifier: MIT
"""Which models wait, run and fetch: the scheduler's decisions, without any I/O.

In: events (messages from the shard queues, answers of the workers, rows from the database).
Out: instructions, a list for each event, that `model_scheduler_service` performs.  docs/states.md has a
paragraph on each state of a model.

The database holds every row before its model is told of it, so this class may forget rows at any time:
it keeps for each model how far it should get (``target``), how far it got (``done``) and a few rows; whatever
is missing is fetched again.  The worker alone knows how far a model really is: it answers a slice that does
not fit with what it needs.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from htmengine.messages import (
    DELETE_MODEL,
    SNAPSHOT_MODEL,
    CommandResult,
    InputRow,
    ModelCommand,
    ModelError,
    ModelInput,
    ModelResult,
    ModelSnapshot,
    ResultRow,
)
from htmengine.sharding import shard_of

#: Names a message of a shard queue until it is acknowledged.
MessageToken: TypeAlias = int

#: What goes to the results queue beside results.
Notice: TypeAlias = CommandResult | ModelSnapshot | ModelError


class ModelState(enum.Enum):
    """Where a model is.  IDLE -> READY -> RUNNING -> (IDLE | READY | FETCHING | FAILED)."""

    IDLE = "idle"  #: nothing to do
    READY = "ready"  #: waits for its turn
    RUNNING = "running"  #: in a turn that a worker has not answered
    FETCHING = "fetching"  #: waits for rows or its definition from the database
    FAILED = "failed"  #: in ERROR: its rows are let go until it is defined anew


# --- events of the workers and instructions to them -----------------------------------------------------


class Need(enum.Enum):
    """What keeps a worker from running a slice."""

    ROWS = "rows"  #: the model is behind ``after``
    DEFINITION = "definition"  #: neither in memory nor in a checkpoint


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


@dataclass(frozen=True, slots=True)
class RunTurn:
    """Send these slices to a worker; it answers them together."""

    worker: int
    turn: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class FetchRows:
    """Read rows after a rowid from metric_data; answer with `SwapController.rows_fetched`."""

    model_id: str
    generation: int
    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class FetchDefinition:
    """Read a model's parameters from its metric; answer with `SwapController.definition_fetched`."""

    model_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish to the results queue, in this order; then `SwapController.published` with ``publication``."""

    publication: int
    results: tuple[ModelResult, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """All that these messages asked for is done and durable."""

    messages: tuple[MessageToken, ...]


Instruction: TypeAlias = RunTurn | FetchRows | FetchDefinition | Publish | Acknowledge


# --- state ----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Progress:
    """What the controller knows of one model."""

    model_id: str
    generation: int
    state: ModelState = ModelState.IDLE
    target: int = 0  #: the greatest rowid that exists, as far as we were told
    done: int | None = None  #: the last rowid that the worker ran; None: only the worker knows
    handed_out: int = 0  #: results up to here went into a Publish already
    confirmed: int = 0  #: results up to here are published
    after: int = 0  #: the rowid before ``rows[0]``
    rows: deque[InputRow] = field(default_factory=deque)  #: each directly follows the one before
    definition: dict[str, Any] | None = None  #: fetched because the worker asked for it
    commands: deque[tuple[ModelCommand, MessageToken]] = field(default_factory=deque)
    tickets: deque[tuple[int, MessageToken]] = field(default_factory=deque)  #: (rowid, message that brought it)
    strikes: int = 0  #: workers that died of this model since it last got past ``struck_at``
    struck_at: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the controller's memory and of one turn."""

    rows_per_turn: int = 500  #: rows of one model in a turn
    rows_in_turn: int = 1000  #: rows of all models in a turn
    models_in_turn: int = 200
    turns_ahead: int = 2  #: turns that a worker may have before it answers the first
    rows_cached: int = 2000  #: rows of one model in memory; more are fetched when their turn comes
    strikes: int = 3  #: workers that one model may kill


DEFAULT_LIMITS = Limits()


class SwapController:
    """Decides what runs next.  Each public method takes one event and returns instructions.

    >>> controller = SwapController(shards=4, workers=1)
    >>> controller.worker_started(0)
    []
    >>> row = InputRow(rowid=1, timestamp=60, value=0.5)
    >>> [turn] = controller.inputs_arrived(7, [ModelInput("m", 1, after=0, rows=(row,))])
    >>> turn.slices[0].rows == (row,)
    True
    """

    def __init__(self, *, shards: int, workers: int, limits: Limits = DEFAULT_LIMITS) -> None:
        self._shards = shards
        self._workers = workers
        self._limits = limits
        self._models: dict[str, Progress] = {}
        self._ready: list[deque[Progress]] = [deque() for _ in range(workers)]
        #: worker that runs -> turn -> its models and slices, in the order they were sent
        self._turns: dict[int, dict[int, list[tuple[Progress, Slice]]]] = {}
        #: message -> how many of its parts are not done
        self._open_parts: dict[MessageToken, int] = {}
        #: publication -> messages with a part that is done once it is published, and its models' last rows
        self._publications: dict[int, tuple[list[MessageToken], list[tuple[Progress, int]]]] = {}
        self._cached_rows = 0
        self._serial = 0
        self._draining = False

    # --- what can be seen of it ------------------------------------------------------------------------

    @property
    def open_messages(self) -> int:
        """Messages that are not acknowledged."""
        return len(self._open_parts)

    @property
    def cached_rows(self) -> int:
        """Rows in memory, of all models."""
        return self._cached_rows

    @property
    def at_rest(self) -> bool:
        """No worker runs a turn and no result waits to be published."""
        return not self._publications and not any(self._turns.values())

    def states(self) -> dict[ModelState, int]:
        """How many models are in each state."""
        counts = dict.fromkeys(ModelState, 0)
        for model in self._models.values():
            counts[model.state] += 1
        return counts

    # --- events: messages ------------------------------------------------------------------------------

    def inputs_arrived(self, message: MessageToken, inputs: Sequence[ModelInput]) -> list[Instruction]:
        """A message with rows of some models."""
        instructions: list[Instruction] = []
        self._open_parts[message] = 1  # held until all parts are counted
        for model_input in inputs:
            model = self._model(model_input.model_id, model_input.generation, instructions)
            if model is None or model.state is ModelState.FAILED:
                continue
            self._open_parts[message] += 1
            model.tickets.append((model_input.last_rowid, message))
            model.target = max(model.target, model_input.last_rowid)
            self._cache(model, model_input)
            self._advance(model, instructions)
        self._finish([message], instructions)
        return self._dispatched(instructions)

    def command_arrived(self, message: MessageToken, command: ModelCommand) -> list[Instruction]:
        """A message with a command for one model."""
        instructions: list[Instruction] = []
        self._open_parts[message] = 1
        if command.method == DELETE_MODEL:
            self._drop(command.model_id, command.generation, instructions)
        model = self._model(command.model_id, command.generation, instructions)
        if model is None or model.state is ModelState.FAILED:
            self._finish([message], instructions)
            return self._dispatched(instructions)
        model.target = max(model.target, _up_to(command))
        model.commands.append((command, message))
        self._advance(model, instructions)
        return self._dispatched(instructions)

    def shard_left(self, shard: int) -> list[Instruction]:
        """Another scheduler has the shard's models now: forget them.  Their messages come to it again."""
        instructions: list[Instruction] = []
        for model in [each for each in self._models.values() if shard_of(each.model_id, self._shards) == shard]:
            self._drop(model.model_id, model.generation, instructions)
        return instructions

    # --- events: workers -------------------------------------------------------------------------------

    def worker_started(self, worker: int) -> list[Instruction]:
        """A worker process is ready for turns."""
        self._turns[worker] = {}
        return self._dispatched([])

    def turn_done(self, worker: int, turn: int, outcomes: Sequence[Outcome]) -> list[Instruction]:
        """A worker's answer to `RunTurn`: an outcome for each slice, in the same order."""
        instructions: list[Instruction] = []
        sent_out = self._turns[worker].pop(turn)
        results: list[ModelResult] = []
        notices: list[Notice] = []
        done: list[MessageToken] = []
        for (model, sent), outcome in zip(sent_out, outcomes, strict=True):
            if not self._is_current(model):
                continue  # deleted or defined anew since
            if outcome.error is not None:
                self._fail(model, outcome.error, notices, done)
                continue
            if sent.command is not None and outcome.need is None:
                self._command_done(model, outcome, notices, done)
                if sent.command.method == DELETE_MODEL:
                    continue
            self._rows_done(model, sent, outcome, results, done)
            self._proceed(model, outcome, instructions)
        if results or notices or done:
            instructions.insert(0, self._publish(results, notices, done))
        return self._dispatched(instructions)

    def worker_died(self, worker: int, culprit: str | None) -> list[Instruction]:
        """A worker process is gone; ``culprit`` is the model that it was running.

        What it had not answered is done again: from the checkpoint, and rows after it from metric_data.
        """
        instructions: list[Instruction] = []
        for sent_out in self._turns.pop(worker, {}).values():
            for model, sent in sent_out:
                if not self._is_current(model):
                    continue
                self._forget_rows(model)
                model.done = None
                if sent.model_id == culprit:
                    culprit = None  # the model may be in the next turn too
                    self._strike(model, sent, instructions)
                if model.state is ModelState.RUNNING:
                    model.state = ModelState.IDLE
                    self._advance(model, instructions)
        return instructions

    # --- events: database and bus ----------------------------------------------------------------------

    def rows_fetched(self, asked: FetchRows, rows: Sequence[InputRow]) -> list[Instruction]:
        """The rows that `FetchRows` asked for; fewer than its limit if there are no more."""
        instructions: list[Instruction] = []
        model = self._fetching(asked.model_id, asked.generation)
        if model is None:
            return instructions
        tail = self._rows_beyond(model, rows, complete=len(rows) < asked.limit)
        self._forget_rows(model)
        model.after = asked.after
        model.rows.extend([*rows, *tail])
        self._cached_rows += len(model.rows)
        if not model.rows:  # they were deleted from the database
            model.done = model.target
            done = self._settled(model)
            if done:
                instructions.append(self._publish([], [], done))
        model.state = ModelState.IDLE
        self._advance(model, instructions)
        return self._dispatched(instructions)

    def definition_fetched(self, asked: FetchDefinition, definition: dict[str, Any] | None) -> list[Instruction]:
        """The parameters that `FetchDefinition` asked for; None if the metric has no such model any more."""
        instructions: list[Instruction] = []
        model = self._fetching(asked.model_id, asked.generation)
        if model is None:
            return instructions
        if definition is None:
            self._drop(model.model_id, model.generation, instructions)
        else:
            model.definition = definition
            model.done = None
            model.state = ModelState.IDLE
            self._advance(model, instructions)
        return self._dispatched(instructions)

    def published(self, publication: int) -> list[Instruction]:
        """A `Publish` was confirmed."""
        instructions: list[Instruction] = []
        messages, last_rows = self._publications.pop(publication)
        for model, rowid in last_rows:
            model.confirmed = rowid
        self._finish(messages, instructions)
        return instructions

    def drain(self) -> None:
        """Send no more turns: the engine stops."""
        self._draining = True

    # --- models ----------------------------------------------------------------------------------------

    def _model(self, model_id: str, generation: int, instructions: list[Instruction]) -> Progress | None:
        """The model of that generation, new if need be; None if there is a newer one already."""
        model = self._models.get(model_id)
        if model is not None and model.generation > generation:
            return None
        if model is None or model.generation < generation:
            self._drop(model_id, generation, instructions)
            model = self._models[model_id] = Progress(model_id, generation)
        return model

    def _drop(self, model_id: str, generation: int, instructions: list[Instruction]) -> None:
        """Forget a model of that or an older generation; nobody waits for its rows any more."""
        model = self._models.get(model_id)
        if model is None or model.generation > generation:
            return
        del self._models[model_id]
        self._forget_rows(model)
        self._finish(self._let_go(model), instructions)

    def _is_current(self, model: Progress) -> bool:
        return self._models.get(model.model_id) is model

    def _let_go(self, model: Progress) -> list[MessageToken]:
        messages = [message for _, message in model.tickets]
        messages += [message for _, message in model.commands]
        model.tickets.clear()
        model.commands.clear()
        return messages

    def _fetching(self, model_id: str, generation: int) -> Progress | None:
        model = self._models.get(model_id)
        if model is None or model.generation != generation or model.state is not ModelState.FETCHING:
            return None
        return model

    def _advance(self, model: Progress, instructions: list[Instruction]) -> None:
        """Decide what an IDLE model does next."""
        if model.state is not ModelState.IDLE:
            return
        if _next_command(model) or model.definition is not None or model.done is None:
            self._make_ready(model)
        elif model.done >= model.target:
            done = self._settled(model)  # a message that came twice
            if done:
                instructions.append(self._publish([], [], done))
        elif model.rows and model.after <= model.done:
            self._make_ready(model)
        else:
            model.state = ModelState.FETCHING
            instructions.append(FetchRows(model.model_id, model.generation, model.done, self._limits.rows_cached))

    def _make_ready(self, model: Progress) -> None:
        model.state = ModelState.READY
        self._ready[worker_of(model.model_id, self._shards, self._workers)].append(model)

    # --- outcomes --------------------------------------------------------------------------------------

    def _command_done(self, model: Progress, outcome: Outcome, notices: list[Notice], done: list[MessageToken]) -> None:
        """The command's result is published now; its message stays until the rows that it asked for are done."""
        command, message = model.commands.popleft()
        notices.append(_end_of(command, outcome))
        model.tickets.appendleft((_up_to(command), message))
        if command.method == DELETE_MODEL:
            done += self._let_go(model)
            del self._models[model.model_id]

    def _rows_done(
        self,
        model: Progress,
        sent: Slice,
        outcome: Outcome,
        results: list[ModelResult],
        done: list[MessageToken],
    ) -> None:
        new = tuple(row for row in outcome.rows if row.rowid > model.handed_out)
        if new:
            results.append(ModelResult(model.model_id, model.generation, new))
            model.handed_out = new[-1].rowid
        if outcome.need is not Need.DEFINITION:
            model.done = outcome.at
            model.definition = None
            while model.rows and model.rows[0].rowid <= outcome.at:
                model.after = model.rows.popleft().rowid
                self._cached_rows -= 1
        if outcome.need is None:
            done += self._settled(model)
            if sent.rows and outcome.at >= model.struck_at:
                model.strikes = 0

    def _proceed(self, model: Progress, outcome: Outcome, instructions: list[Instruction]) -> None:
        if outcome.need is Need.DEFINITION:
            model.state = ModelState.FETCHING
            instructions.append(FetchDefinition(model.model_id, model.generation))
        else:
            model.state = ModelState.IDLE
            self._advance(model, instructions)

    def _settled(self, model: Progress) -> list[MessageToken]:
        """The messages whose rows of this model are done.  Tickets wait in the order in which they came."""
        messages = []
        while model.tickets and model.done is not None and model.tickets[0][0] <= model.done:
            messages.append(model.tickets.popleft()[1])
        return messages

    def _fail(
        self,
        model: Progress,
        text: str,
        notices: list[Notice],
        done: list[MessageToken],
    ) -> None:
        """The model goes to FAILED, every message that waits for it is let go, its metric to ERROR."""
        notices.append(ModelError(model.model_id, model.generation, text))
        done += self._let_go(model)
        self._forget_rows(model)
        model.state = ModelState.FAILED

    def _strike(self, model: Progress, sent: Slice, instructions: list[Instruction]) -> None:
        model.strikes += 1
        model.struck_at = sent.rows[-1].rowid if sent.rows else sent.after
        if model.strikes >= self._limits.strikes:
            notices: list[Notice] = []
            done: list[MessageToken] = []
            self._fail(model, f"{model.strikes} worker processes died while they ran this model", notices, done)
            instructions.append(self._publish([], notices, done))

    # --- rows in memory --------------------------------------------------------------------------------

    def _cache(self, model: Progress, model_input: ModelInput) -> None:
        """Keep new rows if they follow those in memory; else they are fetched when their turn comes."""
        if model.rows:
            last = model.rows[-1].rowid
            if model_input.after > last:
                return
        else:
            last = model.after = max(model_input.after, model.done or 0)
        fresh = [row for row in model_input.rows if row.rowid > last]
        if len(model.rows) + len(fresh) <= self._limits.rows_cached:
            model.rows.extend(fresh)
            self._cached_rows += len(fresh)

    def _rows_beyond(self, model: Progress, fetched: Sequence[InputRow], *, complete: bool) -> list[InputRow]:
        """Rows in memory that directly follow the fetched ones: they do if nothing can lie between."""
        last = fetched[-1].rowid if fetched else model.done or 0
        if not complete and last < model.after:
            return []
        return [row for row in model.rows if row.rowid > last]

    def _forget_rows(self, model: Progress) -> None:
        self._cached_rows -= len(model.rows)
        model.rows.clear()

    # --- turns, publications, acknowledgements ---------------------------------------------------------

    def _dispatched(self, instructions: list[Instruction]) -> list[Instruction]:
        """The instructions, and turns for the workers that have nothing to do."""
        if not self._draining:
            for worker, turns in self._turns.items():
                while self._ready[worker] and len(turns) < self._limits.turns_ahead:
                    sent_out = self._take_slices(worker)
                    if sent_out:
                        self._serial += 1
                        turns[self._serial] = sent_out
                        slices = tuple(sent for _, sent in sent_out)
                        instructions.append(RunTurn(worker, self._serial, slices))
        return instructions

    def _take_slices(self, worker: int) -> list[tuple[Progress, Slice]]:
        """The next models in line, each with a bounded number of rows."""
        ready = self._ready[worker]
        taken: list[tuple[Progress, Slice]] = []
        rows = 0
        while ready and len(taken) < self._limits.models_in_turn and rows < self._limits.rows_in_turn:
            model = ready.popleft()
            if not self._is_current(model):
                continue  # dropped while it waited
            model.state = ModelState.RUNNING
            sent = self._slice(model)
            taken.append((model, sent))
            rows += len(sent.rows)
        return taken

    def _slice(self, model: Progress) -> Slice:
        command = _next_command(model)
        if model.rows:
            rows = tuple(islice(model.rows, self._limits.rows_per_turn))
            after = model.after
        else:  # asks the worker how far the model is
            rows = ()
            after = model.target
        if command is not None:
            rows = ()
            after = 0
        return Slice(model.model_id, model.generation, after, rows, model.confirmed, model.definition, command)

    def _publish(
        self,
        results: list[ModelResult],
        notices: list[Notice],
        done: list[MessageToken],
    ) -> Publish:
        self._serial += 1
        last_rows = [(self._models[each.model_id], each.rows[-1].rowid) for each in results]
        self._publications[self._serial] = (done, last_rows)
        return Publish(self._serial, tuple(results), tuple(notices))

    def _finish(self, messages: Iterable[MessageToken], instructions: list[Instruction]) -> None:
        complete = []
        for message in messages:
            self._open_parts[message] -= 1
            if not self._open_parts[message]:
                del self._open_parts[message]
                complete.append(message)
        if complete:
            instructions.append(Acknowledge(tuple(complete)))


def _next_command(model: Progress) -> ModelCommand | None:
    """The command whose turn it is: a snapshot waits for the rows that it is to contain."""
    command = model.commands[0][0] if model.commands else None
    if (
        command is not None
        and command.method == SNAPSHOT_MODEL
        and (model.done is None or model.done < _up_to(command))
    ):
        return None
    return command


def _end_of(command: ModelCommand, outcome: Outcome) -> Notice:
    if outcome.model is not None:
        version = int(command.args["version"])
        return ModelSnapshot(
            command.model_id, command.generation, command.command_id, version, outcome.at, outcome.model
        )
    return CommandResult(command.method, command.model_id, command.generation, command.command_id)


def _up_to(command: ModelCommand) -> int:
    """The rows up to here are to be run through the model: after the command that makes it, before a snapshot."""
    return int(command.args.get("upTo", 0))


def worker_of(model_id: str, shards: int, workers: int) -> int:
    """The worker that a model lives in: by shard, so that a shard's models stay together."""
    return shard_of(model_id, shards) % workers
