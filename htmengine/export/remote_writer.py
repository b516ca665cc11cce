# SPDX-License-Identifier: MIT
"""Writes each result to a Prometheus: value, score, expected value and alarm of its metric, by remote_write 1.0.

In: the log of results in the database (`repository.results`), which is the queue: it is durable, and reaches back
`KEPT_RESULTS`.  Out: requests to the receiver, and the number of the last result that it has.  A crash between the two
sends some results again, and the receiver has them once all the same: they are samples of the same times and values.

While the receiver is away, has too much to do, or answers that the request is not for it (no authorization, no such
path), results wait.  Samples that it refuses are left out: of a request with one sample that it will not have, all
others are sent again without it.  After many in a row that it will not have, a few that it would have may be left
out.  Nothing is left out uncounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Connection
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.config import RemoteWriteSection
from htmengine.errors import DeliveryFailed, InvalidRule, MissingExtra, StartError
from htmengine.export.metric_series import BAND, SCORE, VALUE, labels_of
from htmengine.incidents import queries
from htmengine.process import crash_points
from htmengine.process.extras import TLS, required, speaks_tls
from htmengine.process.figures import Figure, counter, gauge
from htmengine.process.http_client import Answer
from htmengine.process.probes import Probe, runs
from htmengine.process.progress import Progress
from htmengine.process.seldom import Seldom
from htmengine.process.tasks import Tasks
from htmengine.process.twisted_types import Clock, later
from htmengine.repository import result_readers, results
from htmengine.repository.engine import Database
from htmengine.repository.newest import MetricRow, rows_of, texts_of
from htmengine.repository.result_readers import Turn
from htmengine.selectors import Selection, separated
from htmengine.wires.compression import snap
from htmengine.wires.remote_write import Labels, write_version_1
from htmengine.wires.samples import RESULT_PREFIX

#: Its name in the table result_reader.
READER = "remote_write"
#: Results in one request, each of which is a few samples.
RESULTS_AT_ONCE = 500
#: How often the log is looked at when there was nothing.
POLL_S = 1.0
#: An open alarm is told again so often: Prometheus takes a series for ended after five minutes.
ALARMS_AGAIN_S = 60.0
#: A turn lasts longer than a request by this.
TURN_MARGIN_S = 10.0
#: How often a process looks whether it is its turn.
STAND_BY_S = 5.0
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 60.0
#: Statuses that say that something is wrong with the samples; all others are of the receiver, or of the way to it.
ABOUT_SAMPLES = frozenset({400, 409, 413, 422})
#: A refused part is left out whole if this many times as many samples were refused before it.
SHORT_BESIDE = 10
#: A loss is told for so long.
LOSS_TOLD_S = 600.0

T = TypeVar("T")

ALL = Selection.of(())

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


class Posts(Protocol):
    """What `HttpClient` does."""

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float, tls_ca_file: str
    ) -> Coroutine[Deferred[Any], Any, Answer]:
        """One attempt.  Raises `DeliveryFailed` when there is no answer."""
        ...


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """Where to, which metrics, and what is added."""

    url: str
    selection: Selection = ALL
    labels: Mapping[str, str] = field(default_factory=dict)
    authorization: str = ""
    tls_ca_file: str = ""
    timeout_s: float = 30.0

    @classmethod
    def of(cls, section: RemoteWriteSection) -> WriterOptions:
        """From the configuration.  Raises `StartError`."""
        try:
            selection = Selection.of(tuple(separated(section.metrics)))
            snap(write_version_1({}))
        except InvalidRule as error:
            raise StartError(f"[remote_write] metrics: {error}") from None
        except MissingExtra as missing:
            raise StartError(f"[remote_write] url: {missing}") from None
        if speaks_tls(section.url):
            required("[remote_write] url", TLS, "tls")
        labels = dict(pair.split("=", 1) for pair in section.labels.split())
        return cls(section.url, selection, labels, section.authorization, section.tls_ca_file, section.timeout_s)

    @property
    def receiver(self) -> str:
        """The receiver in a log, without what could be secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def headers(self) -> Mapping[str, str]:
        """Of each request."""
        return {**HEADERS, "Authorization": self.authorization} if self.authorization else HEADERS


