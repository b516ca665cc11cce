# SPDX-License-Identifier: MIT
"""Every error that HTM Engine raises on purpose, but for HTTP's refusals (`htmengine.web.refused`).

Each carries data; its docstring says cause and remedy.

HtmEngineError
├── ConfigError               an option's value is refused; names file, section, option and what is allowed
├── StartError                the engine cannot start: taken port, unwritable folder, second engine
├── InvalidSample             one Graphite line is refused; carries the reason that is counted
├── InvalidBody               what a sender sent at once cannot be read at all; carries the reason that is counted
├── InvalidCsv                a CSV file cannot be read; names file and line
├── SourceFailed              a system that history is read from does not answer, or not as expected
├── InvalidMessage            a queue message that is not what its queue carries
├── BusError
│   ├── BusAway               the broker does not answer; names it and says what to do
│   ├── BusClosed             the bus or subscription was closed while an operation waited
│   ├── UnroutableMessage     the queue or exchange does not exist
│   └── QueueFull             a queue stayed full for as long as the publisher was to wait
├── RepositoryError
│   ├── DatabaseClosed        the process stops while the database is waited for
│   ├── DatabaseFailed        the database cannot be used: away, damaged, or it refuses us; says what to do
│   ├── MetricNotFound        no metric of that name or uid
│   ├── MetricExists          a metric of that name exists already
│   ├── ModelNotFound         the metric has no model that runs
│   ├── ModelYoung            the metric's model has the range of a few rows; says from which row on it has copies
│   ├── ModelExists           the metric has a model already
│   ├── SnapshotNotFound      the metric has no such snapshot
│   ├── RowNotFound           the metric has no such row
│   ├── IncidentNotFound      no incident of this id
│   ├── SilenceNotFound       no silence of this number
│   ├── AlertRuleNotFound     no stored rule of this name
│   └── MaintenanceNotFound   no stored maintenance of this name
├── InvalidTransition         a mistake in the code: a model would go where no transition leads; has the model's story
├── InvalidModelSpec          a model specification is refused; names the field
│   └── UnsupportedModelParams  a valid OPF parameter that this core does not have
├── InvalidRule               a selector or a rule of admission cannot be read; the text says what is allowed
├── InvalidOptions            options of the API are refused; names them
│   ├── InvalidAlertRule      those of an alert rule
│   └── InvalidMaintenance    those of a maintenance
├── TooFewRows                a series is too short to tell the range of its values
├── BadSeries                 a benchmark's series or its labelled windows cannot be read; names the file
├── DeliveryFailed            a receiver of alerts or results did not take a message; says what came back
├── WorkStopped               somebody stopped a long computation
├── MissingExtra              an optional package is not installed; names the extra that brings it
├── BackupFailed              a running engine could not be copied; names the folder and says why
├── BenchmarkFailed           a peer that was to be measured did not run
└── CheckpointError
    ├── CorruptCheckpoint     bytes that are damaged or not a checkpoint
    └── UnknownCheckpointVersion  written by a version that this one cannot read
"""

from __future__ import annotations

from collections.abc import Sequence


class HtmEngineError(Exception):
    """The root: catch this to catch all errors that HTM Engine raises on purpose; its text is for the operator."""


