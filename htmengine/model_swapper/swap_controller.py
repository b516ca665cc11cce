# SPDX-License-Identifier: MIT
"""Which models wait, run and fetch: the scheduler's decisions, without any I/O.

In: events (messages from the shard queues, answers of the workers, rows from the database).
Out: instructions, a list for each event, that `model_scheduler_service` performs.  `progress` has the states of a
model and what leads from one to another.

The database holds every row before its model hears of it, so this class may forget rows at any time:
it keeps for each model how far it should get (``target``), how far it got (``done``) and a few rows; whatever
is missing is fetched again.  The worker alone knows how far a model really is: it answers a slice that does
not fit with what it needs.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from htmengine.messages import (
    DELETE_MODEL,
    CommandResult,
    InputRow,
    ModelCommand,
    ModelError,
    ModelInput,
    ModelResult,
    ModelSnapshot,
)
from htmengine.model_swapper.progress import (
    FAILED,
    FETCHING,
    FORGOTTEN,
    IDLE,
    READY,
    RUNNING,
    MessageToken,
    ModelState,
    Progress,
    TransitionLog,
    up_to,
)
from htmengine.model_swapper.turns import Claim, Need, Outcome, Slice, Verdict
from htmengine.sharding import shard_of

#: What goes to the results queue beside results.
Notice: TypeAlias = CommandResult | ModelSnapshot | ModelError

#: Transitions of all models together that are remembered, for the story of one that goes wrong.
LOGGED_TRANSITIONS = 10_000
#: The status of a command that a worker refused.
REFUSED = 1


# --- instructions ---------------------------------------------------------------------------------------


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
class FetchProof:
    """Ask the database whether a model's checkpoint fits it; answer with `SwapController.proof_fetched`."""

    model_id: str
    generation: int
    claim: Claim


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


Instruction: TypeAlias = RunTurn | FetchRows | FetchDefinition | FetchProof | Publish | Acknowledge


