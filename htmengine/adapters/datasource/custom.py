# SPDX-License-Identifier: MIT
"""The datasource "custom": metrics that users send by themselves; what can be done with one.

In: model specifications from users (client, command line, HTTP) and the storer's samples.  Out: rows of the table
metric, and messages for the models, which the caller publishes after its transaction.  Each function is
synchronous, takes ``conn`` first and runs in the caller's transaction.

A metric's model has a generation: each new definition counts it up, so that what is still on its way for an
older model of the same metric is told apart.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy import Connection

from htmengine.errors import InvalidModelSpec, InvalidSample, MetricExists, MetricNotFound
from htmengine.evidence.scoring import ROWS_WITHOUT_SEQUENCE
from htmengine.full_texts import FULL_TEXTS
from htmengine.htm import opf
from htmengine.htm.params import ModelParams, SiblingParams
from htmengine.labels import MAX_TEXT_BYTES, sample_name, stored_name
from htmengine.messages import (
    DEFINE_MODEL,
    DELETE_MODEL,
    CommandArgs,
    ModelCommand,
    encode_model_command,
)
from htmengine.repository import counters, counts, joining, queries, results
from htmengine.repository.counts import MetricScore
from htmengine.repository.joining import NO_RULES, JoinRules
from htmengine.repository.queries import Definition, Metric, MetricStatus

DATASOURCE = "custom"
Siblings: TypeAlias = tuple[SiblingParams, ...]
#: Rows that a metric without a known range has before it gets a young model, and the time that they last at least: by
#: then its sender has said whether it is a counter (`runtime.counter_rates`).
YOUNG_SAMPLES = 12
YOUNG_S = 120

_SPEC_FIELDS = {"datasource", "metricSpec", "modelParams", "completeModelParams"}
_METRIC_FIELDS = {"metric", "uid", "unit", "resource", "userInfo"}
_PARAM_FIELDS = {"min", "max", "minResolution", "enableClassifier"}
_COMPLETE_FIELDS = {"modelConfig", "inferenceArgs", "timestampFieldName", "valueFieldName"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What ``monitor`` takes and the column ``parameters`` stores, checked.

    >>> ModelSpec.parse({"metricSpec": {"metric": "a.b"}, "modelParams": {"min": 0}})
    Traceback (most recent call last):
    htmengine.errors.InvalidModelSpec: modelParams: min and max go together
    """

    name: str | None  #: as it is stored
    long_text: str  #: what the name is the identity of; empty: it is none
    uid: str | None
    minimum: float | None
    maximum: float | None
    min_resolution: float | None
    classifier: bool
    complete: Mapping[str, Any] | None
    source: Mapping[str, Any]  #: the specification as it was given

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> ModelSpec:
        """Check a specification.  Raises `InvalidModelSpec` naming the field."""
        _only(spec, _SPEC_FIELDS, "specification")
        if spec.get("datasource", DATASOURCE) != DATASOURCE:
            raise InvalidModelSpec(f"datasource {spec['datasource']!r}; only {DATASOURCE!r} is allowed")
        metric = _object(spec, "metricSpec")
        _only(metric, _METRIC_FIELDS, "metricSpec")
        if ("metric" in metric) == ("uid" in metric):
            raise InvalidModelSpec("metricSpec: give metric (a name) or uid")
        if "modelParams" in spec and "completeModelParams" in spec:
            raise InvalidModelSpec("modelParams and completeModelParams exclude each other")
        params = _object(spec, "modelParams")
        _only(params, _PARAM_FIELDS, "modelParams")
        minimum, maximum = _number(params, "min"), _number(params, "max")
        if (minimum is None) != (maximum is None):
            raise InvalidModelSpec("modelParams: min and max go together")
        if minimum is not None and maximum is not None and not minimum < maximum:
            raise InvalidModelSpec(f"modelParams: min {minimum} is not below max {maximum}")
        min_resolution = _number(params, "minResolution")
        if min_resolution is not None and min_resolution <= 0:
            raise InvalidModelSpec(f"modelParams: minResolution {min_resolution} is not above 0")
        classifier = params.get("enableClassifier", False)
        if not isinstance(classifier, bool):
            raise InvalidModelSpec(f"modelParams: enableClassifier {classifier!r}; true or false is allowed")
        text = _text(metric.get("metric"))
        name = None if text is None else stored_name(text)
        return cls(
            name,
            text if text and name != text else "",
            metric.get("uid"),
            minimum,
            maximum,
            min_resolution,
            classifier,
            _complete(spec),
            dict(spec),
        )

    @classmethod
    def for_name(cls, name: str, **params: Any) -> ModelSpec:
        """The specification of a metric by its name; ``params`` as in modelParams, None left out."""
        given = {key: value for key, value in params.items() if value is not None}
        return cls.parse({"datasource": DATASOURCE, "metricSpec": {"metric": name}, "modelParams": given})

    def params(self) -> ModelParams | None:
        """The model's parameters; None if its range has to be learnt from data first."""
        if self.complete is not None:
            return opf.model_params(self.complete["modelConfig"], self.complete.get("inferenceArgs"))
        if self.minimum is None or self.maximum is None:
            return None
        return ModelParams.for_range(
            self.minimum, self.maximum, min_resolution=self.min_resolution, classifier=self.classifier
        )

    def params_from_data(self, values: Sequence[float]) -> ModelParams:
        """The parameters of a metric that began with these values."""
        return ModelParams.for_sample(values, min_resolution=self.min_resolution, classifier=self.classifier)


