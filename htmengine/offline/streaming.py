# SPDX-License-Identifier: MIT
"""A series scored row by row, as it comes, in a program of one's own: river's two verbs, `score_one` and `learn_one`.

In: rows as mappings.  Out: the anomaly scores that an engine gives to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET

from htmengine.errors import InvalidSample
from htmengine.evidence import Detector
from htmengine.evidence.explaining import why_great
from htmengine.evidence.scoring import ROWS_WITHOUT_SEQUENCE, detector_for, row_score
from htmengine.gaps import SKIP, Filler, parse_filling
from htmengine.htm.model import Model
from htmengine.messages import Sample, Why
from htmengine.offline.scores import PENDING_SAMPLES, TOLD_SCORE, Scored, ValueRange, row_sample, scored_rows


class AnomalyScorer:
    """The model and the detector of one series.

    ``minimum`` and ``maximum``: the least and the greatest value to expect.  Without them the first
    ``pending_samples`` rows define the range; then the model learns them all at once.  Their scores do not look at the
    model.  ``timestamp`` and ``value``: the keys of a row.  ``sequence_only``: HTM Engine's scores, 0 until then.
    ``fill_gaps``: ``hold ROWS`` or ``linear ROWS``, as the engine's option of that name; raises `InvalidRule` for
    something else.

    Model and evidence learn a row as they score it.  So `score_one` learns, too, and `learn_one` of the same row does
    nothing more: the order of river, first score, then learn, gives an engine's scores.  A pickled one goes on exactly.

    >>> scorer = AnomalyScorer(minimum=0.0, maximum=100.0)
    >>> rows = [{"timestamp": 300 * row, "value": 20.0 + row % 7} for row in range(1000)]
    >>> for row in rows:
    ...     score = scorer.score_one(row)
    ...     scorer.learn_one(row)
    >>> scorer.score_one({"timestamp": 300_000, "value": 90.0}) > 0.999
    True
    >>> scorer.why.evidence[0].text
    'the value is the highest in 3 days'
    """

    def __init__(
        self,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        pending_samples: int = PENDING_SAMPLES,
        timestamp: str = "timestamp",
        value: str = "value",
        sequence_only: bool = False,
        fill_gaps: str = SKIP,
    ) -> None:
        self._range = ValueRange(minimum, maximum, pending_samples)
        self._needs = 1 if self._range.given else pending_samples  # a range that no model has is refused now
        self._keys = timestamp, value
        self._sequence_only = sequence_only
        self._filler = Filler(parse_filling(fill_gaps))
        self._pending: list[tuple[int, float]] = []
        self._early: Detector | None = None if self._range.given or sequence_only else Detector()
        self._parts: tuple[Model, Detector] | None = None
        self._last: Sample | None = None
        self._scored: Scored | None = None

    def score_one(self, x: Mapping[str, Any]) -> float:
        """The row's anomaly score, from 0 to 1.

        The time is in epoch seconds, or a datetime, UTC if it has no zone.  Raises `InvalidSample` for a row that an
        engine would reject, such as one that is not later than the row before, has no number or lacks a key; it
        changes nothing.
        """
        self._take(self._sample(x))
        return 0.0 if self._scored is None else self._scored.score

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Learn a row, unless it is the one that was scored last.  Raises `InvalidSample` as `score_one` does."""
        self._take(self._sample(x))

    @property
    def why(self) -> Why | None:
        """The reasons of the last row's score; None if it is a usual one."""
        return None if self._scored is None or self._scored.why is UNSET else self._scored.why

    def __getstate__(self) -> dict[str, Any]:
        """For pickle, joblib and copies: model and detector as they save themselves."""
        parts = self._parts and tuple(part.save() for part in self._parts)
        return {**self.__dict__, "_parts": parts, "_early": self._early and self._early.save()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if state["_parts"] is not None:
            model, detector = state["_parts"]
            self._parts = Model.restore(model), Detector.restore(detector)
        if state["_early"] is not None:
            self._early = Detector.restore(state["_early"])

    def _sample(self, x: Mapping[str, Any]) -> Sample:
        timestamp, value = (_cell(x, key) for key in self._keys)
        return row_sample(_seconds(timestamp), _number(value))

    def _take(self, sample: Sample) -> None:
        if sample == self._last:
            return
        if self._last is not None and sample.timestamp <= self._last.timestamp:
            reason = "timestamp_duplicate" if sample.timestamp == self._last.timestamp else "timestamp_old"
            raise InvalidSample(reason, f"{sample.timestamp} is not after {self._last.timestamp}")
        self._last = sample
        row = (sample.timestamp, sample.value)
        rows = [*self._filler.before(row), row]
        self._pending += rows
        if self._parts is None and len(self._pending) < self._needs:
            for each in rows:
                self._scored = self._without_model(*each)
            return
        self._early = None
        for scored in self._run(self._pending):
            self._scored = scored
        self._pending.clear()

    def _without_model(self, timestamp: int, value: float) -> Scored | None:
        """What the evidence says of a row before there is a model; None for rows of which it would ask it."""
        if self._early is None or self._early.rows >= ROWS_WITHOUT_SEQUENCE:
            return None
        score = row_score(self._early.update(timestamp, value, 0.0), 0.0, sequence_only=False)
        return Scored(0.0, score, why_great(self._early, score, TOLD_SCORE))

    def _run(self, rows: list[tuple[int, float]]) -> list[Scored]:
        times, values = [timestamp for timestamp, _ in rows], [value for _, value in rows]
        if self._parts is None:
            params = self._range.params_for(values)
            self._parts = Model(params), detector_for(params)
        scored = scored_rows(*self._parts, times, values, sequence_only=self._sequence_only, floor=TOLD_SCORE)
        return [*scored]


def _cell(x: Mapping[str, Any], key: str) -> Any:
    if key not in x:
        raise InvalidSample("field_count", f"there is no {key!r}; there are {', '.join(map(repr, x))}")
    return x[key]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidSample("value_not_a_number", f"value {value!r} is not a number") from None


def _seconds(timestamp: Any) -> float:
    try:
        if isinstance(timestamp, datetime):
            return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).timestamp()
        return float(timestamp)
    except (TypeError, ValueError):
        raise InvalidSample(
            "timestamp_not_a_number", f"timestamp {timestamp!r}; epoch seconds and datetimes are allowed"
        ) from None
