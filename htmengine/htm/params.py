# SPDX-License-Identifier: MIT
"""Everything that defines a model: encoders, spatial pooler, temporal memory, classifier.

In: a metric's range (``ModelParams.for_range``), a NuPIC model description (`htmengine.htm.opf`) or the
JSON of a definition message or checkpoint (``ModelParams.from_json``).  Out: frozen, checked values that the
model core is built from.  Used by the datasource adapter, the storer, the model runner and the CLI.

The defaults are those of HTM Engine's models.  A value that is not allowed is refused with an
``InvalidModelSpec`` that names it and says what is allowed.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

from htmengine.errors import InvalidModelSpec
from htmengine.htm.checks import Flag, OneOf, Params, Real, Whole, as_object, as_tuple, refusal

#: Buckets that the value encoder spreads over a metric's range.
BUCKETS = 130
#: Ends of a range are cut off here, so that its span, three times as wide, is a number.
LARGEST = 2.0**1000
#: No range is narrower, so that a bucket's width is a number above 0.
LEAST_SPAN = 2.0**-1000
#: A range that is estimated from data is widened on both sides by this share of it.
RANGE_MARGIN = 0.2
#: The same where the data are only a metric's first: most go on to leave their first day's range.
SAMPLE_MARGIN = 1.0
#: First values that are further away than this many spans of their middle half are outliers.
OUTLIER_SPANS = 10

_TIE = 1e-9  # so near to a limit a value is at it: the last digit depends on the unit
_MAX_CELLS = 65536  # the core numbers cells with 16 bits


_Share = Annotated[float, Real(0.0, 1.0)]
_Seed = Annotated[int, Whole(0, 2**63 - 1)]
_Bits = Annotated[int, Whole(1, 65535)]
_Width = Annotated[int, Whole(1, 255, odd=True)]


# --- value encoders -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RandomDistributedScalarParams(Params):
    """The random distributed scalar encoder: ``w`` of ``n`` bits, nearby values share bits.

    >>> RandomDistributedScalarParams(resolution=0.5).n
    400
    """

    TYPE: ClassVar[str] = "random_distributed_scalar"

    #: Values this far apart fall into neighbouring buckets; in the metric's unit.
    resolution: Annotated[float, Real(0.0, above=True)]
    #: Bits in all; more than 6 w, or far buckets could not be told apart.
    n: _Bits = 400
    #: Bits that are on.
    w: _Width = 21
    #: The value at the centre of the bucket table; None: the first value that is encoded.
    offset: Annotated[float, Real()] | None = None
    #: Seed of the bucket table, which all models with the same n, w and seed share.
    seed: _Seed = 42
    #: The known range.  Beyond it buckets widen, twofold every 40 buckets, so that values far outside are still
    #: told apart, and what was learnt inside stays as it is; None: all buckets have one width.
    minval: Annotated[float, Real()] | None = None
    maxval: Annotated[float, Real()] | None = None

    def _check_together(self) -> None:
        self._require(self.n > 6 * self.w, "n", f"more than 6 w = {6 * self.w}")
        _check_range(self)

    @property
    def bits(self) -> int:
        """Bits in all."""
        return self.n


class _Row(Params):
    """What the scalar encoders share: a row of bits over a span, of which w neighbours are on."""

    __slots__ = ()

    w: int
    n: int | None
    radius: float | None
    resolution: float | None
    forced: bool
    periodic: bool = False

    @property
    def span(self) -> float:
        """From one end of the row to the other."""
        raise NotImplementedError

    @property
    def bits(self) -> int:
        """Bits in all."""
        return self.n or _row_bits(
            self.w, self.span, self.radius or self.w * self.step, self.step, periodic=self.periodic
        )

    @property
    def step(self) -> float:
        """The width of a bucket, in units of the span."""
        if self.n is not None:
            return self.span / (self.n if self.periodic else self.n - self.w)
        return self.resolution or (self.radius or 0.0) / self.w

    def _check_row(self) -> None:
        name = type(self).__name__
        if sum(size is not None for size in (self.n, self.radius, self.resolution)) != 1:
            raise InvalidModelSpec(f"{name}: give exactly one of n, radius and resolution")
        self._require(self.n is None or self.n > self.w, "n", f"more than w = {self.w}")
        self._require(self.w >= 21 or self.forced, "w", "at least 21, or any odd number with forced")
        self._require(self.bits <= 65535, "n", "at most 65535 bits, also if it follows from radius or resolution")


def _row_bits(w: int, span: float, radius: float, step: float, *, periodic: bool) -> int:
    # NuPIC's arithmetic, operation by operation: rounding decides whether a bit more is needed.
    reach, padding = (span, 0) if periodic else (span + step, w // 2)
    return math.ceil(w * (reach / radius) + 2 * padding)


@dataclass(frozen=True, slots=True)
class ScalarParams(_Row):
    """The scalar encoder: ``w`` neighbouring bits whose place tells the value between ``minval`` and ``maxval``.

    Exactly one of ``n``, ``radius`` and ``resolution`` is given; ``bits`` and ``step`` follow from it.

    >>> ScalarParams(minval=0, maxval=100, n=121).step
    1.0
    """

    TYPE: ClassVar[str] = "scalar"

    minval: Annotated[float, Real()]
    maxval: Annotated[float, Real()]
    #: Bits that are on; at least 21 unless ``forced``.
    w: _Width = 21
    #: Bits in all.
    n: _Bits | None = None
    #: Values this far apart share no bit.
    radius: Annotated[float, Real(0.0, above=True)] | None = None
    #: Values this far apart differ in at least one bit.
    resolution: Annotated[float, Real(0.0, above=True)] | None = None
    #: The range is a ring: its ends are neighbours.
    periodic: Annotated[bool, Flag()] = False
    #: Values outside count as the nearest end; without it they are an error, as in NuPIC.
    clip_input: Annotated[bool, Flag()] = False
    #: Allows fewer than 21 bits.
    forced: Annotated[bool, Flag()] = False

    def _check_together(self) -> None:
        self._require(self.maxval > self.minval, "maxval", f"more than minval = {self.minval!r}")
        self._check_row()

    @property
    def span(self) -> float:
        """From ``minval`` to ``maxval``."""
        return self.maxval - self.minval


@dataclass(frozen=True, slots=True)
class LogParams(_Row):
    """The scalar encoder over the decimal logarithm of the value; radius and resolution are in decades.

    Values outside ``minval`` .. ``maxval`` count as the nearest end.

    >>> LogParams(minval=1, maxval=10000, n=100).bits
    100
    """

    TYPE: ClassVar[str] = "log"

    minval: Annotated[float, Real(0.0, above=True)] = 1e-7
    maxval: Annotated[float, Real(0.0, above=True)] = 10000.0
    w: _Width = 21
    n: _Bits | None = None
    radius: Annotated[float, Real(0.0, above=True)] | None = None
    resolution: Annotated[float, Real(0.0, above=True)] | None = None
    forced: Annotated[bool, Flag()] = False

    def _check_together(self) -> None:
        self._require(self.maxval > self.minval, "maxval", f"more than minval = {self.minval!r}")
        self._check_row()

    @property
    def span(self) -> float:
        """From ``minval`` to ``maxval``, in decades."""
        return math.log10(self.maxval) - math.log10(self.minval)


@dataclass(frozen=True, slots=True)
class DeltaParams(Params):
    """The scalar encoder over the difference to the previous value; the first difference is 0.

    Its range starts as ``minval`` .. ``maxval``, or without them as ``d .. d + 1`` with the first difference d,
    and widens to hold every difference that comes.

    >>> DeltaParams(n=121).bits
    121
    """

    TYPE: ClassVar[str] = "delta"

    n: _Bits
    w: _Width = 21
    minval: Annotated[float, Real()] | None = None
    maxval: Annotated[float, Real()] | None = None
    forced: Annotated[bool, Flag()] = False

    def _check_together(self) -> None:
        self._require(self.n > self.w, "n", f"more than w = {self.w}")
        self._require(self.w >= 21 or self.forced, "w", "at least 21, or any odd number with forced")
        _check_range(self)

    @property
    def bits(self) -> int:
        """Bits in all."""
        return self.n


def _check_range(params: RandomDistributedScalarParams | DeltaParams) -> None:
    """Both ends or neither."""
    low, high = params.minval, params.maxval
    if (low is None) != (high is None) or (low is not None and high is not None and not low < high):
        raise refusal(f"{type(params).__name__}.maxval", high, f"more than minval = {low!r}, or neither of them")


ValueParams = RandomDistributedScalarParams | ScalarParams | LogParams | DeltaParams
_VALUE_TYPES: dict[str, type[ValueParams]] = {
    params.TYPE: params for params in (RandomDistributedScalarParams, ScalarParams, LogParams, DeltaParams)
}


# --- date encoder ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DateField(Params):
    """One aspect of the timestamp as ``w`` bits; times ``radius`` apart (in the aspect's unit) share none."""

    w: _Width
    radius: Annotated[float, Real(0.0, above=True)]

    def bits(self, span: float, *, periodic: bool) -> int:
        """Bits in all, for an aspect that goes over ``span`` of its units."""
        return _row_bits(self.w, span, self.radius, self.radius / self.w, periodic=periodic)


@dataclass(frozen=True, slots=True)
class DateParams(Params):
    """The date encoder: the aspects of the timestamp (UTC) that are given, in the order of the fields here: NuPIC's.

    >>> DateParams().bits
    54
    """

    #: Day of the year, a ring of 366 days.
    season: DateField | None = None
    #: Monday 0 .. Sunday 6 and the fraction of the day, a ring of 7 days.
    day_of_week: DateField | None = None
    #: 1 from Friday 18:01 to the end of Sunday, else 0.
    weekend: DateField | None = None
    #: 1 on a holiday, falling to 0 within a day before and after.
    holiday: DateField | None = None
    #: Hour of the day, a ring of 24 hours; seconds are ignored.
    time_of_day: DateField | None = DateField(21, 9.49)
    #: The holidays: (month, day) of every year or (year, month, day).
    holidays: tuple[tuple[int, ...], ...] = ((12, 25),)

    #: Span and ring of each aspect.
    ASPECTS: ClassVar[dict[str, tuple[float, bool]]] = {
        "season": (366.0, True),
        "day_of_week": (7.0, True),
        "weekend": (1.0, False),
        "holiday": (1.0, False),
        "time_of_day": (24.0, True),
    }

    def _check_together(self) -> None:
        for day in self.holidays:
            self._require(_is_day(day), "holidays", "(month, day) or (year, month, day) each")

    @classmethod
    def _read(cls, name: str, value: Any, path: str) -> Any:
        if name == "holidays":
            return tuple(as_tuple(path, day) for day in as_tuple(path, value))
        return None if value is None else DateField.from_json(value, path)

    @property
    def bits(self) -> int:
        """Bits in all."""
        return sum(
            aspect.bits(span, periodic=periodic)
            for name, (span, periodic) in self.ASPECTS.items()
            if (aspect := getattr(self, name)) is not None
        )


def _is_day(day: tuple[int, ...]) -> bool:
    if len(day) not in (2, 3) or not all(isinstance(part, int) for part in day):
        return False
    try:
        datetime.date(*day) if len(day) == 3 else datetime.date(2000, *day)  # 2000 had a 29 February
    except ValueError:
        return False
    return True


# --- pooler, temporal memory, classifier ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpatialPoolerParams(Params):
    """The spatial pooler: global inhibition, no boosting."""

    columns: Annotated[int, Whole(1, _MAX_CELLS)] = 2048
    #: Columns that win on each row.
    active_columns: Annotated[int, Whole(1, 255)] = 40
    #: Share of the input bits that a column can ever see.
    potential_pct: Annotated[float, Real(0.0, 1.0, above=True)] = 0.8
    #: Permanence from which a synapse is connected.
    connected: Annotated[float, Real(0.0, 1.0, above=True)] = 0.2
    #: Added to a winner's synapses on bits that are on.
    increment: _Share = 0.003
    #: Taken from a winner's synapses on bits that are off.
    decrement: _Share = 0.0005
    #: Learns on every k-th row, with k times the increment and decrement.
    learn_every: Annotated[int, Whole(1, 1000)] = 4
    seed: _Seed = 1956

    def _check_together(self) -> None:
        self._require(self.active_columns <= self.columns, "active_columns", f"at most columns = {self.columns}")


#: Rows that NuPIC's inference can go back to, unless its parameters say so.
NUPIC_MAX_INFERENCE = 10

#: The temporal memories, by NuPIC's names: the backtracking one and the plain one.
BACKTRACKING, PLAIN = "cpp", "tm_cpp"


@dataclass(frozen=True, slots=True)
class TemporalMemoryParams(Params):
    """The temporal memory.

    The plain kind has no use for pam_length, max_sequence, max_inference and max_learning, the backtracking one
    none for predicted_segment_decrement.
    """

    kind: Annotated[str, OneOf((BACKTRACKING, PLAIN))] = BACKTRACKING
    #: The backtracking kind reserves one of them for "no known past".
    cells_per_column: Annotated[int, Whole(1, 32)] = 32
    #: Active synapses that make a segment active.
    activation_threshold: Annotated[int, Whole(1, 255)] = 13
    #: Active synapses, connected or not, that make a segment match for learning.
    min_threshold: Annotated[int, Whole(1, 255)] = 10
    #: Synapses that a segment grows to on one row.
    new_synapses: Annotated[int, Whole(1, 255)] = 20
    initial_permanence: Annotated[float, Real(0.0, 1.0, above=True)] = 0.21
    connected_permanence: Annotated[float, Real(0.0, 1.0, above=True)] = 0.5
    increment: _Share = 0.1
    decrement: _Share = 0.1
    #: Most synapses on a segment.
    max_synapses: Annotated[int, Whole(1, 255)] = 32
    #: Most segments of the whole model; the least recently used of a few give way.
    max_segments: Annotated[int, Whole(1, 65535)] = 16000
    #: Rows that learning may be out of sequence before it starts again.
    pam_length: Annotated[int, Whole(1, 1000)] = 3
    #: Rows after which learning starts a new sequence; 0: never.
    max_sequence: Annotated[int, Whole(0, 100000)] = 32
    #: Earlier rows that inference can go back to when it is lost; 0: a column that was not predicted bursts.
    max_inference: Annotated[int, Whole(0, 100)] = 0
    #: Earlier rows that learning can go back to.
    max_learning: Annotated[int, Whole(0, 100)] = 5
    #: Taken from the active synapses of segments that predicted wrongly.
    predicted_segment_decrement: _Share = 0.0
    seed: _Seed = 1960

    def _check_together(self) -> None:
        self._require(
            self.min_threshold <= self.activation_threshold,
            "min_threshold",
            f"at most activation_threshold = {self.activation_threshold}",
        )
        self._require(
            self.new_synapses <= self.max_synapses, "new_synapses", f"at most max_synapses = {self.max_synapses}"
        )
        if self.kind == BACKTRACKING:
            self._require(self.cells_per_column >= 2, "cells_per_column", "from 2 to 32 with kind 'cpp'")


@dataclass(frozen=True, slots=True)
class ClassifierParams(Params):
    """The SDR classifier, which predicts the value some rows ahead."""

    #: Learning rate.
    alpha: Annotated[float, Real(0.0, 1.0, above=True)] = 0.035828933612157998
    #: How many rows ahead; each gives a distribution of its own.
    steps: tuple[int, ...] = (1,)
    #: Weight of a new value in the average that a bucket stands for.
    act_value_alpha: Annotated[float, Real(0.0, 1.0, above=True)] = 0.3

    def _check_together(self) -> None:
        allowed = all(isinstance(step, int) and 0 <= step <= 1000 for step in self.steps)
        self._require(
            bool(self.steps) and allowed and list(self.steps) == sorted(set(self.steps)),
            "steps",
            "whole numbers from 0 to 1000, ascending, each once",
        )

    @classmethod
    def _read(cls, name: str, value: Any, path: str) -> Any:
        return as_tuple(path, value) if name == "steps" else value


# --- what other metrics show ----------------------------------------------------------------------------------

#: Hours of the day.
HOURS = 24


@dataclass(frozen=True, slots=True)
class SiblingParams(Params):
    """What a metric of the same name on another host shows at each hour of the day (UTC): n = 24 numbers each."""

    #: Means, in that metric's unit.
    means: tuple[float, ...]
    #: Standard deviations around them.
    deviations: tuple[float, ...]

    def _check_together(self) -> None:
        for name, check in (("means", Real()), ("deviations", Real(0.0))):
            path = f"SiblingParams.{name}"
            numbers = tuple(check.check(path, number) for number in as_tuple(path, getattr(self, name)))
            object.__setattr__(self, name, numbers)
            self._require(len(numbers) == HOURS, name, f"{HOURS} numbers, one an hour")


# --- the model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelParams(Params):
    """All parameters of one model.

    >>> params = ModelParams.for_range(0.0, 130.0)
    >>> params.value.resolution, params.input_bits
    (1.0, 454)
    >>> ModelParams.from_json(params.to_json()) == params
    True
    """

    value: ValueParams
    date: DateParams = field(default_factory=DateParams)
    spatial: SpatialPoolerParams = field(default_factory=SpatialPoolerParams)
    temporal: TemporalMemoryParams = field(default_factory=TemporalMemoryParams)
    #: None: no predictions.
    classifier: ClassifierParams | None = None
    #: What the metric's siblings showed when it began.  The model does not look at them: its detector does, at first.
    siblings: tuple[SiblingParams, ...] = ()

    def _check_together(self) -> None:
        most = _MAX_CELLS // self.temporal.cells_per_column
        if self.spatial.columns > most:
            raise refusal(
                "SpatialPoolerParams.columns",
                self.spatial.columns,
                f"at most {most} with {self.temporal.cells_per_column} cells a column",
            )
        if self.input_bits > 65535:
            raise refusal("ModelParams.input_bits", self.input_bits, "at most 65535")

    @property
    def input_bits(self) -> int:
        """Bits that all encoders make together: first the date's, then the value's."""
        return self.date.bits + self.value.bits

    @classmethod
    def for_range(
        cls, minimum: float, maximum: float, *, min_resolution: float | None = None, classifier: bool = False
    ) -> Self:
        """The standard model of a metric whose values lie from ``minimum`` to ``maximum``.

        ``min_resolution`` is the finest resolution of the value encoder; by default the range alone sets it, so that
        a metric's scores do not depend on its unit.  A range of one value is as wide as that value is large.
        Raises InvalidModelSpec unless minimum <= maximum, both finite, and 0 < min_resolution.

        >>> ModelParams.for_range(0.0, 1.3).value.resolution
        0.01
        """
        low, high = Real().check("min", minimum), Real().check("max", maximum)
        if low > high:
            raise refusal("max", maximum, f"at least min = {minimum!r}")
        finest = 0.0 if min_resolution is None else Real(0.0, above=True).check("minResolution", min_resolution)
        low, high = _bounded(low), _bounded(high)
        span = max(high - low if high > low else abs(low) or 1.0, LEAST_SPAN)
        return cls(
            RandomDistributedScalarParams(resolution=max(finest, span / BUCKETS), minval=low, maxval=low + span),
            classifier=ClassifierParams() if classifier else None,
        )

    @classmethod
    def for_sample(
        cls, values: Sequence[float], *, min_resolution: float | None = None, classifier: bool = False
    ) -> Self:
        """The standard model of a metric that began with these values.

        They show only part of the range that the metric will use, so the model is made for one that is wider by
        SAMPLE_MARGIN on both sides; and its inference goes back where it is lost, because what bursting gains with a
        known range it does not gain here.  An outlier among them does not count (`first_range`).  Raises
        InvalidModelSpec without any finite value, and as ``for_range`` does.

        >>> ModelParams.for_sample([0.0, 65.0, 130.0]).value.resolution
        3.0
        """
        lowest, highest = first_range(values)
        margin = SAMPLE_MARGIN * (highest - lowest)
        params = cls.for_range(lowest - margin, highest + margin, min_resolution=min_resolution, classifier=classifier)
        return replace(params, temporal=TemporalMemoryParams(max_inference=NUPIC_MAX_INFERENCE))

    def to_json(self) -> dict[str, Any]:
        """All parameters as plain JSON values; ``from_json`` gives an equal object."""
        document = Params.to_json(self)
        document["value"] = {"type": self.value.TYPE, **document["value"]}
        if not self.siblings:
            del document["siblings"]
        return document

    @classmethod
    def _read(cls, name: str, value: Any, path: str) -> Any:
        if name == "value":
            given = dict(as_object(path, value))
            kind = given.pop("type", None)
            if not isinstance(kind, str) or kind not in _VALUE_TYPES:
                raise refusal(f"{path}.type", kind, " or ".join(_VALUE_TYPES))
            return _VALUE_TYPES[kind].from_json(given, path)
        if name == "classifier" and value is None:
            return None
        if name == "siblings":
            return tuple(SiblingParams.from_json(each, path) for each in as_tuple(path, value))
        parts: dict[str, type[Params]] = {
            "date": DateParams,
            "spatial": SpatialPoolerParams,
            "temporal": TemporalMemoryParams,
            "classifier": ClassifierParams,
        }
        return parts[name].from_json(value, path)


def range_of(values: Iterable[float]) -> tuple[float, float]:
    """The range to assume for a metric from a sample of its values: theirs, a fifth wider on both sides.

    Raises InvalidModelSpec without any finite value.

    >>> range_of([0.0, 30.0, 100.0])
    (-20.0, 120.0)
    """
    finite = _finite(values)
    low, high = _bounded(min(finite)), _bounded(max(finite))
    margin = RANGE_MARGIN * (high - low)
    return low - margin, high + margin


def first_range(values: Iterable[float]) -> tuple[float, float]:
    """The lowest and the highest of a metric's first values, without outliers of any size.

    What lies within OUTLIER_SPANS spans of the middle half counts; where the middle half is one value, that of a wider
    middle; where nearly all values agree, all count.  Raises InvalidModelSpec without any finite value.

    >>> first_range([1, 2, 3, 4, 5, 6, 1e6])
    (1.0, 6.0)
    """
    ordered = sorted(map(_bounded, _finite(values)))
    for share in (0.25, 0.1, 0.05, 0.01):
        low, high = _quantile(ordered, share), _quantile(ordered, 1 - share)
        if low < high:
            reach = OUTLIER_SPANS * (high - low) * (1 + _TIE)
            inside = [value for value in ordered if low - reach <= value <= high + reach]
            return inside[0], inside[-1]
    return ordered[0], ordered[-1]


def _finite(values: Iterable[float]) -> list[float]:
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite:
        raise InvalidModelSpec("a range needs at least one finite value")
    return finite


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Between two neighbours on a straight line (Hyndman and Fan 1996, definition 7)."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * (place - below)


def _bounded(value: float) -> float:
    return min(max(value, -LARGEST), LARGEST)
