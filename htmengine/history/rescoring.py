# SPDX-License-Identifier: MIT
"""A metric's stored rows scored once more, by the engine's model and detector.

In: a `Past`: rows, and what the model began with.  Out: a `Rescored`: the rows that are unusual, with their reasons,
and how far the scores equal the stored ones, bit for bit.  Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from htmengine.errors import InvalidModelSpec
from htmengine.evidence import Detector
from htmengine.evidence.explaining import why_of
from htmengine.evidence.scoring import detector_for, restored, row_score
from htmengine.history.silences import Reports, look_times, reports_of
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.incidents.budget import FLOOR
from htmengine.incidents.preview import PastRow
from htmengine.incidents.roots import Leading
from htmengine.messages import ScoredRow
from htmengine.repository.fine_spans import FineSpan, begins, learnt_at, resumes, turns
from htmengine.repository.snapshots import SavedModel

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Past:
    """A metric's stored rows, in order; arrays have shape (n,), and NaN is a score that is not stored.

    ``after``: the row after which the model began, with ``start`` or from nothing.  ``evidence_from``: from this row on
    the stored scores are the evidence's; None: all are the likelihood's.  ``scored_to``: the last row that the current
    model has scored.  ``compares``: whether the stored scores are of a model with these parameters.
    """

    uid: str
    name: str
    params: ModelParams
    rowids: Wholes
    timestamps: Wholes
    values: Floats
    raws: Floats
    scores: Floats
    learnt_since: float | None = None
    after: int = 0
    start: SavedModel | None = None
    fine: tuple[FineSpan, ...] = ()
    unlearnt: frozenset[int] = frozenset()  #: rows that the model scores without learning
    evidence_from: int | None = None
    scored_to: int = 0
    compares: bool = True
    late: int = 0  #: samples that wait for a rebuild


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are told of: from a time on, those that are high enough for a page, or score at least ``floor``.

    ``sequence_only``: scores are the likelihood's, as [anomaly_likelihood] evidence = sequence says.  ``looks_until``:
    the time of the last look at who reports; None: nobody looks.
    """

    since: int
    floor: float = math.inf
    sequence_only: bool = False
    looks_until: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that was not scored as it is stored: the first of its metric.  ``reason``: why that may be."""

    metric: str
    rows: int  #: how many differ
    rowid: int
    timestamp: int
    stored_raw: float
    raw: float
    stored_score: float
    score: float
    reason: str


class Rescored(NamedTuple):
    """What became of a metric's rows.

    ``compared``: how many had a stored score of the same parameters.  ``waiting``: how many the current model has not
    scored yet.
    """

    uid: str
    name: str
    rows: int
    unusual: list[PastRow]
    learnt_since: float | None
    compared: int
    waiting: int
    difference: Difference | None
    reports: Reports | None = None


def changed(params: Mapping[str, Any], changes: Mapping[str, Any]) -> ModelParams:
    """A metric's parameters with some of them changed; what is not named stays.

    An encoder of another type replaces the whole one.  Raises `InvalidModelSpec`.

    >>> stored = ModelParams.for_range(0.0, 130.0).to_json()
    >>> after = changed(stored, {"temporal": {"max_inference": 10}})
    >>> after.temporal.max_inference, after.value.resolution
    (10, 1.0)
    """
    return ModelParams.from_json(_merged(params, changes))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        before = merged.get(name)
        merges = isinstance(before, Mapping) and isinstance(value, Mapping) and _of_one_type(before, value)
        merged[name] = _merged(before, value) if merges else value  # type: ignore[arg-type]
    return merged


def _of_one_type(before: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return bool(value.get("type", before.get("type")) == before.get("type"))


def rescore(past: Past, wanted: Wanted) -> Rescored:
    """Score all rows.  Raises `InvalidModelSpec` for rows that a model of these parameters cannot take."""
    try:
        raws = raw_scores(past)
    except ValueError as error:
        raise InvalidModelSpec(f"{past.name}: {error}") from None
    found, scores, leading = [], np.empty(len(raws)), Leading()
    for place, detector, score in _detected(past, raws):
        at, rowid = int(past.timestamps[place]), int(past.rowids[place])
        anomaly = row_score(score, detector.likelihood, sequence_only=wanted.sequence_only)
        since = leading.since(past.uid, rowid, at, detector.height)
        scores[place] = row_score(score, detector.likelihood, sequence_only=_by_sequence(past, rowid))
        if at >= wanted.since and (anomaly >= wanted.floor or detector.height >= FLOOR):
            row = ScoredRow(rowid, at, float(past.values[place]), float(raws[place]), anomaly, None, why_of(detector))
            found.append(PastRow(past.uid, past.name, row, since))
    compared, difference = _compared(past, raws, scores)
    waiting = int((past.rowids > past.scored_to).sum()) if past.compares else 0
    about = (past.uid, past.name, len(raws), found, past.learnt_since)
    return Rescored(*about, compared, waiting, difference, _reports(past, wanted))


def _reports(past: Past, wanted: Wanted) -> Reports | None:
    if wanted.looks_until is None:
        return None
    looks = look_times(wanted.since, wanted.looks_until)
    return reports_of(past.uid, past.name, past.rowids, past.timestamps, looks)


def raw_scores(past: Past) -> Floats:
    """The raw scores of all rows, shape (n,), by its model.  Raises ValueError for rows that the model cannot take."""
    model = Model(past.params) if past.start is None else Model.restore(past.start.model)
    learns = np.array([rowid not in past.unlearnt for rowid in past.rowids.tolist()], dtype=bool)
    turning = np.flatnonzero(learns[1:] != learns[:-1]) + 1
    parts = zip(*(np.split(each, turning) for each in (learns, past.timestamps, past.values)), strict=True)
    return np.concatenate([_part(model, learn=bool(learn[0]), rows=rows) for learn, *rows in parts])


def _part(model: Model, *, learn: bool, rows: Sequence[NDArray[Any]]) -> Floats:
    """The raw scores of rows that follow each other, by their times and values."""
    if learn:
        return model.learn_many(*rows)
    return np.array([model.score(*row) for row in zip(*(each.tolist() for each in rows), strict=True)])


def _detected(past: Past, raws: Floats) -> Iterator[tuple[int, Detector, float]]:
    """Each row's place, the detector after it, and its score S.  Rows that were called fine are not learnt since."""
    detector, turning = _first_detector(past), turns(past.fine)
    columns = (past.timestamps.tolist(), past.values.tolist(), raws.tolist())
    before, kept = past.after, None
    for place, (rowid, row) in enumerate(zip(past.rowids.tolist(), zip(*columns, strict=True), strict=True)):
        if before in turning:
            is_kept = kept is not None and resumes(past.fine, before, kept[0])
            detector = Detector.restore(kept[1]) if kept is not None and is_kept else _learnt(past, raws, place)
        if past.fine and begins(past.fine, before):
            kept = before, detector.save()
        yield place, detector, detector.update(*row)
        before = rowid


