# SPDX-License-Identifier: MIT
"""NuPIC's model descriptions (OPF ``modelConfig`` dictionaries) read as our parameters.

In: the dictionary of a model specification's ``completeModelParams``.  Out: a ``ModelParams``, or an error that
names the parameter by its path in the description: ``UnsupportedModelParams`` for what this core does not have,
``InvalidModelSpec`` for a wrong value.  Called by the datasource `custom`.

Every parameter of a description is in one of three tables below: read, supported with some values only, or
without effect.  Those without effect are accepted silently; why each has none is said where it is listed.  What a
description leaves out has this core's default, not NuPIC's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from htmengine.errors import InvalidModelSpec, UnsupportedModelParams
from htmengine.htm.checks import Flag, Params, as_object, as_tuple, refusal
from htmengine.htm.params import (
    BACKTRACKING,
    NUPIC_MAX_INFERENCE,
    PLAIN,
    ClassifierParams,
    DateField,
    DateParams,
    DeltaParams,
    LogParams,
    ModelParams,
    RandomDistributedScalarParams,
    ScalarParams,
    SpatialPoolerParams,
    TemporalMemoryParams,
    ValueParams,
)

_P = TypeVar("_P", bound=Params)
_P_co = TypeVar("_P_co", bound=Params, covariant=True)


@dataclass(frozen=True, slots=True)
class _Section(Generic[_P_co]):
    """How one section of a description is read into one parameter class."""

    params: type[_P_co]
    #: NuPIC's name -> our field.
    read: Mapping[str, str]
    #: NuPIC's name -> the values that are supported.
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    #: NuPIC's names without effect here.
    without_effect: frozenset[str] = frozenset()
    #: NuPIC's names whose 0 means "not given".
    zero_is_unset: frozenset[str] = frozenset()

    def fields(self, path: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The checked fields of ``params`` that ``given`` sets."""
        found = {}
        for name, value in given.items():
            if name in self.read:
                check, _ = self.params.checks()[self.read[name]]
                if value is not None and not (name in self.zero_is_unset and value == 0):
                    found[self.read[name]] = check.check(f"{path}.{name}", value)
            elif name in self.only:
                _require_one_of(f"{path}.{name}", value, self.only[name])
            elif name not in self.without_effect:
                raise UnsupportedModelParams(f"{path}.{name}: this model core has no such parameter")
        return found


_NAMES = frozenset({"type", "name", "fieldname", "verbosity"})
_SIZES = frozenset({"n", "radius", "resolution"})
_SCALAR = {"w": "w", "n": "n", "minval": "minval", "maxval": "maxval", "forced": "forced"}

_VALUE_ENCODERS: dict[str, _Section[ValueParams]] = {
    "RandomDistributedScalarEncoder": _Section(
        RandomDistributedScalarParams,
        read={"resolution": "resolution", "n": "n", "w": "w", "offset": "offset", "seed": "seed"},
        without_effect=_NAMES,
    ),
    "ScalarEncoder": _Section(
        ScalarParams,
        read={
            **_SCALAR,
            "radius": "radius",
            "resolution": "resolution",
            "periodic": "periodic",
            "clipInput": "clip_input",
        },
        without_effect=_NAMES,
        zero_is_unset=_SIZES,
    ),
    "LogEncoder": _Section(
        LogParams,
        read={**_SCALAR, "radius": "radius", "resolution": "resolution"},
        only={"periodic": (False,)},
        without_effect=_NAMES | {"clipInput"},  # the logarithm is always clipped, in NuPIC too
        zero_is_unset=_SIZES,
    ),
    "DeltaEncoder": _Section(
        DeltaParams,
        read=_SCALAR,
        only={"periodic": (False,), "radius": (0, None), "resolution": (0, None)},
        without_effect=_NAMES | {"clipInput"},  # the range widens instead
    ),
}

_DATE_ASPECTS = {
    # NuPIC's name: our field, NuPIC's radius if none is given (hours, days, days, days, days)
    "timeOfDay": ("time_of_day", 4.0),
    "weekend": ("weekend", 1.0),
    "dayOfWeek": ("day_of_week", 1.0),
    "season": ("season", 91.5),
    "holiday": ("holiday", 1.0),
}

