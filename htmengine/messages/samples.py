# SPDX-License-Identifier: MIT
"""Samples as they come: one Graphite line, and the batches of lines that the samples queue carries.

Other programs publish to this queue too; docs/messages.md describes its messages.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import isfinite
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct, field, structs

from htmengine.errors import InvalidMessage, InvalidSample
from htmengine.labels import MAX_TEXT_BYTES, sample_name, stored_name
from htmengine.messages.body import invalid, read, refuse_repeated
from htmengine.messages.bounds import (
    MAX_REASON_LENGTH,
    MAX_SENDER_LENGTH,
    MAX_SHOWN_LENGTH,
    Moment,
    Token,
    is_token,
)

#: Timestamps up to 2100-01-01; milliseconds sent by mistake lie far beyond.
MAX_TIMESTAMP = 4_102_444_800
MAX_LINE_LENGTH = 16_384
#: So far may a sample be ahead of the clock, unless [admission] max_future_s says otherwise.
MAX_FUTURE_S = 600.0
#: A message of ours is closed at this number of lines, or of their bytes; it has at least one line.
MESSAGE_LINES = 1000
MESSAGE_BYTES = 1 << 16

Reason: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH)]
Count: TypeAlias = Annotated[int, Meta(ge=0, lt=2**31)]
Counts: TypeAlias = Annotated[
    dict[Reason, Count],
    Meta(max_length=100, description="Samples that the sender rejected since its last batch, by reason."),
]
Data: TypeAlias = Annotated[
    list[str],
    Meta(description='Each "<name> <value> <epoch seconds>"; the timestamp -1 means now.'),
]
Kinds: TypeAlias = Annotated[
    str,
    Meta(
        pattern="^[gcdu]*$",
        description="A letter for each of data: g gauge, c counter, d delta, u a counter if the metric is one already. "
        "Rates are made of counters and deltas.",
    ),
]
StartedAt: TypeAlias = Annotated[
    list[Annotated[float, Meta(ge=0)]],
    Meta(description="For each of data: since when a counter or delta counts, epoch seconds; 0: not known."),
]
Texts: TypeAlias = Annotated[
    dict[str, Annotated[str, Meta(max_length=MAX_TEXT_BYTES)]],
    Meta(description="Whole texts of metrics with many labels, by the short identities that data name them with."),
]
BatchId: TypeAlias = Annotated[
    Token,
    Meta(description="Names the batch: one that is published twice is stored once. Printable, no space at its ends."),
]


Sender: TypeAlias = Annotated[str, Meta(max_length=MAX_SENDER_LENGTH)]
#: Lines in order.
Run: TypeAlias = tuple[Sender, Count]
Runs: TypeAlias = Annotated[list[Run], Meta(description="Who sent the lines, in order: [address, number of lines].")]


class Reject(Struct, frozen=True, omit_defaults=True):
    """One rejected sample, to be looked at."""

    reason: Reason
    line: Annotated[str, Meta(max_length=MAX_SHOWN_LENGTH, description="What came, cut and made printable.")]
    sender: Sender = ""


Rejects: TypeAlias = Annotated[
    list[Reject], Meta(max_length=100, description="Some of the rejected samples, for people to look at.")
]


GAUGE, COUNTER, DELTA, UNKNOWN = "g", "c", "d", "u"


class Sample(Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """One accepted Graphite line, or value of another protocol."""

    name: str  #: as `htmengine.labels.normalize` writes it, or the `identity` of a longer text
    value: float
    timestamp: int  #: epoch seconds, UTC
    #: COUNTER: a total, DELTA: what was added since the sample before; rates are made of both.  UNKNOWN: a counter if
    #: the metric is one already.
    kind: str = GAUGE
    started_at: float = 0.0  #: since when it counts; 0 when the sender does not say
    moment: float = 0.0  #: of a counter or delta: its time with the fraction of a second, which its rate is made with
    long_text: str = ""  #: what the name is the identity of, if it is one and that is known

    @property
    def text(self) -> str:
        """The whole name, as far as it is known."""
        return self.long_text or self.name

    @property
    def line(self) -> str:
        """It as a Graphite line."""
        return f"{self.text} {self.value!r} {self.timestamp}"


class SampleBatch(Struct, frozen=True):
    """Lines that came together."""

    lines: list[str]
    #: Names the batch, so that a redelivered one is not counted twice; "" from programs that do not set it.
    batch_id: str = ""
    #: Lines that the listener rejected since its last batch, by reason.
    rejected: dict[str, int] = field(default_factory=dict)
    received_at: float | None = None  #: epoch seconds of its first line, for the self-metrics
    #: Who sent the lines: (address, number of lines) in their order; none from programs that do not say.
    senders: list[Run] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)  #: some of those that ``rejected`` counts
    kinds: str = ""  #: a letter a line; "": all are gauges
    started_at: list[float] = field(default_factory=list)  #: a time a line; empty: nobody says
    #: Whole texts of metrics whose names in the lines are identities of `htmengine.labels`.
    texts: dict[str, str] = field(default_factory=dict)

    def sample(self, place: int, now: float, max_future_s: float = math.inf) -> Sample:
        """One of its lines, read.  Raises `InvalidSample`."""
        sample = parse_sample(self.lines[place], now, max_future_s)
        if self.texts and (text := self.texts.get(sample.name)):
            sample = structs.replace(sample, long_text=text)
        if not self.kinds or self.kinds[place] == GAUGE:
            return sample
        started_at = self.started_at[place] if self.started_at else 0.0
        return structs.replace(self.counted(place, sample, self.kinds[place]), started_at=started_at)

    def counted(self, place: int, sample: Sample, kind: str) -> Sample:
        """The sample of one of its lines as one of another kind, with its whole time."""
        moment = max(_parse_float(self.lines[place].split()[2]), sample.timestamp)  # -1 means now
        return structs.replace(sample, kind=kind, moment=moment)

    def sender_of(self, number: int) -> str:
        """Who sent a line; "" if that is not known.

        >>> SampleBatch(["a 1 2", "b 1 2"], senders=[("10.0.0.1", 1), ("10.0.0.2", 1)]).sender_of(1)
        '10.0.0.2'
        """
        for sender, lines in self.senders:
            number -= lines
            if number < 0:
                return sender
        return ""

    def only(self, numbers: Sequence[int]) -> SampleBatch:
        """The batch with some of its lines."""
        senders = runs(map(self.sender_of, numbers)) if self.senders else []
        return structs.replace(
            self,
            lines=[self.lines[number] for number in numbers],
            senders=senders,
            kinds="".join(self.kinds[number] for number in numbers) if self.kinds else "",
            started_at=[self.started_at[number] for number in numbers] if self.started_at else [],
        )


class SamplesMessage(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of a message of the samples queue."""

    protocol: Literal["plain"]
    data: Data
    batch_id: BatchId = ""
    rejected: Counts = field(default_factory=dict)
    received_at: Moment | None = None
    senders: Runs = field(default_factory=list)
    rejects: Rejects = field(default_factory=list)
    kinds: Kinds = ""
    started_at: StartedAt = field(default_factory=list)
    texts: Texts = field(default_factory=dict)


