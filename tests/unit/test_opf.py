# SPDX-License-Identifier: MIT
"""NuPIC's model descriptions: read with the same meaning, and what is not supported is refused by its name."""

from __future__ import annotations

import copy
from typing import Any
from unittest import TestCase

import pytest

from htmengine.errors import InvalidModelSpec, UnsupportedModelParams
from htmengine.htm import _core, opf
from htmengine.htm.model import core_params
from htmengine.htm.params import (
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
)

#: What NuPIC's own helper for anomaly models returns, for a resolution of 1.5.
DESCRIPTION: dict[str, Any] = {
    "aggregationInfo": {"seconds": 0, "hours": 0, "fields": []},
    "model": "HTMPrediction",
    "version": 1,
    "predictAheadTime": None,
    "modelParams": {
        "inferenceType": "TemporalAnomaly",
        "sensorParams": {
            "verbosity": 0,
            "sensorAutoReset": None,
            "encoders": {
                "c0_dayOfWeek": None,
                "c0_weekend": None,
                "c0_timeOfDay": {
                    "fieldname": "c0",
                    "name": "c0",
                    "type": "DateEncoder",
                    "timeOfDay": [21, 9.49],
                },
                "c1": {
                    "fieldname": "c1",
                    "name": "c1",
                    "type": "RandomDistributedScalarEncoder",
                    "seed": 42,
                    "resolution": 1.5,
                },
            },
        },
        "spEnable": True,
        "spParams": {
            "columnCount": 2048,
            "globalInhibition": 1,
            "inputWidth": 0,
            "boostStrength": 0.0,
            "numActiveColumnsPerInhArea": 40.0,
            "potentialPct": 0.8,
            "seed": 1956,
            "spVerbosity": 0,
            "spatialImp": "cpp",
            "synPermActiveInc": 0.003,
            "synPermConnected": 0.2,
            "synPermInactiveDec": 0.0005,
        },
        "tmEnable": True,
        "tmParams": {
            "activationThreshold": 13,
            "cellsPerColumn": 32,
            "columnCount": 2048,
            "globalDecay": 0.0,
            "initialPerm": 0.21,
            "inputWidth": 2048,
            "maxAge": 0,
            "maxSegmentsPerCell": 128,
            "maxSynapsesPerSegment": 32,
            "minThreshold": 10,
            "newSynapseCount": 20,
            "outputType": "normal",
            "pamLength": 3,
            "permanenceDec": 0.1,
            "permanenceInc": 0.1,
            "seed": 1960,
            "temporalImp": "cpp",
            "verbosity": 0,
        },
        "clEnable": False,
        "clParams": {"alpha": 0.0358, "regionName": "SDRClassifierRegion", "steps": "1", "verbosity": 0},
        "anomalyParams": {"anomalyCacheRecords": None, "autoDetectThreshold": None, "autoDetectWaitRecords": 5030},
        "trainSPNetOnlyIfRequested": False,
    },
}
_ARGS = {"predictionSteps": [1], "predictedField": "c1", "inputPredictedField": "auto"}


def _with(path: str, value: object) -> dict[str, Any]:
    """The description with one value set, at a path below modelParams."""
    description = copy.deepcopy(DESCRIPTION)
    *parents, name = path.split(".")
    target = description["modelParams"]
    for parent in parents:
        target = target[parent]
    target[name] = value
    return description


def _with_encoder(**encoder: object) -> dict[str, Any]:
    return _with("sensorParams.encoders.c1", {"fieldname": "c1", "name": "c1", **encoder})


