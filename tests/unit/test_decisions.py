# SPDX-License-Identifier: MIT
"""The numbers of decisions follow one another, and a page says its own."""

from __future__ import annotations

from pathlib import Path
from unittest import TestCase

from tools import decisions_index

ROOT = Path(__file__).parents[2]


class DecisionsTest(TestCase):
    def test_numbers_are_unique_and_from_80_on_without_gaps(self) -> None:
        numbers = [each.number for each in decisions_index.pages(ROOT)]
        self.assertEqual(list(decisions_index.misnumbered(numbers)), [])

    def test_duplicates_and_gaps_are_found(self) -> None:
        self.assertEqual(
            list(decisions_index.misnumbered([1, 7, 7, 80, 83])), ["7 is taken twice", "81 is missing", "82 is missing"]
        )

    def test_a_page_with_another_number_than_its_file_is_refused(self) -> None:
        for text in ("# 6. Title\n\nSentence.\n", "# 0005: Title\n\nSentence.\n", "Title\n", ""):
            self.assertRaisesRegex(ValueError, "0005-x.md", decisions_index.read, "0005-x.md", text)
