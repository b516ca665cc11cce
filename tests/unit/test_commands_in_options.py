# SPDX-License-Identifier: MIT
"""Options that hold a command: what no system can run is refused when the configuration is read."""

from __future__ import annotations

from unittest import TestCase

from htmengine.config import COMMAND


class CommandTest(TestCase):
    def test_a_command_has_a_program_and_quotes_in_pairs(self) -> None:
        for text in ("", "/opt/nupic/bin/worker", "'/opt/my nupic/worker' --option ''"):
            self.assertEqual(COMMAND.read(text), text)
        for text in ("''", '"" worker', "an 'open quote"):
            with self.subTest(text), self.assertRaises(ValueError):
                COMMAND.read(text)