class ReadingTest(TestCase):
    def test_the_standard_description_is_the_standard_model_as_nupic_runs_it(self) -> None:
        expected = ModelParams(
            RandomDistributedScalarParams(1.5),
            spatial=SpatialPoolerParams(learn_every=1),
            temporal=TemporalMemoryParams(max_inference=10),
        )
        self.assertEqual(opf.model_params(DESCRIPTION, _ARGS), expected)

    def test_the_description_may_come_wrapped_with_its_inference_args(self) -> None:
        wrapped = {"modelConfig": DESCRIPTION, "inferenceArgs": _ARGS}
        self.assertEqual(opf.model_params(wrapped), opf.model_params(DESCRIPTION))

    def test_older_names_mean_the_same(self) -> None:
        old = copy.deepcopy(DESCRIPTION)
        old["model"] = "CLA"
        parts = old["modelParams"]
        parts["tpParams"] = parts.pop("tmParams")
        parts["tpEnable"] = parts.pop("tmEnable")
        del parts["spParams"]["boostStrength"]
        parts["spParams"]["maxBoost"] = 1.0
        parts["clParams"]["regionName"] = "CLAClassifierRegion"
        self.assertEqual(opf.model_params(old), opf.model_params(DESCRIPTION))

    def test_the_plain_temporal_memory(self) -> None:
        description = copy.deepcopy(DESCRIPTION)
        description["modelParams"]["tmParams"].update(
            temporalImp="tm_cpp",
            activationThreshold=20,
            minThreshold=13,
            newSynapseCount=31,
            maxSynapsesPerSegment=128,
            initialPerm=0.24,
            permanenceInc=0.04,
            permanenceDec=0.008,
            predictedSegmentDecrement=0.001,
        )
        expected = TemporalMemoryParams(
            kind="tm_cpp",
            activation_threshold=20,
            min_threshold=13,
            new_synapses=31,
            max_synapses=128,
            initial_permanence=0.24,
            increment=0.04,
            decrement=0.008,
            max_inference=10,
            predicted_segment_decrement=0.001,
        )
        self.assertEqual(opf.model_params(description).temporal, expected)

    def test_every_temporal_memory_parameter_is_read(self) -> None:
        for name, value, field in (
            ("maxSeqLength", 0, "max_sequence"),
            ("maxInfBacktrack", 1, "max_inference"),
            ("maxLrnBacktrack", 2, "max_learning"),
            ("connectedPerm", 0.4, "connected_permanence"),
        ):
            params = opf.model_params(_with(f"tmParams.{name}", value))
            self.assertEqual(getattr(params.temporal, field), value)

    def test_value_encoders(self) -> None:
        for encoder, expected in (
            (
                {
                    "type": "ScalarEncoder",
                    "minval": 0,
                    "maxval": 100,
                    "w": 21,
                    "n": 0,
                    "resolution": 1,
                    "clipInput": 1,
                },
                ScalarParams(minval=0, maxval=100, resolution=1, clip_input=True),
            ),
            (
                {"type": "LogEncoder", "minval": 1, "maxval": 1000, "n": 100},
                LogParams(minval=1, maxval=1000, n=100),
            ),
            ({"type": "DeltaEncoder", "n": 100, "w": 5, "forced": True}, DeltaParams(n=100, w=5, forced=True)),
            (
                {"type": "RandomDistributedScalarEncoder", "resolution": 2, "n": 600, "w": 31, "offset": 5},
                RandomDistributedScalarParams(resolution=2, n=600, w=31, offset=5),
            ),
        ):
            self.assertEqual(opf.model_params(_with_encoder(**encoder)).value, expected)

    def test_date_encoders_add_up(self) -> None:
        description = _with(
            "sensorParams.encoders.c0_more",
            {
                "fieldname": "c0",
                "type": "DateEncoder",
                "weekend": 21,
                "dayOfWeek": [21, 3],
                "season": 21,
                "holiday": 5,
                "holidays": [[7, 4]],
                "timeOfDay": 0,
            },
        )
        expected = DateParams(
            time_of_day=DateField(21, 9.49),
            weekend=DateField(21, 1.0),
            day_of_week=DateField(21, 3.0),
            season=DateField(21, 91.5),
            holiday=DateField(5, 1.0),
            holidays=((7, 4),),
        )
        self.assertEqual(opf.model_params(description).date, expected)

    def test_classifier(self) -> None:
        for steps, expected in (("1,5", (1, 5)), (3, (3,)), ([5, 1], (1, 5))):
            description = _with("clEnable", 1)
            description["modelParams"]["clParams"]["steps"] = steps
            params = opf.model_params(description)
            self.assertEqual(params.classifier, ClassifierParams(alpha=0.0358, steps=expected))

    def test_field_names_are_those_of_the_specification(self) -> None:
        opf.model_params(DESCRIPTION, _ARGS, timestamp_field="c0", value_field="c1")
        for fields in ({"timestamp_field": "time"}, {"value_field": "load"}):
            with self.assertRaisesRegex(InvalidModelSpec, "fieldname: 'c[01]' is not allowed"):
                opf.model_params(DESCRIPTION, **fields)
        with self.assertRaisesRegex(InvalidModelSpec, "inferenceArgs.predictedField: 'c2'"):
            opf.model_params(DESCRIPTION, {"predictedField": "c2"})