@dataclass(frozen=True, slots=True)
class Repair:
    """What `repair_metric` did."""

    uid: str
    name: str
    removed: int  #: rows
    last_timestamp: int | None  #: of the newest row that is left, epoch seconds


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What `rebuild_metric` did."""

    uid: str
    name: str
    status: MetricStatus
    joined: int  #: late samples that have become rows
    duplicates: int  #: late samples whose times had rows already


def least_samples(pending_samples: int) -> int:
    """Rows of a metric without a known range before which there is no model."""
    return min(YOUNG_SAMPLES, pending_samples)


# --- operations -----------------------------------------------------------------------------------------


def create_metric(conn: Connection, spec: ModelSpec, *, monitor: bool = False) -> Metric:
    """A new metric; with ``monitor`` its model starts when there are data enough to know their range.

    Raises `MetricExists`, and `MetricNotFound` if the specification names a uid instead of a name.
    """
    if spec.name is None:
        raise MetricNotFound(str(spec.uid))
    if queries.find_metrics(conn, [spec.name]):
        raise MetricExists(spec.name)
    return create_metrics(conn, [spec], monitor=monitor)[spec.name]


def create_metrics(conn: Connection, specs: Sequence[ModelSpec], *, monitor: bool) -> dict[str, Metric]:
    """Metrics that do not exist yet, by name; ``monitor`` as in `create_metric`."""
    status = MetricStatus.PENDING_DATA if monitor else MetricStatus.UNMONITORED
    metrics = [
        Metric(uuid.uuid4().hex, DATASOURCE, str(spec.name), None, None, None, json.dumps(spec.source), status)
        for spec in specs
    ]
    queries.create_metrics(conn, metrics)
    named = zip(metrics, specs, strict=True)
    counters.add_texts(conn, {metric.uid: spec.long_text for metric, spec in named if spec.long_text})
    return {metric.name: metric for metric in metrics}


def monitor_metric(conn: Connection, spec: ModelSpec, pending_samples: int) -> tuple[Metric, list[bytes]]:
    """Give a metric a model, new if it has one already; a metric that does not exist is created.

    Returns the metric and messages for its shard's queue.  All rows that are stored are run through the new model.
    A metric whose range is to be learnt has to wait for its first rows and for a change; its model is young until there
    are ``pending_samples`` rows.
    """
    metric = _find_or_create(conn, spec)
    queries.set_parameters(conn, metric.uid, json.dumps(spec.source))
    message = _start(conn, metric, spec, pending_samples, metric.last_rowid)
    return queries.get_metric(conn, metric.uid), [message] if message is not None else []


def define_from_data(
    conn: Connection, metric: Metric, pending_samples: int, last_rowid: int, siblings: Siblings = ()
) -> bytes | None:
    """The message that starts a metric's model if it has rows enough: its range is that of the first ones.

    None while it has not (PENDING_DATA), or all its rows are the same (CONSTANT).  With less than ``pending_samples``
    rows the model is young, and what ``siblings`` show is kept with it and all later ones.
    """
    return _start(conn, metric, _learnt_spec(metric), pending_samples, last_rowid, siblings)


def define_grown(conn: Connection, metric: Metric, pending_samples: int, last_rowid: int) -> bytes:
    """The message that puts a model of the range of the first ``pending_samples`` rows in a young one's place.

    It runs all rows.  Those that have a score keep it: the evidence does not look at the model that early.
    """
    score = counts.get_scores(conn, [metric.uid]).get(metric.uid)
    told = min(score.rowid, ROWS_WITHOUT_SEQUENCE) if score is not None else 0
    queries.forget_raw_scores(conn, metric.uid)
    params = _learnt_spec(metric).params_from_data(queries.first_values(conn, metric.uid, pending_samples))
    params = replace(params, siblings=_siblings_of(metric))
    return _define(conn, metric, params, last_rowid, told=told, early=pending_samples)


def unmonitor_metric(conn: Connection, metric: Metric) -> bytes:
    """Stop a metric's model; its rows stay.  Returns the message for its shard's queue."""
    queries.set_status(conn, metric.uid, MetricStatus.UNMONITORED, None)
    return _delete_model(metric)


def expire_metric(conn: Connection, metric: Metric, reason: str) -> bytes:
    """Take a metric's model until a sample comes.  Returns the message for its shard's queue."""
    queries.set_status(conn, metric.uid, MetricStatus.EXPIRED, reason)
    return _delete_model(metric)


def remove_expired(conn: Connection, metric: Metric) -> bytes:
    """Remove a metric with its rows, which count as expired.  Returns the message for its shard's queue."""
    return _remove(conn, metric, counts.EXPIRED)