class Sample(NamedTuple):
    """One of a series."""

    labels: Labels
    timestamp: float
    value: float


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to be written after some result."""

    rows: list[MetricRow]
    reached: int  #: number of the last of them
    newest: int  #: number of the newest result that there is
    missed: int  #: results that the log did not have any more
    alarms: dict[str, str]  #: the metrics in open incidents, uid to text


class RemoteWriter(Service):
    """Runs from start to stop; only one of several processes writes."""

    log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        client: Posts,
        options: WriterOptions,
        alone: bool,
        progress: Progress,
        on_failure: Callable[[Failure], None],
    ) -> None:
        self._clock = clock
        self._database = database
        self._client = client
        self._options = options
        self._alone = alone  #: no other process can write: nobody is waited for after a crash
        self._tasks = Tasks(on_failure)
        self._turn: Turn | None = None
        self._in_flight: Deferred[Any] | None = None  #: a pause or a request
        self._alarms: dict[str, str] = {}  #: those that the receiver knows
        self._alarms_told_at = float("-inf")
        self._failures_in_row = 0
        self._in_doubt = True  #: the receiver may have what comes next, after a crash or a request without an answer
        self._lost_at = float("-inf")
        self._seldom = Seldom(clock.seconds)
        self.written = 0  #: samples
        self.refused: Counter[str] = Counter()  #: samples, by the answer's status
        self.missed = 0  #: results that had left the log before they were written
        self.failures = 0  #: requests without an answer, or with one that asks to try again
        self.waiting = 0  #: results
        progress.stage(f"{options.receiver} takes no results, which wait", lambda: self._failures_in_row > 0)
        progress.stage(f"results for {options.receiver} are lost", self._loses)

    def startService(self) -> None:
        super().startService()
        self._tasks.start(self._run())

    def stopService(self) -> Deferred[None]:
        """A request that is in flight is given up: it is sent again after the next start."""
        super().stopService()
        if self._in_flight is not None:
            self._in_flight.cancel()
        return Deferred.fromCoroutine(self._finish())

    def figures(self) -> Iterable[Figure]:
        """What was written, and what was not."""
        yield counter("htmengine_remote_write_samples", "Samples that the receiver took", self.written)
        yield counter("htmengine_remote_write_refused", "Samples that it refused", dict(self.refused), by="status")
        yield counter("htmengine_remote_write_missed", "Results that waited for too long", self.missed)
        yield counter("htmengine_remote_write_failures", "Requests that are tried again", self.failures)
        yield gauge("htmengine_remote_write_waiting", "Results that wait", self.waiting)

    def checks(self) -> Mapping[str, Probe]:
        """Whether it runs."""
        return {"RemoteWriter": runs(self)}

    def _loses(self) -> bool:
        return self._clock.seconds() - self._lost_at < LOSS_TOLD_S

    # --- reading the log --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while self.running:
            try:
                pause_s = await self._write_next()
            except DeliveryFailed as failure:
                pause_s = self._failed(failure)
            if pause_s and self.running:
                await self._until(later(self._clock, pause_s))

    async def _finish(self) -> None:
        await self._tasks.finished()
        if self._turn is not None:
            turn, self._turn = self._turn, None
            await self._database.run(result_readers.end_turn, READER, turn)

    async def _until(self, deferred: Deferred[T]) -> T:
        """What a stop does not wait for."""
        self._in_flight = deferred
        try:
            return await deferred
        finally:
            self._in_flight = None

    def _failed(self, failure: DeliveryFailed) -> float:
        """Seconds until the next attempt."""
        self.failures += 1
        self._failures_in_row += 1
        self._in_doubt = True
        self._alarms_told_at = float("-inf")
        if self._seldom.due():
            self.log.warn(
                "{receiver} takes no results, which wait: {why}", receiver=self._options.receiver, why=failure
            )
        return max(retry_delay(self._failures_in_row), failure.retry_after_s)

    async def _write_next(self) -> float:
        """Write what comes next; returns for how long to wait."""
        turn = await self._take_turn()
        if turn is None:
            return STAND_BY_S
        found = await self._database.read(_find, turn.number)
        self.waiting = found.newest - turn.number
        samples = self._samples_of(found)
        if samples:
            await self._send(samples)
            crash_points.reached("export.sent")
        self._failures_in_row = 0
        self._in_doubt = self._in_doubt and not found.rows
        self._alarms = found.alarms
        self._note_missed(found.missed)
        if found.reached == turn.number:
            return POLL_S
        self._turn = await self._database.run(result_readers.advance, READER, turn, found.reached)
        self.waiting = found.newest - found.reached
        return 0.0 if self.waiting > 0 else POLL_S

    async def _take_turn(self) -> Turn | None:
        """The turn, for as long as a request may take."""
        now, needed_s = self._clock.seconds(), self._options.timeout_s
        if self._turn is None or (not self._alone and self._turn.until_ms < (now + needed_s) * 1000):
            seconds = 0.0 if self._alone else needed_s + TURN_MARGIN_S
            self._turn = await self._database.run(result_readers.take_turn, READER, self._turn, now, seconds)
        return self._turn

    def _note_missed(self, missed: int) -> None:
        if missed:
            self.missed += missed
            self._lost_at = self._clock.seconds()
            self.log.error("{n} results had left the log before they were written", n=missed)

    # --- writing ----------------------------------------------------------------------------------------

    def _samples_of(self, found: Found) -> list[Sample]:
        rows = [row for row in found.rows if self._options.selection.takes(row.text)]
        samples = [sample for row in rows for sample in samples_of(row, self._options.labels)]
        return samples + self._alarm_samples(rows, found.alarms)

    def _alarm_samples(self, rows: Sequence[MetricRow], alarms: Mapping[str, str]) -> list[Sample]:
        """Of the metrics of these rows, of those whose alarm has changed, and now and then of all that have one."""
        now = self._clock.seconds()
        changed = self._alarms.keys() ^ alarms.keys()
        if now - self._alarms_told_at >= ALARMS_AGAIN_S:
            self._alarms_told_at = now
            changed |= alarms.keys()
        known = {**self._alarms, **alarms}
        texts = {uid: known[uid] for uid in sorted(changed) if self._options.selection.takes(known[uid])}
        texts |= {row.uid: row.text for row in rows}
        return [
            Sample(series_labels("alarm", text, self._options.labels), now, float(uid in alarms))
            for uid, text in texts.items()
        ]

    async def _send(self, samples: Sequence[Sample]) -> None:
        """All, or those that the receiver will have, the oldest first.

        A part that is refused is halved until the refused samples are found, or until it is short beside what was
        refused before it with nothing taken between, as when all that waited is too old: then it is left out whole.
        Raises `DeliveryFailed` when they are to be sent again.
        """
        parts = [sorted(samples, key=attrgetter("timestamp"))]  # the next one at the end
        in_row = 0
        while parts:
            part = parts.pop()
            answer = await self._post(part)
            if answer.good:
                self.written += len(part)
                in_row = 0
            elif answer.status not in ABOUT_SAMPLES:
                raise DeliveryFailed(answer.said, answer.retry_after_s)
            elif len(part) > max(1, in_row // SHORT_BESIDE):
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                in_row += len(part)
                self._refuse(part, answer)

    async def _post(self, samples: Sequence[Sample]) -> Answer:
        options = self._options
        body = snap(write_version_1(by_series(samples)))
        posting = self._client.post(
            options.url, body, options.headers, timeout_s=options.timeout_s, tls_ca_file=options.tls_ca_file
        )
        return await self._until(Deferred.fromCoroutine(posting))

    def _refuse(self, samples: Sequence[Sample], answer: Answer) -> None:
        self.refused[str(answer.status)] += len(samples)
        if self._in_doubt:
            return  # most likely it has them
        self._lost_at = self._clock.seconds()
        if self._seldom.due():
            self.log.error(
                "{receiver} refuses samples, which are left out: {said}",
                receiver=self._options.receiver,
                said=answer.said,
            )


def retry_delay(failures: int) -> float:
    """Seconds to the next attempt after so many in a row have failed.

    >>> [retry_delay(failures) for failures in (1, 2, 3, 20)]
    [0.5, 1.0, 2.0, 60.0]
    """
    return float(min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 30), LONGEST_RETRY_S))


def series_labels(family: str, text: str, further: Mapping[str, str]) -> Labels:
    """Of one series of a metric.

    >>> series_labels("value", "cpu;host=h1", {"engine": "a"})
    (('__name__', 'htmengine_metric_value'), ('metric', 'cpu'), ('engine', 'a'), ('host', 'h1'))
    """
    return (("__name__", RESULT_PREFIX + family), *labels_of(text, further).items())


def samples_of(row: MetricRow, further: Mapping[str, str]) -> Iterable[Sample]:
    """What is known of a row."""
    for family in (VALUE, SCORE, *BAND):
        figure = family.figure(row)
        if figure is not None:
            yield Sample(series_labels(family.name, row.text, further), float(row.timestamp), figure)


def by_series(samples: Iterable[Sample]) -> dict[Labels, list[tuple[float, float]]]:
    """(epoch seconds, value) of each series, in their order."""
    found: dict[Labels, list[tuple[float, float]]] = {}
    for each in samples:
        found.setdefault(each.labels, []).append((each.timestamp, each.value))
    return found


def _find(conn: Connection, number: int) -> Found:
    """What comes after that result."""
    newest, first = results.last_number(conn), results.first_number(conn)
    start = max(number, (first or newest + 1) - 1)
    found, reached = results.results_after(conn, start, RESULTS_AT_ONCE)
    return Found(rows_of(conn, found), reached, newest, start - number, _alarms(conn))


def _alarms(conn: Connection) -> dict[str, str]:
    return texts_of(conn, queries.uids_in_open_incidents(conn))