def _first_detector(past: Past) -> Detector:
    return detector_for(past.params) if past.start is None else restored(past.start.likelihood)


def _learnt(past: Past, raws: Floats, place: int) -> Detector:
    """The detector before the row at a place, which knows the earlier rows but for those that are fine by then."""
    detector, counts = _first_detector(past), learnt_at(past.fine, int(past.rowids[place]))
    known = np.array([counts(rowid) for rowid in past.rowids[:place].tolist()], dtype=bool)
    detector.update_many(past.timestamps[:place][known], past.values[:place][known], raws[:place][known])
    return detector


def _by_sequence(past: Past, rowid: int) -> bool:
    return past.evidence_from is None or rowid < past.evidence_from


def _compared(past: Past, raws: Floats, scores: Floats) -> tuple[int, Difference | None]:
    known = ~np.isnan(past.raws) & ~np.isnan(past.scores) & (past.rowids <= past.scored_to) & past.compares
    wrong = np.flatnonzero(known & ((raws != past.raws) | (scores != past.scores)))
    if not len(wrong):
        return int(known.sum()), None
    first = wrong[0]
    difference = Difference(
        past.name,
        len(wrong),
        int(past.rowids[first]),
        int(past.timestamps[first]),
        float(past.raws[first]),
        float(raws[first]),
        float(past.scores[first]),
        float(scores[first]),
        _reason(past, int(past.rowids[first])),
    )
    return int(known.sum()), difference


def _reason(past: Past, rowid: int) -> str:
    """Why a row may have another score than it had."""
    if past.rowids[0] > past.after + 1:
        return f"rows before row {past.rowids[0]} are no longer stored, and the model had learnt them"
    if any(turn < rowid for turn in turns(past.fine)):
        return "somebody called earlier rows fine, or took that back, after it was scored"
    if past.late:
        return f"{past.late} late samples wait for a rebuild"
    return "another release, or a model with other parameters, scored it"
