# SPDX-License-Identifier: AGPL-3.0-only
"""A stand-in for NuPIC's models, for tests without NuPIC: a value is as unexpected as it is rare so far."""

import os
import pickle
import struct
from collections import Counter, namedtuple

Inferences = namedtuple("Inferences", "inferences")


class StandIn(object):
    """As much of NuPIC's model as the worker uses; what it does depends on all rows before."""

    def __init__(self, model_config):
        self.config = model_config
        self.seen = Counter()
        self.learning = False
        self.predicted = None

    def enableLearning(self):
        self.learning = True

    def disableLearning(self):
        self.learning = False

    def enableInference(self, arguments):
        self.predicted = arguments["predictedField"]

    def run(self, record):
        value = record[self.predicted]
        if value == 666.0:
            raise RuntimeError("no model of 666")
        seen = self.seen[value] + 1
        if self.learning:
            self.seen[value] = seen
        best = (self.seen.most_common(1) or [(value, 1)])[0][0]
        columns = self.config["modelParams"]["spParams"]["numActiveColumnsPerInhArea"]
        score = columns // seen / float(columns)
        # NuPIC gives a number of 32 bits.
        score = struct.unpack("f", struct.pack("f", score))[0]
        return Inferences({"anomalyScore": score, "multiStepPredictions": {1: {best: 0.75, 0.5: 0.0}}})

    def save(self, folder):
        if not os.path.isabs(folder):
            raise ValueError("NuPIC wants an absolute path")
        os.mkdir(folder)
        with open(os.path.join(folder, "model.pkl"), "wb") as stream:
            pickle.dump(self, stream, 2)


class ModelFactory(object):
    """NuPIC's name."""

    @staticmethod
    def create(model_config):
        if model_config["modelParams"]["spParams"]["columnCount"] == 1:
            raise ValueError("NuPIC wants more columns")
        return StandIn(model_config)

    @staticmethod
    def loadFromCheckpoint(folder):
        with open(os.path.join(folder, "model.pkl"), "rb") as stream:
            return pickle.load(stream)