class _Mixed(SamplesMessage, frozen=True, rename="camel"):
    """The same with lines that are no text among the others."""

    data: list[msgspec.Raw]  # type: ignore[assignment]


_MESSAGE = msgspec.json.Decoder(SamplesMessage)
_MIXED = msgspec.json.Decoder(_Mixed)
_LINE = msgspec.json.Decoder(str)


# --- one Graphite line ---------------------------------------------------------------------------------


def parse_sample(line: str, now: float, max_future_s: float = math.inf) -> Sample:
    """Read ``name value timestamp``; the timestamp -1 means ``now``, and none may lie further ahead than that.

    A long name becomes its identity, as `stored_name` says.  Raises `InvalidSample` with the reason that
    the reject is counted under.

    >>> parse_sample("cpu.load 0.5 1400000000", now=0.0)
    Sample(name='cpu.load', value=0.5, timestamp=1400000000)
    """
    if len(line) > MAX_LINE_LENGTH:
        raise InvalidSample("line_too_long", f"{len(line)} characters; at most {MAX_LINE_LENGTH} are allowed")
    fields = line.split()
    if len(fields) != 3:
        raise InvalidSample("field_count", f"{len(fields)} fields in {_cut(line)}; write 3: name value timestamp")
    written, value, timestamp = fields
    name = sample_name(written)
    sample = Sample(name, _parse_value(value), _parse_timestamp(timestamp, now, max_future_s))
    stored = stored_name(name)
    return sample if stored is name else structs.replace(sample, name=stored, long_text=name)