def delete_metric(conn: Connection, metric: Metric) -> bytes:
    """Remove a metric with its rows.  Returns the message for its shard's queue."""
    return _remove(conn, metric, counts.DELETED)


def repair_metric(conn: Connection, metric: Metric, latest: int) -> tuple[Repair, list[bytes]]:
    """Remove a metric's rows after a time.  Returns what was done, and messages for its shard's queue.

    Its model has run them and is made again, of the same parameters, from the rows that are left.  Rowids are not given
    out again, since others may have kept them.
    """
    removed = queries.remove_rows_after(conn, metric.uid, latest)
    messages = []
    if removed and metric.status.has_model and metric.definition is not None:
        messages.append(_start_again(conn, metric, metric.definition))
    last_timestamp = queries.get_metric(conn, metric.uid).last_timestamp
    return Repair(metric.uid, metric.name, removed, last_timestamp), messages


def make_model_again(conn: Connection, uid: str, generation: int) -> bytes | None:
    """A model whose results were lost is made again from its first row, and the rows without a score get one.

    Scores that are stored stay.  Returns the message for its shard's queue; None: the metric has no such model now.
    """
    metric = queries.find_metric_by_uid(conn, uid, lock=True)
    score = counts.get_scores(conn, [uid]).get(uid)
    if metric is None or metric.definition is None or score is None or not metric.status.has_model:
        return None
    if not metric.definition.generation == score.generation == generation:
        return None
    definition = replace(metric.definition, generation=generation + 1)
    queries.set_definition(conn, uid, definition, MetricStatus.CREATE_PENDING)
    counts.start_scores(conn, score._replace(generation=generation + 1))
    return define_again(uid, generation + 1, metric.last_rowid)