#: Every parameter that is read, with a value that is not the standard one; those of encoders in another test.
_EFFECTS: dict[str, Any] = {
    "spParams.columnCount": 1024,
    "spParams.numActiveColumnsPerInhArea": 30,
    "spParams.potentialPct": 0.5,
    "spParams.synPermConnected": 0.1,
    "spParams.synPermActiveInc": 0.05,
    "spParams.synPermInactiveDec": 0.01,
    "spParams.seed": 7,
    "tmParams.cellsPerColumn": 16,
    "tmParams.activationThreshold": 15,
    "tmParams.minThreshold": 8,
    "tmParams.newSynapseCount": 15,
    "tmParams.initialPerm": 0.4,
    "tmParams.connectedPerm": 0.3,
    "tmParams.permanenceInc": 0.2,
    "tmParams.permanenceDec": 0.05,
    "tmParams.maxSynapsesPerSegment": 21,
    "tmParams.pamLength": 1,
    "tmParams.maxSeqLength": 8,
    "tmParams.maxInfBacktrack": 0,
    "tmParams.maxLrnBacktrack": 0,
    "tmParams.temporalImp": "tm_cpp",
    "tmParams.seed": 7,
    "clParams.alpha": 0.5,
    "clParams.actValueAlpha": 0.9,
    "clParams.steps": "1,2",
    "clEnable": 0,
}


@pytest.mark.long
class EffectTest(TestCase):
    """Whatever a description may set makes another model: its state after some rows is another one."""

    @staticmethod
    def _state(description: dict[str, Any]) -> bytes:
        model = _core.Model(core_params(opf.model_params(description)))
        for row in range(80):
            model.row(300 * row, 10.0 * (row % 10) + (25.0 if row % 37 == 0 else row % 3), True)
        return model.save()

    def test_of_pooler_memory_and_classifier(self) -> None:
        def changed(path: str, value: object) -> dict[str, Any]:
            description = _with("clEnable", 1)
            parts = description["modelParams"]
            if path == "spParams.columnCount":
                del parts["tmParams"]["columnCount"]
            *parents, name = path.split(".")
            (parts[parents[0]] if parents else parts)[name] = value
            return description

        standard = self._state(changed("clEnable", 1))
        for path, value in _EFFECTS.items():
            self.assertNotEqual(self._state(changed(path, value)), standard, path)

    def test_nothing_that_is_read_is_left_out_here(self) -> None:
        read = {f"spParams.{name}" for name in opf._SPATIAL.read} | {f"tmParams.{name}" for name in opf._TEMPORAL.read}
        read |= {f"clParams.{name}" for name in opf._CLASSIFIER.read}
        self.assertEqual(read - set(_EFFECTS), {"tmParams.predictedSegmentDecrement"})

    def test_of_the_plain_memory_alone(self) -> None:
        states = []
        for punishment in (0.0, 0.01):
            description = _with("tmParams.temporalImp", "tm_cpp")
            description["modelParams"]["tmParams"]["predictedSegmentDecrement"] = punishment
            states.append(self._state(description))
        self.assertNotEqual(*states)

    def test_of_encoders(self) -> None:
        for kind, standard, changes in (
            (
                "RandomDistributedScalarEncoder",
                {"resolution": 1.0},
                {"resolution": 2.0, "n": 500, "w": 23, "offset": 3.0, "seed": 7},
            ),
            (
                "ScalarEncoder",
                {"minval": 0, "maxval": 120, "n": 100, "clipInput": True},
                {"minval": 20, "maxval": 130, "n": 120, "w": 31, "periodic": True},
            ),
            ("LogEncoder", {"minval": 1, "maxval": 120, "n": 100}, {"minval": 2, "maxval": 130, "n": 120, "w": 31}),
            (
                "DeltaEncoder",
                {"minval": -50, "maxval": 50, "n": 100},
                {"minval": -200, "maxval": 200, "n": 120, "w": 31},
            ),
        ):
            before = self._state(_with_encoder(type=kind, **standard))
            for name, value in changes.items():
                after = self._state(_with_encoder(type=kind, **{**standard, name: value}))
                self.assertNotEqual(after, before, (kind, name))

    def test_of_the_aspects_of_the_date(self) -> None:
        before = self._state(DESCRIPTION)
        for name, value in (
            ("timeOfDay", [21, 4]),
            ("weekend", 21),
            ("dayOfWeek", 21),
            ("season", 21),
            ("holiday", 21),
        ):
            date = {"fieldname": "c0", "type": "DateEncoder", name: value}
            self.assertNotEqual(self._state(_with("sensorParams.encoders.c0_timeOfDay", date)), before, name)


