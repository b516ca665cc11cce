# SPDX-License-Identifier: MIT
"""From raw anomaly scores to the anomaly likelihood: how unusual is the recent average, for this metric?

In: each row's value and raw score, in order.  Out: the likelihood in [0, 1], 0.5 for a usual row.  The anomaly
score of an engine whose evidence is the sequence alone; HTM Engine's scores.

The average of the last 10 raw scores is compared with the normal distribution of such averages over a sliding
window; the likelihood is one minus the upper tail.  (Lavin and Ahmad 2015; Ahmad, Lavin, Purdy and Agha 2017.)  The
distribution is refreshed on every row at constant cost.  A raw score is a count of columns over their number, so
all sums are whole numbers: nothing drifts, and a restored state goes on bit for bit.  The computation is in
``core/likelihood.hpp``; this module frames the state.

Format 1::

    magic "HTMA" | version u8 | parameters and sums | blocks of values | counts of raw scores, deflated | CRC-32
"""

from __future__ import annotations

import struct
import zlib
from typing import Self

from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.evidence import _evidence

#: Rows whose raw scores are averaged.
AVERAGE = 10

_MAGIC, _VERSION = b"HTMA", 1
# All before the blocks; its last number is how many whole blocks there are.
_HEAD_BYTES = 84
_BLOCK_BYTES = 20
_CHECKSUM = struct.Struct("<I")
#: More counts than the largest window has.
_MOST_COUNTS = 1 << 21


class AnomalyLikelihood:
    """The anomaly likelihood of one metric, one-sided: a quiet metric scores near 0.

    ``active_columns``: the model's, 1 to 255; a raw score is a multiple of 1 / active_columns.
    ``range_rule``: a value that leaves the range of all values so far by more than 5 % of it scores 1.0.  May be
    set at any time; without it the scores are HTM Engine's.
    ``resolution``: of the value encoder.  Known, a metric counts as flat while its values vary less than they
    would within one bucket; otherwise while their variance is under 1.5e-5, as in HTM Engine.
    ``window``: rows that the distribution is made from, at most 2 ** 20.  ``skip``: first rows of the model that it
    leaves out, at least 9.  ``min_sample``: first rows, which score 0.  ``min_averages``: averages that the
    distribution needs; until there are, the score is 0.4998.  HTM Engine's value is 1, and a distribution fitted on
    a handful of averages raises false alarms.  ``single_precision``: the raw scores are NuPIC's, which are 4-byte
    floats.

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
        if resolution is not None and not resolution > 0:
            raise ValueError(f"resolution: {resolution!r} is not a number above 0")
        params = _evidence.LikelihoodParams()
        params.active_columns = active_columns
        params.range_rule = range_rule
        params.resolution = resolution or 0.0
        params.window, params.skip = window, skip
        params.min_sample, params.min_averages = min_sample, min_averages
        params.single_precision = single_precision
        #: The compiled part, which a Detector may start from.
        self.core = _evidence.Likelihood(params)

    @property
    def rows(self) -> int:
        """Rows scored so far."""
        return self.core.rows

    @property
    def range_rule(self) -> bool:
        """Whether a value outside the range of all values so far scores 1.0."""
        return self.core.range_rule

    @range_rule.setter
    def range_rule(self, on: bool) -> None:
        self.core.range_rule = on

    def score(self, value: float, raw: float) -> float:
        """The anomaly score of the next row, in [0, 1].

        Raises ValueError if ``value`` is not finite or ``raw`` is no share of the active columns.
        """
        return self.core.score(value, raw)

    def save(self) -> bytes:
        """The state as bytes: ``restore`` gives one that goes on exactly; the same bytes for the same state."""
        head, counts = self.core.save()
        body = head + zlib.compress(counts, level=1)
        return body + _CHECKSUM.pack(zlib.crc32(body))

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """The likelihood that ``save`` wrote.

        Raises CorruptCheckpoint for bytes that are damaged or no likelihood, UnknownCheckpointVersion for those of
        another version.
        """
        body = memoryview(data)[: -_CHECKSUM.size]
        if len(body) < _HEAD_BYTES or bytes(body[: len(_MAGIC)]) != _MAGIC:
            raise CorruptCheckpoint("not a saved anomaly likelihood")
        if _CHECKSUM.pack(zlib.crc32(body)) != data[-_CHECKSUM.size :]:
            raise CorruptCheckpoint("a saved anomaly likelihood is damaged: its checksum is wrong")
        version = body[len(_MAGIC)]
        if version != _VERSION:
            raise UnknownCheckpointVersion(f"a saved anomaly likelihood has version {version}, not {_VERSION}")
        blocks = int.from_bytes(body[_HEAD_BYTES - 4 : _HEAD_BYTES], "little")
        counts_at = _HEAD_BYTES + (blocks + 1) * _BLOCK_BYTES
        try:
            counts = inflate(body[counts_at:], _MOST_COUNTS)
            core = _evidence.Likelihood.restore(body[:counts_at], counts)
        except (ValueError, zlib.error, _evidence.CorruptState) as error:
            raise CorruptCheckpoint(f"a saved anomaly likelihood makes no sense: {error}") from error
        restored = cls.__new__(cls)
        restored.core = core
        return restored


def inflate(data: bytes | memoryview, most: int) -> bytes:
    """What was deflated, at most ``most`` bytes.  Raises ValueError or zlib.error for anything else."""
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, most)
    if not inflater.eof or inflater.unused_data:
        raise ValueError("the deflated part is cut short, too long or followed by something else")
    return inflated