_SPATIAL = _Section(
    SpatialPoolerParams,
    read={
        "columnCount": "columns",
        "numActiveColumnsPerInhArea": "active_columns",
        "potentialPct": "potential_pct",
        "synPermConnected": "connected",
        "synPermActiveInc": "increment",
        "synPermInactiveDec": "decrement",
        "seed": "seed",
    },
    only={
        "globalInhibition": (1,),
        "boostStrength": (0,),
        "maxBoost": (1,),  # "no boosting" in NuPIC before 1.0
        "stimulusThreshold": (0,),
        "localAreaDensity": (0, -1, None),
        "potentialRadius": (0, None),  # 0: the whole input
        "spatialImp": ("cpp", "py"),
    },
    without_effect=frozenset(
        {
            "inputWidth",  # NuPIC computes it from the encoders
            "spVerbosity",
            "dutyCyclePeriod",  # these four serve boosting, and the raising of columns that never overlap
            "minPctOverlapDutyCycle",
            "minPctActiveDutyCycle",
            "minPctDutyCycleBeforeInh",
            "wrapAround",  # concerns local inhibition
        }
    ),
)

_TEMPORAL = _Section(
    TemporalMemoryParams,
    read={
        "cellsPerColumn": "cells_per_column",
        "activationThreshold": "activation_threshold",
        "minThreshold": "min_threshold",
        "newSynapseCount": "new_synapses",
        "initialPerm": "initial_permanence",
        "connectedPerm": "connected_permanence",
        "permanenceInc": "increment",
        "permanenceDec": "decrement",
        "maxSynapsesPerSegment": "max_synapses",
        "pamLength": "pam_length",
        "maxSeqLength": "max_sequence",
        "maxInfBacktrack": "max_inference",
        "maxLrnBacktrack": "max_learning",
        "predictedSegmentDecrement": "predicted_segment_decrement",
        "seed": "seed",
    },
    only={
        "globalDecay": (0,),
        "maxAge": (0,),
        "doPooling": (False,),
        "permanenceMax": (1,),
        "outputType": ("normal",),
        "orColumnOutputs": (False,),
    },
    without_effect=frozenset(
        {
            "columnCount",  # the pooler's; a different one is refused
            "temporalImp",  # read apart
            "inputWidth",  # the pooler's columns
            "maxSegmentsPerCell",  # max_segments bounds the whole model instead
            "verbosity",
            "burnIn",  # concerns statistics
            "collectStats",
            "segUpdateValidDuration",  # an update never waits longer than a row without pooling
            "computePredictedActiveCellIndices",
        }
    ),
)
_TEMPORAL_KINDS = {"cpp": BACKTRACKING, "py": BACKTRACKING, "tm_cpp": PLAIN, "tm_py": PLAIN}

_CLASSIFIER = _Section(
    ClassifierParams,
    read={"alpha": "alpha", "actValueAlpha": "act_value_alpha"},
    only={"regionName": ("SDRClassifierRegion", "CLAClassifierRegion")},  # the former replaced the latter in NuPIC
    without_effect=frozenset({"steps", "clVerbosity", "verbosity", "implementation", "maxCategoryCount"}),
)

#: Top level of a description and of its modelParams: what may stand there, with the supported values.
_MODEL = {"model": ("HTMPrediction", "CLA")}
_MODEL_PARTS = frozenset({"modelParams", "version", "aggregationInfo", "predictAheadTime"})
_PARAMS = {
    "inferenceType": ("TemporalAnomaly",),
    "spEnable": (True,),
    "tmEnable": (True,),
    "tpEnable": (True,),
    "trainSPNetOnlyIfRequested": (False,),
}
_PARAMS_PARTS = frozenset(
    {
        "sensorParams",
        "spParams",
        "tmParams",
        "tpParams",
        "clEnable",
        "clParams",
        "anomalyParams",
        "minLikelihoodThreshold",  # these two shorten NuPIC's list of predictions, not the best one
        "maxPredictionsPerStep",
    }
)
#: These set up NuPIC's classifier of anomalies, which takes no part in the score.
_ANOMALY_WITHOUT_EFFECT = frozenset({"anomalyCacheRecords", "autoDetectThreshold", "autoDetectWaitRecords"})