def line_at(line: str, now: float, max_future_s: float) -> str:
    """A line as the storer reads it: the client's own digits, but its "now" is fixed.  Raises `InvalidSample`.

    >>> line_at("cpu 1e3 60", 100.0, 600.0), line_at("cpu 1e3 -1", 100.0, 600.0)
    ('cpu 1e3 60', 'cpu 1000.0 100')
    """
    try:  # nearly all lines pass here, and are taken as they are; the others are looked at closely
        name, value, timestamp = line.split()
        plain = bool(
            0 <= (at := float(timestamp)) <= MAX_TIMESTAMP
            and at <= now + max_future_s
            and timestamp[0] != "-"
            and isfinite(float(value))
            and "_" not in value
            and "_" not in timestamp
            and sample_name(name)
            and len(line) <= MAX_LINE_LENGTH
        )
    except (ValueError, InvalidSample):
        plain = False
    if plain:
        return line
    sample = parse_sample(line, now, max_future_s)
    return sample.line if line.rsplit(maxsplit=1)[1].startswith("-") else line


def _parse_value(text: str) -> float:
    try:
        value = _parse_float(text)
    except ValueError:
        raise InvalidSample("value_not_a_number", f"value {_cut(text)} is not a number") from None
    if not isfinite(value):
        raise InvalidSample("value_not_finite", f"value {_cut(text)}; only finite numbers are allowed")
    return value


def _parse_timestamp(text: str, now: float, max_future_s: float) -> int:
    try:
        timestamp = _parse_float(text)
    except ValueError:
        raise InvalidSample("timestamp_not_a_number", f"timestamp {_cut(text)} is not a number") from None
    if timestamp == -1:
        return int(now)
    if not 0 <= timestamp <= MAX_TIMESTAMP:  # also refuses NaN and the infinities
        raise InvalidSample(
            "timestamp_out_of_range", f"timestamp {_cut(text)}; epoch seconds up to {MAX_TIMESTAMP}, or -1"
        )
    if timestamp > now + max_future_s:
        raise InvalidSample(
            "timestamp_future",
            f"timestamp {_cut(text)} is {timestamp - now:.0f} s ahead of the clock; {max_future_s:g} s are allowed",
        )
    return int(timestamp)


def _parse_float(text: str) -> float:
    if "_" in text:  # Python's own digit grouping is no form that Graphite knows
        raise ValueError(text)
    return float(text)


def _cut(text: str, most: int = 60) -> str:
    return repr(text if len(text) <= most else text[:most] + "…")


# --- samples queue -------------------------------------------------------------------------------------


def runs(senders: Iterable[str]) -> list[Run]:
    """Who sent each line, as messages have it.

    >>> runs(["10.0.0.1", "10.0.0.1", "10.0.0.2"])
    [('10.0.0.1', 2), ('10.0.0.2', 1)]
    """
    return [(sender, len(list(lines))) for sender, lines in groupby(senders)]