class RefusalTest(TestCase):
    def test_what_is_not_supported_is_refused_by_its_name(self) -> None:
        for path, value in (
            ("inferenceType", "NontemporalAnomaly"),
            ("spEnable", False),
            ("trainSPNetOnlyIfRequested", True),
            ("somethingElse", 1),
            ("anomalyParams.slidingWindowSize", 10),
            ("sensorParams.sensorAutoReset", {"hours": 1}),
            ("spParams.globalInhibition", 0),
            ("spParams.boostStrength", 1.0),
            ("spParams.maxBoost", 2.0),
            ("spParams.localAreaDensity", 0.02),
            ("spParams.potentialRadius", 16),
            ("spParams.coincInputPoolPct", 0.5),
            ("tmParams.temporalImp", "monitored_tm_py"),
            ("tmParams.globalDecay", 0.1),
            ("tmParams.maxAge", 100000),
            ("tmParams.doPooling", True),
            ("tmParams.outputType", "activeState"),
            ("clParams.regionName", "KNNClassifierRegion"),
        ):
            with self.subTest(path=path), self.assertRaisesRegex(UnsupportedModelParams, path.rpartition(".")[2]):
                opf.model_params(_with(path, value))

    def test_other_models_and_aggregation_are_refused(self) -> None:
        changes: list[dict[str, Any]] = [{"model": "TwoGram"}, {"aggregationInfo": {"hours": 1}}, {"control": {}}]
        for change in changes:
            with self.assertRaisesRegex(UnsupportedModelParams, next(iter(change))):
                opf.model_params({**DESCRIPTION, **change})

    def test_unknown_encoders_and_encoder_parameters_are_refused(self) -> None:
        for encoder, named in (
            ({"type": "AdaptiveScalarEncoder"}, "c1.type: .* 'AdaptiveScalarEncoder'"),
            ({"type": ["x"]}, "c1.type"),
            ({"type": "RandomDistributedScalarEncoder", "resolution": 1, "numBuckets": 130}, "c1.numBuckets"),
            ({"type": "LogEncoder", "n": 100, "periodic": True}, "c1.periodic: True"),
            ({"type": "DateEncoder", "customDays": [3, ["mon"]]}, "c1.customDays"),
            ({"type": "DateEncoder", "timeOfDay": 21}, "c1.timeOfDay: given twice"),
        ):
            with self.subTest(**encoder), self.assertRaisesRegex(UnsupportedModelParams, named):
                opf.model_params(_with_encoder(**encoder))

    def test_a_model_has_one_value(self) -> None:
        for change in ({"c1": None}, {"c2": {"type": "DeltaEncoder", "n": 100}}):
            description = copy.deepcopy(DESCRIPTION)
            description["modelParams"]["sensorParams"]["encoders"].update(change)
            with self.assertRaisesRegex(UnsupportedModelParams, "encoders: a model has one encoder of its value"):
                opf.model_params(description)

    def test_wrong_values_are_refused_by_path(self) -> None:
        for path, value, message in (
            ("spParams.columnCount", "many", "spParams.columnCount: 'many'"),
            ("spParams.synPermActiveInc", 2, "spParams.synPermActiveInc: 2 .* 0 to 1"),
            ("spParams", [], None),
            ("tmParams.columnCount", 1024, "tmParams.columnCount: 1024 .* 2048"),
            ("tmParams.seed", -1, "tmParams.seed: -1"),
            ("tmParams.maxSynapsesPerSegment", 10, "tmParams: .*new_synapses: 20"),
            ("tpParams", {}, "tmParams or tpParams"),
            ("clParams.steps", "x", "clParams.steps: 'x'"),
            ("clEnable", "yes", "clEnable: 'yes'"),
            ("sensorParams", None, "sensorParams: None .* an object"),
            ("sensorParams.encoders.c0_timeOfDay.timeOfDay", [21, 9.49, 1], "timeOfDay: .* w or"),
            ("sensorParams.encoders.c1.resolution", None, "c1: .*'resolution'"),
        ):
            if message is None:
                opf.model_params(_with(path, value))  # an empty section is one that was left out
                continue
            with self.subTest(path=path), self.assertRaisesRegex(InvalidModelSpec, message):
                opf.model_params(_with(path, value))

    def test_nothing_but_an_object_is_a_description(self) -> None:
        descriptions: list[Any] = [None, [], "x", {}]
        for description in descriptions:
            with self.assertRaises(InvalidModelSpec):
                opf.model_params(description)