def define_again(uid: str, generation: int, last_rowid: int) -> bytes:
    """The message that makes a model as its metric's definition says, unless there is one."""
    args = CommandArgs(upTo=last_rowid)
    return encode_model_command(ModelCommand(DEFINE_MODEL, uid, generation, uuid.uuid4().hex, args))


def rebuild_metric(
    conn: Connection, metric: Metric, pending_samples: int, now: int, rules: JoinRules = NO_RULES
) -> tuple[Rebuild, list[bytes]]:
    """Make rows of a metric's late samples, and its model again from the first row.

    Returns what was done, and messages for its shard's queue.  A model that began with a snapshot begins with it again.
    """
    rows, duplicates, moved_to = joining.join_late(conn, metric, now, rules)
    joined = queries.get_metric(conn, metric.uid)
    results.forget_anomalies(conn, metric.uid)
    message = None
    if joined.definition is not None and joined.definition.snapshot is not None and joined.status.has_model:
        message = _start_again(conn, joined, replace(joined.definition, after=moved_to(joined.definition.after)))
    elif joined.status is not MetricStatus.UNMONITORED:
        message = define_from_data(conn, joined, pending_samples, joined.last_rowid)
    status = queries.get_metric(conn, metric.uid).status
    done = Rebuild(metric.uid, metric.name, status, rows, duplicates)
    return done, [message] if message is not None else []


def export_spec(metric: Metric) -> dict[str, Any]:
    """What ``monitor`` needs to monitor this metric the same way elsewhere; with all its labels, if they are learnt."""
    spec: dict[str, Any] = json.loads(metric.parameters or "{}") or _spec_of(metric)
    spec["metricSpec"] = {**spec.get("metricSpec", {}), "metric": FULL_TEXTS.of(metric.name)}
    spec["metricSpec"].pop("uid", None)
    return spec


# --- parts ----------------------------------------------------------------------------------------------


def _start(
    conn: Connection,
    metric: Metric,
    spec: ModelSpec,
    pending_samples: int,
    last_rowid: int,
    siblings: Siblings = (),
) -> bytes | None:
    """A model whose range is given, or learnt from a metric that has rows enough and has moved."""
    params = spec.params()
    if params is not None:
        return _define(conn, metric, params, last_rowid)
    young = last_rowid < pending_samples
    if young and not _may_be_young(conn, metric, last_rowid):
        return _wait(conn, metric, MetricStatus.PENDING_DATA)
    if queries.is_constant(conn, metric.uid):
        return _wait(conn, metric, MetricStatus.CONSTANT)
    learnt = spec.params_from_data(queries.first_values(conn, metric.uid, pending_samples))
    learnt = replace(learnt, siblings=_siblings_of(metric) if metric.definition else siblings)
    return _define(conn, metric, learnt, last_rowid, young=young, early=pending_samples)


def _siblings_of(metric: Metric) -> Siblings:
    """What a metric's siblings showed when its first model was made."""
    return ModelParams.from_json(metric.definition.params).siblings if metric.definition else ()


def _may_be_young(conn: Connection, metric: Metric, last_rowid: int) -> bool:
    """Whether there are rows enough for a young model."""
    first = queries.first_timestamp(conn, metric.uid)
    if first is None or metric.last_timestamp is None:
        return False
    return last_rowid >= YOUNG_SAMPLES and metric.last_timestamp - first >= YOUNG_S


def _wait(conn: Connection, metric: Metric, status: MetricStatus) -> bytes | None:
    """The metric's model is still to come; the one that it has goes."""
    queries.set_status(conn, metric.uid, status, None)
    return _delete_model(metric) if metric.status.has_model else None


