# SPDX-License-Identifier: MIT
"""Samples in requests: all of them good, or none taken and each bad one named."""

from __future__ import annotations

import json
from typing import Any
from unittest import TestCase

from htmengine.web.document import MOST_ERRORS
from htmengine.web.refused import Refused
from htmengine.web.samples import MOST_SAMPLES, RefusedSamples, read_json, read_text

NOW = 1_400_000_000.5


def lines_from_json(samples: Any, metric: str | None, now: float) -> list[str]:
    return read_json(json.dumps({"samples": samples}).encode(), metric, now)


class SamplesTest(TestCase):
    def fields(self, read: Any, samples: Any, metric: str | None = None) -> list[str]:
        with self.assertRaises(Refused) as caught:
            read(samples, metric, NOW)
        return [field for field, _ in caught.exception.errors]

    def test_objects_become_lines(self) -> None:
        samples = [{"metric": "a", "value": 1, "timestamp": 60}, {"metric": "b", "value": -0.5, "timestamp": None}]
        self.assertEqual(lines_from_json(samples, None, NOW), ["a 1.0 60", "b -0.5 1400000000"])

    def test_lines_become_lines(self) -> None:
        self.assertEqual(read_text(b"a 1 60\r\n\nb 2\n", None, NOW), ["a 1.0 60", "b 2.0 1400000000"])
        self.assertEqual(read_text(b"1 60\n2", "a", NOW), ["a 1.0 60", "a 2.0 1400000000"])

    def test_bad_objects_are_named(self) -> None:
        good = {"value": 1, "timestamp": 60}
        for bad, field in (
            ({"value": None}, "samples[1].value"),
            ({"value": 1, "timestamp": "60"}, "samples[1].timestamp"),
            ({"value": 1, "timestamp": 5e12}, "samples[1]"),
            ({"value": 1, "metric": "b"}, "samples[1].metric"),
            ([1, 60], "samples[1]"),
        ):
            self.assertEqual(self.fields(lines_from_json, [good, bad], "a"), [field])

    def test_a_sample_from_the_future_is_named(self) -> None:
        self.assertEqual(self.fields(read_text, b"a 1 1400000600\na 1 1400000601"), ["line 2"])

    def test_a_name_is_one_printable_word(self) -> None:
        for name in ("", " ", "a b", "a\n1 60\nb", 5, None):
            self.assertEqual(self.fields(lines_from_json, [{"metric": name, "value": 1}]), ["samples[0].metric"])
        for name in ("a\x00", "a" * 4097, "é" * 2049):
            self.assertEqual(self.fields(lines_from_json, [{"metric": name, "value": 1}]), ["samples[0]"])

    def test_a_long_name_is_in_its_line_whole(self) -> None:
        for name in ("a" * 256, "é" * 2048, f"cpu;host={'h' * 4000}"):
            self.assertEqual(
                lines_from_json([{"metric": name, "value": 1, "timestamp": 60}], None, NOW), [f"{name} 1.0 60"]
            )
            self.assertEqual(read_text(f"{name} 1 60".encode(), None, NOW), [f"{name} 1.0 60"])

    def test_bad_lines_are_named_by_their_number(self) -> None:
        self.assertEqual(self.fields(read_text, b"a 1 60\n\na x 60\na 1 60 5\na"), ["line 3", "line 4", "line 5"])

    def test_all_bad_samples_are_told_with_their_reasons(self) -> None:
        with self.assertRaises(RefusedSamples) as caught:
            read_text(b"a x 60\n" * 100 + b"a 1\n" + b"a\n", None, NOW)
        self.assertEqual(caught.exception.samples, [("value_not_a_number", "a x 60")] * 100 + [("field_count", "a")])
        bad = [7, {}, {"metric": "a", "value": "1"}, {"metric": "a b", "value": 1}, {"metric": "a", "unit": "s"}]
        bad += [{"metric": "a", "value": 1, "timestamp": "now"}, {"metric": "a", "value": 1, "timestamp": -5}]
        with self.assertRaises(RefusedSamples) as caught:
            lines_from_json([*bad * 10, {"metric": "a", "value": 1}], None, NOW)
        reasons = ["field_count", "name_characters", "value_not_a_number", "name_characters", "field_count"]
        reasons += ["timestamp_not_a_number", "timestamp_out_of_range"]
        self.assertEqual(caught.exception.samples, [*zip(reasons, map(json.dumps, bad), strict=True)] * 10)

    def test_no_sample_at_all_too_many_and_too_many_errors(self) -> None:
        self.assertEqual(self.fields(read_text, b"\n \n"), ["samples"])
        self.assertEqual(self.fields(read_text, b"1\n" * (MOST_SAMPLES + 1), "a"), ["samples"])
        self.assertEqual(len(self.fields(read_text, b"x\n" * 1000, "a")), MOST_ERRORS)
        self.assertEqual(self.fields(lines_from_json, {"value": 1}, "a"), ["samples"])