# --- decisions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the controller's memory and of one turn."""

    rows_per_turn: int = 500  #: rows of one model in a turn
    rows_in_turn: int = 1000  #: rows of all models in a turn
    models_in_turn: int = 200
    turns_ahead: int = 2  #: turns that a worker may have before it answers the first
    rows_cached: int = 2000  #: rows of one model in memory; more are fetched when their turn comes
    definitions: int = 32  #: definitions for one worker in memory, which may have whole models
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
        self._log: TransitionLog = deque(maxlen=LOGGED_TRANSITIONS)
        self._ready: list[deque[Progress]] = [deque() for _ in range(workers)]
        #: by worker, models that want definitions, and those that have asked for theirs
        self._undefined: list[deque[Progress]] = [deque() for _ in range(workers)]
        self._defined: list[list[Progress]] = [[] for _ in range(workers)]
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
            if model is None or model.state is FAILED:
                continue
            self._open_parts[message] += 1
            model.tickets.append((model_input.last_rowid, message))
            with self._alone(model, instructions):
                model.target = max(model.target, model_input.last_rowid)
                known = len(model.rows)
                model.keep(model_input, self._limits.rows_cached)
                self._cached_rows += len(model.rows) - known
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
        if model is None or model.state is FAILED:
            self._finish([message], instructions)
            return self._dispatched(instructions)
        model.commands.append((command, message))
        with self._alone(model, instructions):
            model.target = max(model.target, up_to(command))
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
            if model.state is not RUNNING:
                continue
            if outcome.error is not None:
                self._fail(model, outcome.error, notices, done)
                continue
            with self._alone(model, instructions):
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
                if model.state in (FORGOTTEN, FAILED):
                    continue
                self._forget_rows(model)
                model.done = None
                if sent.model_id == culprit:
                    culprit = None  # the model may be in the next turn too
                    self._strike(model, sent, instructions)
                if model.state is RUNNING:
                    self._go_on(model, instructions)
        return instructions

    # --- events: database and bus ----------------------------------------------------------------------

    def rows_fetched(self, asked: FetchRows, rows: Sequence[InputRow]) -> list[Instruction]:
        """The rows that `FetchRows` asked for; fewer than its limit if there are no more."""
        instructions: list[Instruction] = []
        model = self._fetching(asked.model_id, asked.generation)
        if model is None:
            return instructions
        known = len(model.rows)
        model.fetched(asked.after, rows, complete=len(rows) < asked.limit)
        self._cached_rows += len(model.rows) - known
        if not model.rows:  # they were deleted from the database, or a message spoke of rows that never were
            reached, model.done = model.done, model.target
            done = model.settled()
            if not model.commands:  # which may wait for those rows; then its worker says where the model is
                model.done = model.target = reached or 0
            if done:
                instructions.append(self._publish([], [], done))
        self._go_on(model, instructions)
        return self._dispatched(instructions)

    def definition_fetched(self, asked: FetchDefinition, definition: dict[str, Any] | None) -> list[Instruction]:
        """The parameters that `FetchDefinition` asked for; None if the metric has no such model any more."""
        model = self._fetching(asked.model_id, asked.generation)
        if model is None:
            return []
        model.definition = definition
        return self._told(model, gone=definition is None)

    def proof_fetched(self, asked: FetchProof, verdict: Verdict | None) -> list[Instruction]:
        """The verdict that `FetchProof` asked for; None if the metric has no such model any more."""
        model = self._fetching(asked.model_id, asked.generation)
        if model is None:
            return []
        model.verdict = verdict
        return self._told(model, gone=verdict is None)

    def _told(self, model: Progress, *, gone: bool) -> list[Instruction]:
        """A model goes on with what it asked the database for; ``gone``: the metric has it no more."""
        instructions: list[Instruction] = []
        if gone:
            self._drop(model.model_id, model.generation, instructions)
        else:
            model.done = None
            self._go_on(model, instructions)
        return self._dispatched(instructions)

    def fetch_failed(self, asked: FetchRows | FetchDefinition | FetchProof, why: str) -> list[Instruction]:
        """What was asked for cannot be read, though the database is there: the model fails."""
        model = self._fetching(asked.model_id, asked.generation)
        if model is None:
            return []
        instructions: list[Instruction] = []
        self._break(model, why, instructions)
        return self._dispatched(instructions)

    def model_failed(self, model_id: str, generation: int, why: str) -> list[Instruction]:
        """Its results cannot be told."""
        instructions: list[Instruction] = []
        model = self._models.get(model_id)
        if model is not None and model.generation == generation and model.state is not FAILED:
            self._break(model, why, instructions)
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
            model = self._models[model_id] = Progress(model_id, generation, self._log)
        return model

    def _drop(self, model_id: str, generation: int, instructions: list[Instruction]) -> None:
        """Forget a model of that or an older generation; nobody waits for its rows any more."""
        model = self._models.get(model_id)
        if model is None or model.generation > generation:
            return
        self._finish(self._forget(model), instructions)

    def _forget(self, model: Progress) -> list[MessageToken]:
        """The messages that waited for it."""
        del self._models[model.model_id]
        self._forget_rows(model)
        model.go(FORGOTTEN)
        return model.let_go()

    def _fetching(self, model_id: str, generation: int) -> Progress | None:
        model = self._models.get(model_id)
        if model is None or model.generation != generation or model.state is not FETCHING:
            return None
        return model

    def _go_on(self, model: Progress, instructions: list[Instruction]) -> None:
        """What the model waited for is there."""
        model.go(IDLE)
        self._advance(model, instructions)

    def _advance(self, model: Progress, instructions: list[Instruction]) -> None:
        """Decide what an IDLE model does next."""
        if model.state is not IDLE:
            return
        if model.next_command() or model.definition is not None or model.done is None:
            self._make_ready(model)
        elif model.done >= model.target:
            done = model.settled()  # a message that came twice
            if done:
                instructions.append(self._publish([], [], done))
        elif model.rows and model.after <= model.done:
            self._make_ready(model)
        else:
            model.go(FETCHING)
            instructions.append(FetchRows(model.model_id, model.generation, model.done, self._limits.rows_cached))

    def _make_ready(self, model: Progress) -> None:
        model.go(READY)
        self._ready[self._worker_of(model)].append(model)

    def _worker_of(self, model: Progress) -> int:
        return worker_of(model.model_id, self._shards, self._workers)

    def _forget_rows(self, model: Progress) -> None:
        self._cached_rows -= len(model.rows)
        model.rows.clear()

    # --- outcomes --------------------------------------------------------------------------------------

    def _command_done(self, model: Progress, outcome: Outcome, notices: list[Notice], done: list[MessageToken]) -> None:
        """The command's result is published now; its message stays until the rows that it asked for are done."""
        command, message = model.commands.popleft()
        notices.append(_end_of(command, outcome))
        model.tickets.appendleft((up_to(command), message))
        if command.method == DELETE_MODEL:
            done += self._forget(model)

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
        elif outcome.need is None and sent.verdict is not None and sent.verdict.scored < outcome.at:
            results.append(ModelResult(model.model_id, model.generation, (), at=outcome.at))
        if outcome.need in (None, Need.ROWS):
            known = len(model.rows)
            model.ran_to(outcome.at)
            self._cached_rows += len(model.rows) - known
        if outcome.need is None:
            done += model.settled()
            if sent.rows and outcome.at >= model.struck_at:
                model.strikes = 0

    def _proceed(self, model: Progress, outcome: Outcome, instructions: list[Instruction]) -> None:
        if outcome.need is Need.DEFINITION:
            model.go(FETCHING)
            self._undefined[self._worker_of(model)].append(model)
        elif outcome.claim is not None:
            model.go(FETCHING)
            instructions.append(FetchProof(model.model_id, model.generation, outcome.claim))
        else:
            self._go_on(model, instructions)

    def _fail(
        self,
        model: Progress,
        text: str,
        notices: list[Notice],
        done: list[MessageToken],
    ) -> None:
        """The model goes to FAILED, every message that waits for it is let go, its metric to ERROR."""
        notices.append(ModelError(model.model_id, model.generation, text))
        done += model.let_go()
        self._forget_rows(model)
        model.go(FAILED)

    @contextlib.contextmanager
    def _alone(self, model: Progress, instructions: list[Instruction]) -> Iterator[None]:
        """What goes wrong with one model, and nobody has thought of, harms no other."""
        try:
            yield
        except Exception as error:
            if model.state in (FAILED, FORGOTTEN):
                raise
            self._break(model, f"{type(error).__name__}: {error}", instructions)

    def _break(self, model: Progress, why: str, instructions: list[Instruction]) -> None:
        """The model fails, whatever it was at."""
        notices: list[Notice] = []
        done: list[MessageToken] = []
        self._fail(model, why, notices, done)
        instructions.append(self._publish([], notices, done))

    def _strike(self, model: Progress, sent: Slice, instructions: list[Instruction]) -> None:
        model.strikes += 1
        model.struck_at = sent.rows[-1].rowid if sent.rows else sent.after
        if model.strikes >= self._limits.strikes:
            self._break(model, f"{model.strikes} worker processes died while they ran this model", instructions)

    # --- turns, publications, acknowledgements ---------------------------------------------------------

    def _dispatched(self, instructions: list[Instruction]) -> list[Instruction]:
        """The instructions, and turns for the workers that have nothing to do."""
        self._ask_for_definitions(instructions)
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

    def _ask_for_definitions(self, instructions: list[Instruction]) -> None:
        """As many as may be in memory: the others wait until models are made of these."""
        for waiting, asked in zip(self._undefined, self._defined, strict=True):
            if waiting:
                asked[:] = [model for model in asked if model.awaits_definition]
            while waiting and len(asked) < self._limits.definitions:
                model = waiting.popleft()
                if model.state is FETCHING:
                    asked.append(model)
                    instructions.append(FetchDefinition(model.model_id, model.generation))

    def _take_slices(self, worker: int) -> list[tuple[Progress, Slice]]:
        """The next models in line, each with a bounded number of rows."""
        ready = self._ready[worker]
        taken: list[tuple[Progress, Slice]] = []
        rows = 0
        while ready and len(taken) < self._limits.models_in_turn and rows < self._limits.rows_in_turn:
            model = ready.popleft()
            if model.state is not READY:
                continue
            model.go(RUNNING)
            sent = model.next_slice(self._limits.rows_per_turn)
            taken.append((model, sent))
            rows += len(sent.rows)
        return taken

    def _publish(
        self,
        results: list[ModelResult],
        notices: list[Notice],
        done: list[MessageToken],
    ) -> Publish:
        self._serial += 1
        last_rows = [(self._models[each.model_id], each.rows[-1].rowid) for each in results if each.rows]
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


def _end_of(command: ModelCommand, outcome: Outcome) -> Notice:
    if outcome.model is not None:
        version = int(command.args["version"])
        return ModelSnapshot(
            command.model_id, command.generation, command.command_id, version, outcome.at, outcome.model
        )
    status = 0 if outcome.refused is None else REFUSED
    return CommandResult(
        command.method, command.model_id, command.generation, command.command_id, status, outcome.refused
    )


def worker_of(model_id: str, shards: int, workers: int) -> int:
    """The worker that a model lives in: by shard, so that a shard's models stay together."""
    return shard_of(model_id, shards) % workers
