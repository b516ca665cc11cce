# SPDX-License-Identifier: AGPL-3.0-only
"""The parameters of a model as NuPIC's OPF description.

In: the parameters in a definition that the scheduler sends (``ModelParams.to_json()`` of HTM Engine).  Out: a
``modelConfig`` for NuPIC's ``ModelFactory``.  The parameters of the standard model give HTM Engine's own description
("best single metric anomaly params").

Without counterpart in NuPIC, and so without effect here: ``learn_every`` (NuPIC's pooler learns on every row),
``max_segments`` (NuPIC bounds the segments of a cell, 128), ``minval`` and ``maxval`` of the random distributed
scalar encoder (its buckets have one width).  With ``max_inference`` 0 our memory bursts; NuPIC's goes back 10 rows.
"""

from __future__ import absolute_import, division, unicode_literals

TIMESTAMP, VALUE = "c0", "c1"

#: NuPIC's default number of rows that inference can go back to.
_MAX_INFERENCE = 10
_SEGMENTS_PER_CELL = 128

#: Our name of an encoder: NuPIC's, and the parameters that it is given, NuPIC's name first.
_SCALAR = (("w", "w"), ("n", "n"), ("radius", "radius"), ("resolution", "resolution"), ("minval", "minval"),
           ("maxval", "maxval"), ("forced", "forced"))  # fmt: skip
_ENCODERS = {
    "random_distributed_scalar": (
        "RandomDistributedScalarEncoder",
        (("resolution", "resolution"), ("n", "n"), ("w", "w"), ("offset", "offset"), ("seed", "seed")),
    ),
    "scalar": ("ScalarEncoder", _SCALAR + (("periodic", "periodic"), ("clipInput", "clip_input"))),
    "log": ("LogEncoder", _SCALAR),
    "delta": ("DeltaEncoder", (("w", "w"), ("n", "n"), ("minval", "minval"), ("maxval", "maxval"),
                               ("forced", "forced"))),
}  # fmt: skip

_ASPECTS = (
    ("season", "season"),
    ("dayOfWeek", "day_of_week"),
    ("weekend", "weekend"),
    ("holiday", "holiday"),
    ("timeOfDay", "time_of_day"),
)


class Unsupported(ValueError):
    """A model that NuPIC does not have; the text names the parameter."""


def model_config(params):
    """NuPIC's ``modelConfig`` for these parameters.  Raises `Unsupported`."""
    classifier = params.get("classifier")
    try:
        return {
            "model": "HTMPrediction",
            "version": 1,
            "aggregationInfo": None,
            "predictAheadTime": None,
            "modelParams": {
                "inferenceType": "TemporalAnomaly",
                "sensorParams": {"verbosity": 0, "sensorAutoReset": None, "encoders": _encoders(params)},
                "spEnable": True,
                "spParams": _spatial(params["spatial"]),
                "tmEnable": True,
                "tmParams": _temporal(params["temporal"], params["spatial"]["columns"]),
                "clEnable": classifier is not None,
                "clParams": _classifier(classifier or {}),
                "anomalyParams": {
                    "anomalyCacheRecords": None,
                    "autoDetectThreshold": None,
                    "autoDetectWaitRecords": 5030,
                },
                "trainSPNetOnlyIfRequested": False,
            },
        }
    except KeyError as missing:
        raise Unsupported("the definition lacks the parameter %s" % missing)


def _encoders(params):
    value = params["value"]
    if value["type"] not in _ENCODERS:
        raise Unsupported("value.type: %s; NuPIC has %s" % (value["type"], ", ".join(sorted(_ENCODERS))))
    kind, names = _ENCODERS[value["type"]]
    encoder = {"type": kind, "fieldname": VALUE, "name": VALUE}
    encoder.update((theirs, value[ours]) for theirs, ours in names if value.get(ours) is not None)
    encoders = {VALUE: encoder}
    aspects = {theirs: params["date"].get(ours) for theirs, ours in _ASPECTS}
    given = {name: (aspect["w"], aspect["radius"]) for name, aspect in aspects.items() if aspect}
    if given:
        encoders[TIMESTAMP] = dict(given, type="DateEncoder", fieldname=TIMESTAMP, name=TIMESTAMP)
        if "holiday" in given:
            encoders[TIMESTAMP]["holidays"] = [tuple(day) for day in params["date"].get("holidays", ())]
    return encoders


def _spatial(given):
    return {
        "spVerbosity": 0,
        "spatialImp": "cpp",
        "globalInhibition": 1,
        "columnCount": given["columns"],
        "inputWidth": 0,  # NuPIC computes it from the encoders
        "numActiveColumnsPerInhArea": given["active_columns"],
        "potentialPct": given["potential_pct"],
        "synPermConnected": given["connected"],
        "synPermActiveInc": given["increment"],
        "synPermInactiveDec": given["decrement"],
        "boostStrength": 0.0,
        "seed": given["seed"],
    }


def _temporal(given, columns):
    params = {
        "verbosity": 0,
        "columnCount": columns,
        "inputWidth": columns,
        "temporalImp": given["kind"],
        "cellsPerColumn": given["cells_per_column"],
        "activationThreshold": given["activation_threshold"],
        "minThreshold": given["min_threshold"],
        "newSynapseCount": given["new_synapses"],
        "initialPerm": given["initial_permanence"],
        "connectedPerm": given["connected_permanence"],
        "permanenceInc": given["increment"],
        "permanenceDec": given["decrement"],
        "maxSynapsesPerSegment": given["max_synapses"],
        "maxSegmentsPerCell": _SEGMENTS_PER_CELL,
        "globalDecay": 0.0,
        "maxAge": 0,
        "outputType": "normal",
        "seed": given["seed"],
    }
    if given["kind"] == "cpp":
        params.update(
            pamLength=given["pam_length"],
            maxSeqLength=given["max_sequence"],
            maxInfBacktrack=given["max_inference"] or _MAX_INFERENCE,
            maxLrnBacktrack=given["max_learning"],
        )
    else:
        params["predictedSegmentDecrement"] = given["predicted_segment_decrement"]
    return params


def _classifier(given):
    return {
        "regionName": "SDRClassifierRegion",
        "verbosity": 0,
        "alpha": given.get("alpha", 0.035828933612158),
        "steps": ",".join(str(step) for step in given.get("steps", (1,))),
    }
