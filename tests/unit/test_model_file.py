# SPDX-License-Identifier: MIT
"""Exported models: whole, or refused with the reason."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import CheckpointError, CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.evidence.model_file import ModelFile
from htmengine.evidence.scoring import likelihood_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams

PARAMS = ModelParams.for_range(0, 10)


class ModelFileTest(SynchronousTestCase):
    def setUp(self) -> None:
        model = Model(PARAMS)
        model.learn(60, 1.0)
        likelihood = likelihood_for(PARAMS)
        likelihood.score(1.0, 1.0)
        spec = {"datasource": "custom", "metricSpec": {"metric": "m"}}
        self.file = ModelFile(spec, PARAMS.to_json(), 1_000_000, model.save(), likelihood.save())

    def refused(self, data: bytes, error: type[CheckpointError] = CorruptCheckpoint) -> str:
        return str(self.assertRaises(error, ModelFile.unpack, data))

    def test_what_was_packed_is_read_again(self) -> None:
        self.assertEqual(ModelFile.unpack(self.file.pack()), self.file)

    def test_every_damage_is_found(self) -> None:
        data = self.file.pack()
        for at in (20, 300, len(data) // 2, len(data) - 40, len(data) - 1):
            self.assertIn("checksum", self.refused(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]))
        for length in (60, 1000, len(data) - 1):
            self.assertIn("checksum", self.refused(data[:length]))

    def test_what_is_no_exported_model_is_called_so(self) -> None:
        for data in (b"", b"HTMMODEL", b'{"spec": {}}', b"x" * 1000):
            self.assertEqual(self.refused(data), "this is no exported model")

    def test_a_newer_format_is_named(self) -> None:
        data = self.file.pack()
        reason = self.refused(data[:8] + b"\x02" + data[9:], UnknownCheckpointVersion)
        self.assertEqual(reason, "an exported model of format 2; only 1 is known")

    def test_a_model_that_cannot_be_run_is_refused_before_anything_is_changed(self) -> None:
        for change in ({"model": b"nonsense"}, {"likelihood": b"nonsense"}):
            self.assertIn("cannot be used", self.refused(dataclasses.replace(self.file, **change).pack()))
        other = dataclasses.replace(self.file, params=ModelParams.for_range(0, 99).to_json())
        self.assertIn("parameters", self.refused(other.pack()))
