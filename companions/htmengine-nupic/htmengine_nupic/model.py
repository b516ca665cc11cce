# SPDX-License-Identifier: AGPL-3.0-only
"""One metric's NuPIC model: rows in, raw anomaly scores out; saved and restored by NuPIC's own functions.

NuPIC is imported when the first model is made, so that the rest of this package can be tested without it.
"""

from __future__ import absolute_import, division, unicode_literals

import datetime

from htmengine_nupic import descriptions

_EPOCH = datetime.datetime(1970, 1, 1)
#: Predictions of a step that are told, and the probability that each has at least, as of HTM Engine's own worker.
_MOST_PREDICTIONS, _LEAST_PROBABILITY = 8, 0.0001


class Model(object):
    """A NuPIC model that learns on every row."""

    #: Memory of a model with 600 rows; they grow slowly after.
    MEMORY_BYTES = 64 * 1024 * 1024

    def __init__(self, params):
        """Raises `descriptions.Unsupported`, and whatever NuPIC raises."""
        self.params = params
        self._model = _factory().create(_as_native(descriptions.model_config(params)))
        self._begin()

    def _begin(self):
        self._model.enableLearning()
        self._model.enableInference({str("predictedField"): str(descriptions.VALUE)})

    def run(self, timestamp, value, learn=True):
        """(raw score, predictions) of a row, which the model learns from, or only scores.

        Predictions are None for a model without a classifier.
        """
        record = {
            str(descriptions.TIMESTAMP): _EPOCH + datetime.timedelta(seconds=timestamp),
            str(descriptions.VALUE): value,
        }
        if not learn:
            self._model.disableLearning()
        inferences = self._model.run(record).inferences
        self._model.enableLearning()
        # A share of the active columns, which NuPIC gives in 32 bits.
        columns = self.params["spatial"]["active_columns"]
        raw = int(round(inferences["anomalyScore"] * columns)) / columns
        return raw, self._predictions(inferences)

    def save(self, folder):
        """Write the model to ``folder``, an absolute path where nothing is yet."""
        self._model.save(folder)

    @classmethod
    def restore(cls, folder, params):
        """The model that `save` wrote.  NuPIC unpickles: the caller has checked whose folder it is."""
        model = cls.__new__(cls)
        model.params = params
        model._model = _factory().loadFromCheckpoint(folder)
        return model

    def _predictions(self, inferences):
        if self.params.get("classifier") is None:
            return None
        told = {}
        for step, values in (inferences.get("multiStepPredictions") or {}).items():
            best = sorted(values.items(), key=lambda pair: -pair[1])[:_MOST_PREDICTIONS]
            told[str(step)] = [[float(value), float(share)] for value, share in best if share >= _LEAST_PROBABILITY]
        return told


def _factory():
    from nupic.frameworks.opf.model_factory import ModelFactory

    return ModelFactory


def _as_native(value):
    """With all texts as ``str``, as NuPIC's regions want them on Python 2."""
    if isinstance(value, dict):
        return {str(name): _as_native(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_as_native(each) for each in value)
    return str(value) if isinstance(value, type("")) else value