def model_params(
    description: Mapping[str, Any],
    inference_args: Mapping[str, Any] | None = None,
    *,
    timestamp_field: str | None = None,
    value_field: str | None = None,
) -> ModelParams:
    """The parameters of the model that ``description``, NuPIC's ``modelConfig``, asks for.

    ``timestamp_field`` and ``value_field`` are what the description calls its two fields; None: anything.
    Raises UnsupportedModelParams for what this core does not have, InvalidModelSpec for wrong values.
    """
    config = as_object("modelConfig", description)
    if "modelConfig" in config:
        inference_args = inference_args or config.get("inferenceArgs") or {}
        config = as_object("modelConfig", config["modelConfig"])
    _allow_only("modelConfig", config, _MODEL, _MODEL_PARTS)
    _refuse_durations("modelConfig.aggregationInfo", config.get("aggregationInfo"))
    path = "modelConfig.modelParams"
    parts = as_object(path, config.get("modelParams"))
    _allow_only(path, parts, _PARAMS, _PARAMS_PARTS)
    anomaly_path = f"{path}.anomalyParams"
    _allow_only(anomaly_path, as_object(anomaly_path, parts.get("anomalyParams") or {}), {}, _ANOMALY_WITHOUT_EFFECT)

    sensor = as_object(f"{path}.sensorParams", parts.get("sensorParams"))
    _allow_only(f"{path}.sensorParams", sensor, {}, frozenset({"encoders", "verbosity", "sensorAutoReset"}))
    _refuse_durations(f"{path}.sensorParams.sensorAutoReset", sensor.get("sensorAutoReset"))
    value_field, value, date = _encoders(f"{path}.sensorParams.encoders", sensor, timestamp_field, value_field)
    _check_inference_args(as_object("inferenceArgs", inference_args or {}), value_field)

    spatial_path = f"{path}.spParams"
    spatial = _SPATIAL.fields(spatial_path, as_object(spatial_path, parts.get("spParams") or {}))
    # A description asks for what NuPIC does: its pooler learns on every row.
    spatial_params = _build(spatial_path, SpatialPoolerParams, {"learn_every": 1, **spatial})
    return ModelParams(
        value=value,
        date=date,
        spatial=spatial_params,
        temporal=_temporal(path, parts, spatial_params.columns),
        classifier=_classifier(f"{path}.clParams", parts),
    )


def _encoders(
    path: str, sensor: Mapping[str, Any], timestamp_field: str | None, value_field: str | None
) -> tuple[str, ValueParams, DateParams]:
    """The name of the value's field, its encoder, and the date encoder."""
    found: list[tuple[str, ValueParams]] = []
    date = DateParams(time_of_day=None)
    given = as_object(path, sensor.get("encoders"))
    for name in (name for name in given if given[name] is not None):
        encoder = as_object(f"{path}.{name}", given[name])
        kind = str(encoder.get("type"))
        field_name = str(encoder.get("fieldname", name))
        if kind == "DateEncoder":
            _check_field(f"{path}.{name}.fieldname", field_name, timestamp_field)
            date = _add_aspects(f"{path}.{name}", encoder, date)
        elif kind in _VALUE_ENCODERS:
            _check_field(f"{path}.{name}.fieldname", field_name, value_field)
            section = _VALUE_ENCODERS[kind]
            fields = section.fields(f"{path}.{name}", encoder)
            found.append((field_name, _build(f"{path}.{name}", section.params, fields)))
        else:
            raise UnsupportedModelParams(f"{path}.{name}.type: this model core has no encoder {kind!r}")
    if len(found) != 1:
        raise UnsupportedModelParams(f"{path}: a model has one encoder of its value, here are {len(found)}")
    return *found[0], date


def _add_aspects(path: str, encoder: Mapping[str, Any], date: DateParams) -> DateParams:
    for name, value in encoder.items():
        if name == "holidays":
            days = tuple(as_tuple(f"{path}.{name}", day) for day in as_tuple(f"{path}.{name}", value))
            date = replace(date, holidays=days)
        elif name in _DATE_ASPECTS:
            our_name, radius = _DATE_ASPECTS[name]
            aspect = _aspect(f"{path}.{name}", value, radius)
            if aspect is not None and getattr(date, our_name) is not None:
                raise UnsupportedModelParams(f"{path}.{name}: given twice")
            aspects: dict[str, Any] = {our_name: aspect or getattr(date, our_name)}
            date = replace(date, **aspects)
        elif name not in _NAMES and name != "forced":
            _require_one_of(f"{path}.{name}", value, (0, None))
    return date