def _define(
    conn: Connection,
    metric: Metric,
    params: ModelParams,
    last_rowid: int,
    *,
    young: bool = False,
    told: int = 0,
    early: int = 0,
) -> bytes:
    generation = metric.definition.generation + 1 if metric.definition else 1
    definition = Definition(generation, params.to_json(), young=young, told=told, early=early)
    queries.set_definition(conn, metric.uid, definition, MetricStatus.CREATE_PENDING)
    counts.start_scores(conn, MetricScore(metric.uid, generation))
    results.forget_anomalies(conn, metric.uid, after=told)
    args = CommandArgs(params=definition.params, upTo=last_rowid)
    return encode_model_command(ModelCommand(DEFINE_MODEL, metric.uid, generation, uuid.uuid4().hex, args))


def _remove(conn: Connection, metric: Metric, counted_as: str) -> bytes:
    counts.keep_counts_of_removed(conn, metric, counted_as)
    queries.delete_metric(conn, metric.uid)
    return _delete_model(metric)


def _start_again(conn: Connection, metric: Metric, old: Definition) -> bytes:
    """The message for a new model with another one's beginning."""
    definition = replace(old, generation=old.generation + 1)
    queries.set_definition(conn, metric.uid, definition, MetricStatus.CREATE_PENDING)
    counts.start_scores(conn, MetricScore(metric.uid, definition.generation, rowid=definition.after))
    results.forget_anomalies(conn, metric.uid, after=definition.after)
    return define_again(metric.uid, definition.generation, metric.last_rowid)


def _delete_model(metric: Metric) -> bytes:
    generation = metric.definition.generation if metric.definition else 0
    return encode_model_command(ModelCommand(DELETE_MODEL, metric.uid, generation, uuid.uuid4().hex))


def _find_or_create(conn: Connection, spec: ModelSpec) -> Metric:
    if spec.uid is not None:
        metric = queries.find_metric_by_uid(conn, spec.uid, lock=True)
        if metric is None:
            raise MetricNotFound(spec.uid)
        return metric
    known = queries.find_metrics(conn, [spec.name] if spec.name else [], lock=True)
    return known.get(spec.name or "") or create_metric(conn, spec)


def _learnt_spec(metric: Metric) -> ModelSpec:
    return ModelSpec.parse(json.loads(metric.parameters or "{}") or _spec_of(metric))


def _spec_of(metric: Metric) -> dict[str, Any]:
    return {"datasource": DATASOURCE, "metricSpec": {"metric": metric.name}}


def _only(given: Mapping[str, Any], allowed: set[str], where: str) -> None:
    unknown = sorted(set(given) - allowed)
    if unknown:
        raise InvalidModelSpec(f"{where}: unknown {unknown[0]!r}; allowed are {', '.join(sorted(allowed))}")


def _object(spec: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = spec.get(field, {})
    if not isinstance(value, Mapping):
        raise InvalidModelSpec(f"{field} is no object")
    return value


def _number(params: Mapping[str, Any], field: str) -> float | None:
    value = params.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidModelSpec(f"modelParams: {field} {value!r}; a finite number is allowed")
    return float(value)


def _text(name: Any) -> str | None:
    """As samples of the metric have it, so that they find it."""
    if name is None:
        return None
    if not isinstance(name, str) or not 0 < len(name) <= MAX_TEXT_BYTES or name.split() != [name]:
        raise InvalidModelSpec(
            f"metricSpec: metric {name!r}; 1 to {MAX_TEXT_BYTES} characters without spaces are allowed"
        )
    try:
        return sample_name(name)
    except InvalidSample as error:
        raise InvalidModelSpec(f"metricSpec: metric {error.detail}") from None


def _complete(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "completeModelParams" not in spec:
        return None
    complete = _object(spec, "completeModelParams")
    _only(complete, _COMPLETE_FIELDS, "completeModelParams")
    if not isinstance(complete.get("modelConfig"), Mapping):
        raise InvalidModelSpec("completeModelParams: modelConfig is missing or no object")
    return complete
