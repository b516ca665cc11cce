# SPDX-License-Identifier: MIT
"""docs/alerts.md: its example loads, its tables are complete, its check of a signature accepts ours."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from htmengine.alerts.configuration import Maintenance, Rule, load_alerts
from htmengine.alerts.formats import signature
from htmengine.alerts.receivers import RECEIVERS

TEXT = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group(1)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ", ".join(f"`{each}`" for each in default)
    return "" if default is None else f"{default:g}" if isinstance(default, float | int) else str(default)


class AlertDocsTest(SynchronousTestCase):
    def test_the_example_is_a_configuration(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "alerts.conf").write_text(block("ini"))
        config = load_alerts(folder, {})
        self.assertEqual([rule.name for rule in config.rules], ["all"])
        self.assertTrue(config.rules[0].has_budget)
        self.assertEqual(len(config.receivers), 1)

    def test_the_table_of_a_rule_has_every_option_with_its_default(self) -> None:
        documented = dict(re.findall(r"^\| `(\w+)` \| ?(.*?) ?\|", TEXT, re.MULTILINE))
        expected = {each.name: _shown(each.default) for each in dataclasses.fields(Rule) if each.metadata}
        expected["silence"] = "yes"  # 0 is how the program has it
        self.assertEqual(documented, expected)

    def test_every_option_of_every_receiver_is_named(self) -> None:
        section = TEXT.partition("## Receivers")[2].partition("\n## ")[0]
        for name, kind in RECEIVERS.items():
            for each in dataclasses.fields(kind):
                if each.metadata:
                    self.assertIn(f"`{each.name}`", section, name)

    def test_every_option_of_maintenance_is_named(self) -> None:
        section = TEXT.partition("## Maintenance")[2].partition("\n## ")[0]
        for each in dataclasses.fields(Maintenance):
            if each.metadata:
                self.assertIn(f"`{each.name}`", section)

    def test_a_receiver_can_check_our_signature_as_it_says(self) -> None:
        namespace: dict[str, Any] = {}
        exec(block("python"), namespace)  # noqa: S102  (our own document)
        is_genuine = namespace["is_genuine"]
        now = str(int(time.time()))
        self.assertTrue(is_genuine("key", now, signature("key", now, b"{}"), b"{}"))
        self.assertFalse(is_genuine("key", now, signature("other", now, b"{}"), b"{}"))
        self.assertFalse(is_genuine("key", "1000", signature("key", "1000", b"{}"), b"{}"))
