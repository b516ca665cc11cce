# SPDX-License-Identifier: MIT
"""From raw anomaly scores to the anomaly score: how unusual is the recent average, for this metric?

In: each row's value and raw score, in order.  Out: the anomaly score in [0, 1], 0.5 for a usual row, and its
logarithmic scale for display.  Called by the Anomaly Service, ``htmengine score`` and ``htmengine nab``.

The average of the last 10 raw scores is compared with the normal distribution of such averages over a sliding
window; the score is one minus the upper tail.  (Lavin and Ahmad 2015; Ahmad, Lavin, Purdy and Agha 2017.)  The
distribution is refreshed on every row at constant cost.  A raw score is a count of columns over their number, so
all sums are whole numbers: nothing drifts, and a restored state goes on bit for bit.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections import deque
from typing import Any, NamedTuple, Self

from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion

#: Rows whose raw scores are averaged.
AVERAGE = 10
_LEAST_MEAN = 0.03
_LEAST_VARIANCE = 0.0003
#: The distribution while there is no better one: every average is near its middle.
_NULL_MEAN, _NULL_VARIANCE = 0.5, 1e6
#: Values that vary less than this are flat, where the encoder's resolution is not known.
_FLAT_VARIANCE = 1.5e-5
#: Below this tail a row is red; the rows after it, while they stay red, get _YELLOW.
_RED, _YELLOW = 1e-5, 0.001
#: Share of the range seen so far by which a value must leave it to count as outside.
_RANGE_TOLERANCE = 0.05
#: Blocks that the window's values are summed up in.
_BLOCKS = 32

_MAGIC, _VERSION = b"HTMA", 1
# magic, version, active columns, range rule, single precision, window, skip, min sample, min averages,
# resolution (0: not known), rows, minimum, maximum, sum and sum of squares of the window, blocks
_HEAD = struct.Struct("<4sBBBBIIIIdQdd8s16sI")
_BLOCK = struct.Struct("<Idd")
_CHECKSUM = struct.Struct("<I")


def log_scale(score: float) -> float:
    """The score for display: 0.9 gives 0.1, 0.99999 gives 0.5, 1.0 gives 1.0.

    >>> round(log_scale(0.999), 6)
    0.3
    """
    return math.log(1.0000000001 - score) / -23.02585084720009


class _Spread(NamedTuple):
    """Rows, mean and sum of squared deviations of some values."""

    rows: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def with_value(self, value: float) -> _Spread:
        rows = self.rows + 1
        mean = self.mean + (value - self.mean) / rows
        return _Spread(rows, mean, self.squares + (value - self.mean) * (value - mean))

    def merged(self, other: _Spread) -> _Spread:
        rows = self.rows + other.rows
        if rows == 0:
            return self
        distance = other.mean - self.mean
        return _Spread(
            rows,
            self.mean + distance * other.rows / rows,
            self.squares + other.squares + distance * distance * self.rows * other.rows / rows,
        )


class AnomalyLikelihood:
    """The anomaly likelihood of one metric, one-sided: a quiet metric scores near 0.

    ``active_columns``: the model's, 1 to 255; a raw score is a multiple of 1 / active_columns.
    ``range_rule``: a value that leaves the range of all values so far by more than 5 % of it scores 1.0.  May be
    set at any time; without it the scores are HTM Engine's.
    ``resolution``: of the value encoder.  Known, a metric counts as flat while its values vary less than they
    would within one bucket; otherwise while their variance is under 1.5e-5, as in HTM Engine.
    ``window``: rows that the distribution is made from.  ``skip``: first rows of the model that it leaves out, at
    least 9.  ``min_sample``: first rows, which score 0.  ``min_averages``: averages that the distribution needs;
    until there are, the score is 0.4998.  HTM Engine's value is 1, and a distribution fitted on a handful of
    averages raises false alarms.  ``single_precision``: the raw scores are NuPIC's, which are 4-byte floats.

    The flat rule looks at the window in steps of 1/32 of it, so that the values need not be kept.

    >>> likelihood = AnomalyLikelihood()
    >>> scores = [likelihood.score(value=row % 7, raw=0.0) for row in range(600)]
    >>> scores[99], round(scores[100], 4), round(scores[599], 4)
    (0.0, 0.4998, 0.0416)
    >>> AnomalyLikelihood.restore(likelihood.save()).score(3.0, raw=1.0) > 0.9999
    True
    """

    def __init__(
        self,
        *,
        active_columns: int = 40,
        range_rule: bool = True,
        resolution: float | None = None,
        window: int = 8640,
        skip: int = 288,
        min_sample: int = 100,
        min_averages: int = 100,
        single_precision: bool = False,
    ) -> None:
        if not 1 <= active_columns <= 255:
            raise ValueError(f"active_columns: {active_columns} is not from 1 to 255")
        if skip < AVERAGE - 1 or min_sample < 0 or not 1 <= min_averages <= window:
            raise ValueError("needed are skip >= 9, min_sample >= 0 and 1 <= min_averages <= window")
        if resolution is not None and not 0 < resolution < math.inf:
            raise ValueError(f"resolution: {resolution!r} is not a number above 0")
        self.range_rule = range_rule
        self._active_columns = active_columns
        self._resolution = resolution
        self._window = window
        self._skip = skip
        self._min_sample = min_sample
        self._min_averages = min_averages
        self._single_precision = single_precision
        #: A raw score of k columns is units[k] / scale, exactly.
        self._units, self._scale = _raw_scores(active_columns, single_precision)
        #: Rows scored so far.
        self.rows = 0
        #: Active columns that were not expected, of the newest rows; row r stands at r modulo the capacity.
        self._counts = bytearray()
        #: Rows that the oldest average of the window reaches back to.
        self._capacity = window + AVERAGE
        #: Sum and sum of squares, in units, of the 10-row sums of the rows max(skip, rows - window) .. rows - 1.
        self._sum = 0
        self._sum_of_squares = 0
        #: The newest row's average.
        self._average = 0.0
        self._minimum, self._maximum = math.inf, -math.inf
        #: The values after the skipped rows: whole blocks, oldest first, their merger, and the block being filled.
        self._block_rows = -(-window // _BLOCKS)
        self._blocks: deque[_Spread] = deque()
        self._merged = _Spread()
        self._block = _Spread()

    def score(self, value: float, raw: float) -> float:
        """The anomaly score of the next row, in [0, 1].

        Raises ValueError if ``value`` is not finite or ``raw`` is no share of the active columns.
        """
        count = round(raw * self._active_columns) if 0.0 <= raw <= 1.0 else -1
        if count < 0 or abs(count / self._active_columns - raw) > 1e-6:
            raise ValueError(f"raw: {raw!r} is not a share of {self._active_columns} columns")
        if not math.isfinite(value):
            raise ValueError(f"value: {value!r} is not finite")
        self._put(count)
        ten_row_sum = self._ten_row_sum(self.rows)
        likelihood = 1.0 - self._tail(ten_row_sum)
        outside = self._leaves_range(value)
        self._learn(value, ten_row_sum)
        if self.rows <= self._min_sample:
            return 0.0
        return 1.0 if outside and self.range_rule else likelihood

    def _put(self, count: int) -> None:
        place = self.rows % self._capacity
        if place == len(self._counts):
            self._counts.append(count)
        else:
            self._counts[place] = count

    def _ten_row_sum(self, row: int) -> int:
        """Raw scores of the 10 rows up to ``row``, of fewer at first, in units."""
        first, last = max(0, row - AVERAGE + 1) % self._capacity, row % self._capacity
        counts = self._counts
        recent = counts[first : last + 1] if first <= last else counts[first:] + counts[: last + 1]
        return sum(map(self._units.__getitem__, recent))

    def _tail(self, ten_row_sum: int) -> float:
        """The upper tail of the newest row's average; only the first red row of a run stays red."""
        mean, deviation = self._distribution()
        before = self._average
        self._average = ten_row_sum / (min(self.rows + 1, AVERAGE) * self._scale)
        tail = _upper_tail((self._average - mean) / deviation)
        if tail <= _RED and self.rows > 0 and _upper_tail((before - mean) / deviation) <= _RED:
            return _YELLOW
        return tail

    def _distribution(self) -> tuple[float, float]:
        """Mean and standard deviation of the averages before the newest row."""
        averages = self.rows - max(self._skip, self.rows - self._window)
        if averages < self._min_averages or self._is_flat():
            return _NULL_MEAN, math.sqrt(_NULL_VARIANCE)
        unit = averages * AVERAGE * self._scale
        variance = (averages * self._sum_of_squares - self._sum**2) / unit**2
        return max(_LEAST_MEAN, self._sum / unit), math.sqrt(max(_LEAST_VARIANCE, variance))

    def _is_flat(self) -> bool:
        # The variance of values spread evenly over one bucket, which the encoder cannot tell apart.
        least = _FLAT_VARIANCE if self._resolution is None else self._resolution**2 / 12
        squares = least * (self._merged.rows + self._block.rows)
        if self._merged.squares + self._block.squares >= squares:  # the merger's can only be more
            return False
        return self._merged.merged(self._block).squares < squares

    def _leaves_range(self, value: float) -> bool:
        tolerance = _RANGE_TOLERANCE * (self._maximum - self._minimum)
        if not tolerance > 0:  # no value yet, or only one
            return False
        return value > self._maximum + tolerance or value < self._minimum - tolerance

    def _learn(self, value: float, ten_row_sum: int) -> None:
        """Take the newest row into the distribution, and the one that leaves the window out."""
        if self.rows >= self._skip:
            self._add(ten_row_sum, 1)
            self._learn_value(value)
        leaving = self.rows - self._window
        if leaving >= self._skip:
            self._add(self._ten_row_sum(leaving), -1)
        self._minimum, self._maximum = min(self._minimum, value), max(self._maximum, value)
        self.rows += 1

    def _add(self, ten_row_sum: int, sign: int) -> None:
        self._sum += sign * ten_row_sum
        self._sum_of_squares += sign * ten_row_sum**2

    def _learn_value(self, value: float) -> None:
        self._block = self._block.with_value(value)
        if self._block.rows < self._block_rows:
            return
        self._blocks.append(self._block)
        if len(self._blocks) * self._block_rows > self._window:
            self._blocks.popleft()
        self._block = _Spread()
        self._merge_blocks()

    def _merge_blocks(self) -> None:
        self._merged = _Spread()
        for block in self._blocks:
            self._merged = self._merged.merged(block)

    def save(self) -> bytes:
        """The state as bytes: head, blocks, counts (deflated), CRC-32; the same bytes for the same state."""
        head = _HEAD.pack(
            _MAGIC,
            _VERSION,
            self._active_columns,
            self.range_rule,
            self._single_precision,
            self._window,
            self._skip,
            self._min_sample,
            self._min_averages,
            self._resolution or 0.0,
            self.rows,
            self._minimum,
            self._maximum,
            self._sum.to_bytes(8, "little"),
            self._sum_of_squares.to_bytes(16, "little"),
            len(self._blocks),
        )
        blocks = b"".join(_BLOCK.pack(*block) for block in (*self._blocks, self._block))
        oldest = self._oldest_place()
        counts = zlib.compress(self._counts[oldest:] + self._counts[:oldest], level=1)
        body = head + blocks + counts
        return body + _CHECKSUM.pack(zlib.crc32(body))

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """The likelihood that ``save`` wrote.

        Raises CorruptCheckpoint for bytes that are damaged or no likelihood, UnknownCheckpointVersion for those of
        another version.
        """
        if len(data) < _HEAD.size + _CHECKSUM.size or not data.startswith(_MAGIC):
            raise CorruptCheckpoint("not a saved anomaly likelihood")
        body, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
        if _CHECKSUM.pack(zlib.crc32(body)) != checksum:
            raise CorruptCheckpoint("a saved anomaly likelihood is damaged: its checksum is wrong")
        _, version, active, rule, single, window, skip, least, averages, resolution, *state = _HEAD.unpack_from(body)
        if version != _VERSION:
            raise UnknownCheckpointVersion(f"a saved anomaly likelihood has version {version}, not {_VERSION}")
        try:
            restored = cls(
                active_columns=active,
                range_rule=bool(rule),
                resolution=resolution or None,
                window=window,
                skip=skip,
                min_sample=least,
                min_averages=averages,
                single_precision=bool(single),
            )
            restored._take_state(state, body[_HEAD.size :])
        except (ValueError, struct.error, zlib.error) as error:
            raise CorruptCheckpoint(f"a saved anomaly likelihood makes no sense: {error}") from error
        return restored

    def _take_state(self, state: list[Any], rest: bytes) -> None:
        self.rows, self._minimum, self._maximum, total, total_of_squares, blocks = state
        self._sum, self._sum_of_squares = (
            int.from_bytes(total, "little"),
            int.from_bytes(total_of_squares, "little"),
        )
        counts_at = (blocks + 1) * _BLOCK.size
        *whole, self._block = map(_Spread._make, _BLOCK.iter_unpack(rest[:counts_at]))
        self._blocks.extend(whole)
        self._merge_blocks()
        counts = zlib.decompress(rest[counts_at:])
        if len(counts) != min(self.rows, self._capacity) or max(counts, default=0) > self._active_columns:
            raise ValueError(f"{len(counts)} raw scores for {self.rows} rows")
        newest = len(counts) - self._oldest_place()
        self._counts.extend(counts[newest:] + counts[:newest])
        if self.rows > 0:
            self._average = self._ten_row_sum(self.rows - 1) / (min(self.rows, AVERAGE) * self._scale)

    def _oldest_place(self) -> int:
        return self.rows % self._capacity if self.rows > self._capacity else 0


def _raw_scores(active_columns: int, single_precision: bool) -> tuple[tuple[int, ...], int]:
    """Whole numbers u and s such that the raw score of k columns is u[k] / s."""
    counts = range(active_columns + 1)
    if not single_precision:
        return tuple(counts), active_columns
    scale = 2**31  # a 4-byte float from 1/255 to 1 is a multiple of 2**-31
    singles = struct.unpack(f"<{len(counts)}f", struct.pack(f"<{len(counts)}f", *(k / active_columns for k in counts)))
    return tuple(int(single * scale) for single in singles), scale


def _upper_tail(deviations: float) -> float:
    """Probability that a standard normal value exceeds ``deviations``."""
    return 0.5 * math.erfc(deviations / math.sqrt(2.0))