class ConfigError(HtmEngineError):
    """One or more options have values that are refused.

    ``problems`` holds one line each, with file, section, option, the value and what is allowed.
    Remedy: correct those options; ``htmengine check-config`` lists all of them at once.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartError(HtmEngineError):
    """The engine cannot start here: a port is taken, a folder cannot be written, another engine runs on it.

    The text is one line that names the remedy, such as another port or folder.
    """


class InvalidSample(HtmEngineError):
    """One sample is refused; the rest of its batch lives.  ``reason`` is the key it is counted under.

    Cause: a client sends what is not ``name value timestamp`` within the bounds.  Remedy: correct the client;
    ``detail`` says what is allowed.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class InvalidBody(HtmEngineError):
    """A request's body or a frame cannot be read at all: nothing of it is taken.

    ``reason`` is the key it is counted under.  The text says what is wrong and what is allowed.
    Remedy: correct the sender.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class InvalidCsv(HtmEngineError):
    """A CSV file cannot be read.  The text names file, line and what is wanted.  Remedy: correct that line."""


class SourceFailed(HtmEngineError):
    """A system that history is read from does not answer, or not as expected.  Remedy: the text has its words."""


class InvalidMessage(HtmEngineError):
    """A queue message that is not what its queue carries; it is counted and left out.

    Cause: another program publishes to the queue, or one of another version.  Remedy: docs/messages.md has the
    messages of each queue.
    """


class InvalidTransition(HtmEngineError):
    """Something would go from one state to another that cannot follow it: a mistake in the code.

    ``story`` has what it did before, oldest first.  Remedy: report it with the whole text.
    """

    def __init__(self, name: str, before: str, after: str, story: Sequence[str]) -> None:
        super().__init__(f"{name} cannot go from {before} to {after}; before that: {', '.join(story) or 'nothing'}")
        self.name = name
        self.before = before
        self.after = after
        self.story = list(story)


class BusError(HtmEngineError):
    """Something failed between the services and the bus; the text says what.  Remedy: look at the broker or disk."""


class BusClosed(BusError):
    """The bus or the subscription was closed while an operation waited: the process stops, or the queue was deleted.

    Nothing that was acknowledged is lost.  Remedy: none at a stop, else subscribe again.
    """


class BusAway(BusError):
    """A command cannot reach the broker within its patience.  The text names the broker, the reason and the remedy."""


class UnroutableMessage(BusError):
    """A message was published to a queue, or an exchange, that does not exist.  Remedy: declare it first."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"no queue or exchange named {queue!r}")
        self.queue = queue


class QueueFull(BusError):
    """A queue holds as much as it may, and nothing empties it.  Remedy: start the engine, which does."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"queue {queue!r} is full and has no reader; is the engine running?")
        self.queue = queue


class RepositoryError(HtmEngineError):
    """What was asked of the database cannot be done; the kinds below say why."""


class DatabaseClosed(RepositoryError):
    """The process stops while the database is waited for.  Remedy: none; what was to be stored comes again."""

    def __init__(self) -> None:
        super().__init__("stopping while the database is away")


class DatabaseFailed(RepositoryError):
    """The database cannot be used: its server is away or refuses us, or its file is missing or damaged.

    The text is one line that names the database and the remedy, and no password.
    """


class MetricNotFound(RepositoryError):
    """No metric has this name or uid.  Remedy: ``htmengine metrics`` lists them."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no metric named {name!r}")
        self.name = name


class RowNotFound(RepositoryError):
    """The metric has no such row that its model has scored.  Remedy: take the time of a row that it has."""

    def __init__(self, name: str, timestamp: int) -> None:
        super().__init__(f"metric {name!r} has no row at {timestamp} that its model has scored")
        self.name = name
        self.timestamp = timestamp


class IncidentNotFound(RepositoryError):
    """No incident has this id, or several begin with it.  Remedy: ``htmengine incidents`` lists them."""

    def __init__(self, incident_id: str, *, ambiguous: bool = False) -> None:
        super().__init__(f"{'several incidents begin' if ambiguous else 'no incident begins'} with {incident_id!r}")
        self.incident_id = incident_id


class SilenceNotFound(RepositoryError):
    """No silence has this number, or it is over.  Remedy: ``htmengine alert silences`` lists them."""

    def __init__(self, number: int) -> None:
        super().__init__(f"no silence {number}, or it is over")
        self.number = number


class AlertRuleNotFound(RepositoryError):
    """No stored rule has this name; those of alerts.conf are changed there.  Remedy: ``htmengine alert rules``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no stored rule {name!r}")
        self.name = name


class MaintenanceNotFound(RepositoryError):
    """No stored maintenance has this name; that of alerts.conf is changed there.

    Remedy: ``htmengine maintenance list``.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"no stored maintenance {name!r}")
        self.name = name


class MetricExists(RepositoryError):
    """A metric of this name exists already.  Remedy: take another name, or ``htmengine delete`` the metric first."""

    def __init__(self, name: str) -> None:
        super().__init__(f"a metric named {name!r} already exists")
        self.name = name


class ModelNotFound(RepositoryError):
    """The metric has no model that runs.  Remedy: ``htmengine monitor``."""

    def __init__(self, name: str, status: str) -> None:
        super().__init__(f"metric {name!r} has no model that runs: its status is {status}")
        self.name = name
        self.status = status