def _aspect(path: str, value: object, radius: float) -> DateField | None:
    """NuPIC's ``w`` or ``(w, radius)``; 0 and None leave the aspect out."""
    pair = as_tuple(path, value) if isinstance(value, list | tuple) else (value, radius)
    if len(pair) not in (1, 2):
        raise refusal(path, value, "w or [w, radius]")
    w, radius = pair if len(pair) == 2 else (pair[0], radius)
    return None if w in (0, None) else _build(path, DateField, {"w": w, "radius": radius})


def _temporal(path: str, parts: Mapping[str, Any], columns: int) -> TemporalMemoryParams:
    if "tmParams" in parts and "tpParams" in parts:
        raise InvalidModelSpec(f"{path}: give tmParams or tpParams (the same under its older name), not both")
    name = "tpParams" if "tpParams" in parts else "tmParams"
    path = f"{path}.{name}"
    given = as_object(path, parts.get(name) or {})
    kind = given.get("temporalImp", "cpp")
    _require_one_of(f"{path}.temporalImp", kind, tuple(_TEMPORAL_KINDS))
    if given.get("columnCount", columns) != columns:
        raise refusal(f"{path}.columnCount", given["columnCount"], f"that of spParams: {columns}")
    # And its inference goes back where it is lost.
    fields = {"max_inference": NUPIC_MAX_INFERENCE, **_TEMPORAL.fields(path, given)}
    return _build(path, TemporalMemoryParams, {"kind": _TEMPORAL_KINDS[kind], **fields})


def _classifier(path: str, parts: Mapping[str, Any]) -> ClassifierParams | None:
    given = as_object(path, parts.get("clParams") or {})
    fields = _CLASSIFIER.fields(path, given)
    if "steps" in given:
        fields["steps"] = _steps(f"{path}.steps", given["steps"])
    classifier = _build(path, ClassifierParams, fields)
    enabled = Flag().check("modelConfig.modelParams.clEnable", parts.get("clEnable", bool(given)))
    return classifier if enabled else None


def _steps(path: str, value: Any) -> tuple[int, ...]:
    """NuPIC's "1,5", 1 or [1, 5]."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        return tuple(sorted({int(item) for item in items}))
    except (TypeError, ValueError) as error:
        raise refusal(path, value, 'steps such as "1" or "1,5"') from error


def _check_inference_args(given: Mapping[str, Any], value_field: str) -> None:
    # predictionSteps only matter to NuPIC's experiment runner: the classifier's steps are those of clParams.
    without_effect = frozenset({"predictionSteps", "predictedField"})
    _allow_only("inferenceArgs", given, {"inputPredictedField": ("auto", "yes", None)}, without_effect)
    if given.get("predictedField") is not None:
        _check_field("inferenceArgs.predictedField", str(given["predictedField"]), value_field)


def _check_field(path: str, name: str, expected: str | None) -> None:
    if expected is not None and name != expected:
        raise refusal(path, name, f"{expected!r}")


def _allow_only(
    path: str, given: Mapping[str, Any], only: Mapping[str, tuple[Any, ...]], without_effect: frozenset[str]
) -> None:
    for name, value in given.items():
        if name in only:
            _require_one_of(f"{path}.{name}", value, only[name])
        elif name not in without_effect:
            raise UnsupportedModelParams(f"{path}.{name}: this model core has no such parameter")


def _require_one_of(path: str, value: object, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        words = " or ".join(repr(item) for item in allowed)
        raise UnsupportedModelParams(f"{path}: {value!r} is not supported; supported is {words}")


def _refuse_durations(path: str, given: object) -> None:
    """Aggregation and automatic resets are descriptions of a duration: only that of nothing is supported."""
    for name, value in as_object(path, given or {}).items():
        if name != "fields" and value:
            raise UnsupportedModelParams(f"{path}.{name}: {value!r} is not supported; supported is 0")


def _build(path: str, params: type[_P], fields: Mapping[str, Any]) -> _P:
    try:
        return params(**fields)
    except (TypeError, InvalidModelSpec) as error:
        raise InvalidModelSpec(f"{path}: {error}") from error