def shown_line(line: bytes | str) -> str:
    """A line that was rejected, for people: short, printable.

    >>> shown_line(b"a\\x1b[31m 1\\xff"), len(shown_line("a" * 1000))
    ('a\\\\x1b[31m 1\\\\xff', 120)
    """
    cut = line[:MAX_SHOWN_LENGTH]
    text = cut if isinstance(cut, str) else cut.decode(errors="backslashreplace")
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
    return escaped[:MAX_SHOWN_LENGTH]


def line_bytes(line: str) -> int:
    """What a line adds to a message, but for its escaped characters.

    >>> line_bytes("a 1 60"), line_bytes("ä 1 60")
    (9, 10)
    """
    return 3 + (len(line) if line.isascii() else len(line.encode()))


def in_messages(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines in order, as many at a time as a message may have.

    >>> [len(part) for part in in_messages(["a 1 60"] * 1001)]
    [1000, 1]
    >>> [len(part) for part in in_messages(["a" * 4000 + " 1 60"] * 20)]
    [16, 4]
    """
    part: list[str] = []
    size = 0
    for line in lines:
        added = line_bytes(line)
        if part and (len(part) == MESSAGE_LINES or size + added > MESSAGE_BYTES):
            yield part
            part, size = [], 0
        part.append(line)
        size += added
    if part:
        yield part


def with_rejects(
    batches: Iterable[SampleBatch], rejected: dict[str, int], rejects: Sequence[Reject]
) -> Iterator[SampleBatch]:
    """The first of the batches, or an empty one where there is none, has the counts of rejects and those to be shown.

    >>> [(batch.lines, batch.rejected) for batch in with_rejects([], {"field_count": 2}, [])]
    [([], {'field_count': 2})]
    """
    untold, shown = rejected, list(rejects)
    for batch in batches:
        yield structs.replace(batch, rejected=untold, rejects=shown)
        untold, shown = {}, []
    if untold:
        yield SampleBatch([], rejected=untold, rejects=shown)


def encode_samples(batch: SampleBatch) -> bytes:
    """The body for the samples queue.

    >>> encode_samples(SampleBatch(["a 1 2"]))
    b'{"protocol":"plain","data":["a 1 2"]}'
    """
    message = SamplesMessage(
        "plain",
        batch.lines,
        batch.batch_id,
        batch.rejected,
        batch.received_at,
        batch.senders,
        batch.rejects,
        batch.kinds,
        batch.started_at,
        batch.texts,
    )
    return msgspec.json.encode(message)


def decode_samples(body: bytes) -> SampleBatch:
    """Read a samples message from any program.

    Data that are not text stay in ``lines`` as their JSON text, so that each is rejected by itself.
    """
    message: SamplesMessage | _Mixed
    try:
        message = read(body, _MESSAGE)
        lines = message.data
    except InvalidMessage as error:
        if not str(error).startswith("$.data["):
            raise
        message = read(body, _MIXED)
        lines = [_line(each) for each in message.data]
    given = (message.batch_id, message.rejected, message.received_at is not None, message.kinds, message.started_at)
    optional = sum(map(bool, (*given, message.texts)))
    senders = sum([sender.count(":") for sender, _ in message.senders], bool(message.senders))
    refuse_repeated(body, 2 + optional + len(message.rejected) + senders + len(message.texts))
    for name, column in (("$.kinds", message.kinds), ("$.startedAt", message.started_at)):
        if column and len(column) != len(lines):
            raise invalid(name, f"has {len(column)} items for {len(lines)} of data")
    if not is_token(message.batch_id):
        raise invalid("$.batchId", f"{message.batch_id!r} has a space at its end, or what cannot be printed")
    for reason in message.rejected:
        if not is_token(reason):
            raise invalid("$.rejected", f"reason {reason!r} has a space at its end, or what cannot be printed")
    return SampleBatch(
        lines,
        message.batch_id,
        message.rejected,
        message.received_at,
        message.senders,
        message.rejects,
        message.kinds,
        message.started_at,
        message.texts,
    )


def _line(raw: msgspec.Raw) -> str:
    text = bytes(raw)
    return read(text, _LINE) if text.startswith(b'"') else text.decode()
