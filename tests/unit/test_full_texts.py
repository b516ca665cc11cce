# SPDX-License-Identifier: MIT
"""Short identities get the labels of their whole texts, in a bounded memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.full_texts import FULL_TEXTS, FullTexts
from htmengine.gaps import GapRules
from htmengine.incidents.roots import part_of
from htmengine.labels import identity
from htmengine.repository import counters, queries, reading
from htmengine.selectors import Selection
from htmengine.web.events import Filter
from tests.support.database import new_database

TEXTS = [f"cpu;a={letter * 300};instance=web-1;job=api" for letter in "xyz"]
NAMES = [identity(text) for text in TEXTS]


class FullTextsTest(SynchronousTestCase):
    def test_a_text_is_found_by_its_identity_and_short_names_are_their_texts(self) -> None:
        texts = FullTexts()
        texts.remember([TEXTS[0], "web.a"])
        self.assertEqual([texts.of(name) for name in (NAMES[0], NAMES[1], "web.a")], [TEXTS[0], NAMES[1], "web.a"])
        self.assertEqual([texts.has(name) for name in (NAMES[0], NAMES[1], "web.a")], [True, False, True])
        self.assertEqual(texts.lacking([*NAMES, *NAMES, "web.a"]), sorted(NAMES[1:]))

    def test_what_nobody_asked_for_longest_is_forgotten(self) -> None:
        texts = FullTexts(most_characters=2 * len(TEXTS[0]))
        texts.remember(TEXTS[:2])
        texts.remember(TEXTS[:2])
        self.assertEqual(texts.lacking([NAMES[0]]), [])
        texts.remember(TEXTS[2:])
        self.assertEqual([texts.has(name) for name in NAMES], [True, False, True])


class LabelsPastTheIdentityTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(FULL_TEXTS, "_texts", {})

    def test_selectors_see_them_once_they_are_learnt(self) -> None:
        rules = [Selection.of((text,)) for text in ('{job="api",instance=~"web.*"}', "cpu;*job=api", NAMES[0])]
        self.assertEqual([rule.takes(NAMES[0]) for rule in rules], [False, False, True])
        FULL_TEXTS.remember(TEXTS)
        self.assertEqual([rule.takes(NAMES[0]) for rule in rules], [True] * 3)

    def test_what_a_rule_says_is_remembered_only_then(self) -> None:
        rules = GapRules(['hold 3 {job="api"}'])
        self.assertIsNone(rules.filling_of(NAMES[0]))
        FULL_TEXTS.remember(TEXTS)
        self.assertIsNotNone(rules.filling_of(NAMES[0]))

    def test_they_tell_whose_a_metric_is(self) -> None:
        FULL_TEXTS.remember(TEXTS)
        self.assertEqual(part_of(NAMES[0]), "web-1")


class WholeTextsAsNamesTest(SynchronousTestCase):
    def test_a_metric_is_made_and_found_by_its_whole_text_with_labels_in_any_order(self) -> None:
        database = new_database(self)
        name, *tags = TEXTS[0].split(";")
        mixed = ";".join([name, *reversed(tags)])
        metric = database.run_sync(custom.create_metric, ModelSpec.for_name(mixed))
        self.assertEqual(metric.name, NAMES[0])
        self.assertEqual(database.run_sync(counters.long_texts), {metric.uid: TEXTS[0]})
        for given in (TEXTS[0], mixed, NAMES[0], metric.uid):
            self.assertEqual(database.run_sync(queries.find_metric, given).uid, metric.uid)
            self.assertEqual(database.run_sync(reading.find_metric, given).text, TEXTS[0])
        again, _ = database.run_sync(custom.monitor_metric, ModelSpec.for_name(TEXTS[0]), 288)
        self.assertEqual(again.uid, metric.uid)
        self.assertTrue(Filter.of([mixed]).matches(NAMES[0]))
        database.run_sync(counters.learn_texts, [metric.name])
        self.assertEqual(custom.export_spec(metric)["metricSpec"], {"metric": TEXTS[0]})

    def test_a_name_of_255_letters_with_more_bytes_is_its_own(self) -> None:
        database = new_database(self)
        metric = database.run_sync(custom.create_metric, ModelSpec.for_name("é" * 255))
        self.assertEqual(database.run_sync(queries.find_metric, "é" * 255).uid, metric.uid)
        self.assertEqual(database.run_sync(counters.long_texts), {})
