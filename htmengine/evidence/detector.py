# SPDX-License-Identifier: MIT
"""One metric's detector: timestamp, value and raw score in; the score S and the evidence that led to it out.

Called by the Anomaly Service, the command line and benchmarks.  The computation is in ``core/detector.hpp``; this
module frames the state.

A saved state::

    magic "HTME" | version u16 | CRC-32 u32 of all that follows | state, deflated

A detector that looks at siblings has another version, and before the state the length u32 and the bytes of theirs.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.evidence import _evidence
from htmengine.evidence.kinds import KINDS, Kind, Side
from htmengine.evidence.likelihood import AnomalyLikelihood, inflate
from htmengine.evidence.siblings import NOTHING, Distance, Siblings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC, _VERSION, _WITH_SIBLINGS = b"HTME", 3, 4
_FRAME = struct.Struct("<4sHI")
_LENGTH = struct.Struct("<I")
#: More than any state has: 3 MB of raw scores with the largest window, 40 KB of the rest.
_MOST_BYTES = 1 << 22
#: Rows after which a metric's own past says more than its siblings: those that tell its range.
SIBLING_ROWS = 288


class Expected(NamedTuple):
    """What a row's value was expected to be, and the band that most values lie in; in the value's unit."""

    value: float
    low: float
    high: float


class Scored(NamedTuple):
    """n rows: scores S, heights P and likelihoods of shape (n,).

    Evidence in decades, and its sides (numbers of ``kinds.Side``), have shape (n, number of kinds).  ``expected`` has
    shape (n, 3): value, low, high; NaN where nothing was known.
    """

    scores: NDArray[np.float64]
    heights: NDArray[np.float64]
    evidence: NDArray[np.float64]
    sides: NDArray[np.uint8]
    expected: NDArray[np.float64]
    likelihoods: NDArray[np.float64]

    def beside(self, distances: Sequence[Distance | None]) -> Self:
        """With what siblings say of the first rows."""
        scored = self._replace(
            evidence=np.pad(self.evidence, ((0, 0), (0, 1))), sides=np.pad(self.sides, ((0, 0), (0, 1)))
        )
        for row, distance in enumerate(distances):
            scored.scores[row] = _joined(float(scored.scores[row]), distance)
            scored.heights[row] = _joined(float(scored.heights[row]), distance)
            scored.evidence[row, -1], scored.sides[row, -1] = distance or NOTHING
        return scored


class Detector:
    """The evidence of one metric, one pass, no look-ahead; the same constants for every metric.

    ``likelihood``: the raw scores so far and the parameters that they have; None for a model of 40 active columns
    before its first row.  It is copied.  ``gap_steps``: a silence of more steps is a gap: windows of values start again
    after it, and a mean speaks when its window is whole; infinity: there are no gaps.  Evidence e says that one waits
    10^e rows for a row at least so extreme; it is at most 7.

    Twelve intervals that are alike, but less than half or more than one and a half of the step, are another step.  Its
    rows are something else: all records begin again, and only what each hour of the day shows stays.  Nothing is told
    from the third such interval until two days and 100 values after the change.

    Rows faster than 5 minutes are judged together: the row that completes 5 minutes has the evidence of their mean, and
    the largest evidence of the sequence in them; the rows before it have their own evidence of the sequence alone.

    A value that is not finite is missing: its evidence is 0 but for the sequence's, and nothing else is learnt from it.
    A value farther from 0 than 1e140, or than a billion times the farthest so far, counts as that far: so sums stay
    finite, and ordinary values beside it are not lost for ever.  Only the first value has no such measure: if it is
    a freak, spreads and the hours' deviations stay blind to ordinary changes.

    The unit of the values changes nothing: what differs by less than 1e-12 of the magnitude of the values lately is
    equal, and there is no other measure of what is small.

    ``siblings``: metrics of the same name on other hosts.  From its 12th value to its 288th row the score and the
    height are the root mean squares of themselves and what the siblings say.

    >>> detector = Detector()
    >>> scores = [detector.update(300 * row, float(row % 7), raw=0.0) for row in range(1000)]
    >>> detector.update(300_000, 50.0, raw=1.0) > 2.6
    True
    >>> [round(e, 1) for e in detector.evidence][:4], detector.sides[0]
    ([7.0, 7.0, 7.0, 7.0], <Side.UP: 1>)
    >>> Detector.restore(detector.save()).save() == detector.save()
    True
    """

    def __init__(
        self,
        likelihood: AnomalyLikelihood | None = None,
        *,
        gap_steps: float = _evidence.GAP_STEPS,
        siblings: Siblings | None = None,
    ) -> None:
        self._core = _evidence.Detector((likelihood or AnomalyLikelihood()).core, gap_steps)
        self._siblings = siblings
        self._distance: Distance | None = None  # of the last row; None: siblings are not asked

    def update(self, timestamp: int, value: float, raw: float) -> float:
        """The next row's score S, from 0 to 7; learn from it.

        ``timestamp`` is in epoch seconds, UTC; it may repeat or go back.  ``raw`` is the model's score of the row.
        Raises ValueError for a raw score that is no share of the active columns, and for a timestamp more than
        2 ** 42 seconds from 1970; the detector is then as before.
        """
        score = self._core.update(timestamp, value, raw)
        self._distance = self._distance_of(self._core.rows, timestamp, value)
        return _joined(score, self._distance)

    def update_many(
        self, timestamps: NDArray[np.int64], values: NDArray[np.float64], raws: NDArray[np.float64]
    ) -> Scored:
        """The same for n rows, one after the other, to the bit; all arrays have shape (n,).

        Other Python threads run meanwhile.  Raises ValueError as ``update`` does, before the first row is learnt.
        """
        first = self._core.rows + 1
        alone = Scored(*self._core.update_many(timestamps, values, raws))
        asked = 0 if self._siblings is None else min(max(SIBLING_ROWS + 2 - first, 0), len(values))
        rows = zip(range(first, first + asked), timestamps[:asked].tolist(), values[:asked].tolist(), strict=True)
        distances = [self._distance_of(*row) for row in rows]
        if len(values):
            self._distance = distances[-1] if asked == len(values) else None
        return alone.beside(distances)

    def _distance_of(self, row: int, timestamp: int, value: float) -> Distance | None:
        """What the siblings say of a row; None: they are not asked, or do not know the metric's level yet."""
        siblings = self._siblings
        if row >= SIBLING_ROWS:
            self._siblings = None
        if siblings is None or row > SIBLING_ROWS:
            return None
        distance = siblings.update(timestamp, value)
        return distance if siblings.know_its_level else None

    @property
    def evidence(self) -> Sequence[float]:
        """The last row's decades, a kind each in the order of ``kinds.KINDS``; 0 before the first row."""
        return [*self._core.evidence, (self._distance or NOTHING).decades]

    @property
    def sides(self) -> Sequence[Side]:
        """The side on which each kind finds the last row unusual."""
        return [*map(Side, self._core.sides), (self._distance or NOTHING).side]

    def side_of(self, kind: Kind) -> Side:
        """The same of one kind."""
        return self.sides[KINDS.index(kind)]

    @property
    def expected(self) -> Expected | None:
        """What the last row's value was expected to be, before it came; None if nothing was known.

        The mean of its hour of the day over some two weeks, give or take two standard deviations of that hour
        (shrunk towards the metric's own).  While the hour is not known: the mean of up to 48 values before the row, at
        least 4, and a band for the next one by Student's t, which is wide at first.
        """
        expected = self._core.expected
        return None if expected is None else Expected(*expected)

    def paced(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Decades as the score counts them, by the metric's step: a page costs per week, a test is made per row."""
        return self._core.paced(evidence)

    @property
    def height(self) -> float:
        """The last row's height P, of a page: the score S, and 0.6 of the loudest kind that may page alone.

        The two are sides of a triangle with a right angle: a kind that speaks alone counts, and agreement counts more.
        """
        return _joined(self._core.height, self._distance)

    @property
    def likelihood(self) -> float:
        """The last row's anomaly likelihood, as ``AnomalyLikelihood.score`` gives it."""
        return self._core.likelihood

    @property
    def step(self) -> float:
        """Seconds from one judged value to the next: the interval, at least 300."""
        return self._core.step

    @property
    def interval(self) -> float:
        """Seconds between rows: the median of the first 31 intervals of the present step; 300 before there is one."""
        return self._core.interval

    @property
    def changed_at(self) -> int | None:
        """Epoch seconds of the row from which on the interval is another one; None: it never changed."""
        return self._core.changed_at

    @property
    def rows(self) -> int:
        """Rows so far, also those of the likelihood that it started from."""
        return self._core.rows

    @property
    def values(self) -> int:
        """Values so far that were judged: rows that had one, or means of 5 minutes of faster rows."""
        return self._core.values

    @property
    def memory_bytes(self) -> int:
        """Memory of this detector, in bytes."""
        return self._core.bytes

    def save(self) -> bytes:
        """The state as bytes: ``restore`` gives one that goes on exactly; the same bytes for the same state.

        What is said of the last row is no part of it.
        """
        state = zlib.compress(self._core.save(), level=1)
        if self._siblings is None:
            return _FRAME.pack(_MAGIC, _VERSION, zlib.crc32(state)) + state
        siblings = self._siblings.save()
        state = _LENGTH.pack(len(siblings)) + siblings + state
        return _FRAME.pack(_MAGIC, _WITH_SIBLINGS, zlib.crc32(state)) + state

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """The detector that ``save`` wrote.

        Raises UnknownCheckpointVersion for one that another version of this program wrote, CorruptCheckpoint for
        bytes that are damaged or no detector at all.
        """
        if len(data) < _FRAME.size or not data.startswith(_MAGIC):
            raise CorruptCheckpoint("not a saved detector")
        _, version, checksum = _FRAME.unpack_from(data)
        if version not in (_VERSION, _WITH_SIBLINGS):
            raise UnknownCheckpointVersion(f"a saved detector has version {version}, not {_VERSION}")
        state = memoryview(data)[_FRAME.size :]
        if zlib.crc32(state) != checksum:
            raise CorruptCheckpoint("a saved detector is damaged: its checksum is wrong")
        try:
            siblings, state = _siblings_of(state) if version == _WITH_SIBLINGS else (None, state)
            core = _evidence.Detector.restore(inflate(state, _MOST_BYTES))
        except (ValueError, zlib.error, struct.error, _evidence.CorruptState) as error:
            raise CorruptCheckpoint(f"a saved detector makes no sense: {error}") from error
        restored = cls.__new__(cls)
        restored._core, restored._siblings, restored._distance = core, siblings, None
        return restored


def _joined(alone: float, distance: Distance | None) -> float:
    """The root mean square of decades and those of the siblings, if they know."""
    if distance is None:
        return alone
    return math.sqrt((alone * alone + distance.decades * distance.decades) / 2)


def _siblings_of(state: memoryview) -> tuple[Siblings, memoryview]:
    """The siblings at the beginning of a state, and what comes after them."""
    end = _LENGTH.size + _LENGTH.unpack_from(state)[0]
    return Siblings.restore(bytes(state[_LENGTH.size : end])), state[end:]