class ModelYoung(RepositoryError):
    """The model has the range of a few rows, which a copy would keep.  Remedy: wait for the row that it names."""

    def __init__(self, name: str, last_rowid: int, needed: int) -> None:
        super().__init__(
            f"the model of metric {name!r} has the range of {last_rowid} rows and is made again at row {needed};"
            " from then on it has snapshots and copies"
        )
        self.name = name


class ModelExists(RepositoryError):
    """The metric has a model that would be lost.  Remedy: ``htmengine unmonitor`` first, or take another name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"metric {name!r} already has a model; unmonitor it first, or choose another name")
        self.name = name


class SnapshotNotFound(RepositoryError):
    """The metric has no such snapshot, or it has not come yet.  Remedy: ``htmengine model snapshots`` lists them."""

    def __init__(self, name: str, version: int | None) -> None:
        which = "no snapshot" if version is None else f"no snapshot of version {version}"
        super().__init__(f"metric {name!r} has {which} that can be used")
        self.name = name
        self.version = version


class InvalidModelSpec(HtmEngineError):
    """A model specification is refused.  Remedy: correct the field that the text names; it says what is allowed."""


class UnsupportedModelParams(InvalidModelSpec):
    """A valid NuPIC (OPF) parameter that this core does not have; the text names it.  Remedy: leave it out."""


class InvalidRule(HtmEngineError):
    """A selector of metrics or a rule of admission cannot be read.

    Remedy: correct it; the text says what is wrong and what is allowed.
    """


class InvalidOptions(HtmEngineError):
    """Options that were given to the API are refused.  ``problems``: (option, what is wrong with it).

    Remedy: correct the options that the text names; it says what is allowed.
    """

    WHAT = "options"  #: what has them

    def __init__(self, name: str, problems: Sequence[tuple[str, str]]) -> None:
        told = "; ".join(f"{option}: {problem}" if option else problem for option, problem in problems)
        super().__init__(f"{self.WHAT} {name!r}: {told}")
        self.problems = tuple(problems)


class InvalidAlertRule(InvalidOptions):
    """Those of an alert rule.  Remedy: correct the options that the text names."""

    WHAT = "rule"


class InvalidMaintenance(InvalidOptions):
    """Those of a maintenance.  Remedy: correct the options that the text names."""

    WHAT = "maintenance"


class TooFewRows(HtmEngineError):
    """A series is too short to tell the range of its values.  Remedy: more rows, or a minimum and a maximum."""

    def __init__(self, rows: int, needed: int) -> None:
        super().__init__(f"{rows} rows; without a minimum and a maximum at least {needed} are needed")
        self.rows = rows
        self.needed = needed


class BadSeries(HtmEngineError):
    """A benchmark's series or its labelled windows cannot be read.

    Remedy: correct the file that the text names; it says what is wrong.
    """


class DeliveryFailed(HtmEngineError):
    """A receiver of alerts or results did not take a message; the text has what came back, and no secret.

    ``retry_after_s`` is how long the receiver wants to be left alone, if it said so.  The message is sent again.
    Remedy: ``htmengine alert test`` shows whether the receiver's options are right.
    """

    def __init__(self, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class BackupFailed(HtmEngineError):
    """An engine cannot be copied.  Remedy: the text says what is in the way."""


class WorkStopped(HtmEngineError):
    """Somebody stopped a long computation.  Remedy: begin it again."""

    def __init__(self) -> None:
        super().__init__("somebody stopped it")


class MissingExtra(HtmEngineError):
    """A part needs a package that is not installed.  Remedy: ``pip install 'htmengine[EXTRA]'``."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; pip install 'htmengine[{extra}]' brings it")
        self.package = package
        self.extra = extra


class BenchmarkFailed(HtmEngineError):
    """A peer that was to be measured did not run.  Remedy: install or correct it; the text has its last words."""


class CheckpointError(HtmEngineError):
    """A saved model cannot be used.  Remedy: none is needed; an older one is, and the missing rows are replayed."""


class CorruptCheckpoint(CheckpointError):
    """The bytes are damaged, cut short, or no checkpoint at all.  Remedy: check the disk."""


class UnknownCheckpointVersion(CheckpointError):
    """The checkpoint was written by a version whose format this one cannot read.  Remedy: run that version."""
