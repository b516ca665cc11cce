# SPDX-License-Identifier: MIT
"""Graphite's target expressions, and the functions that they name."""

from __future__ import annotations

from typing import Any
from unittest import TestCase

from htmengine.web.graphite.functions import FUNCTIONS, describe, function_named
from htmengine.web.graphite.series import Range, Series, aligned
from htmengine.web.graphite.signatures import Context
from htmengine.web.graphite.targets import FunctionCall, Path, parse_target
from htmengine.web.refused import Refused

WANTED = Range(0, 600, 100)


class ParserTest(TestCase):
    def test_paths(self) -> None:
        for text in ("a", "a.b-c.*", "a.{b,c}.d", "a.[bc]?", "2xx.rate", "a.b:c", "ünï.x", "1.2.3"):
            self.assertEqual(parse_target(text), Path(text))

    def test_arguments(self) -> None:
        call = parse_target("""f( a.{b,c} , 1,-2.5, 1e3, "x, (y)", 'it\\'s', true , False, None, g(b))""")
        inner = FunctionCall("g", (Path("b"),), (), "g(b)")
        self.assertEqual(
            call.arguments,
            (Path("a.{b,c}"), 1, -2.5, 1000.0, "x, (y)", "it's", True, False, None, inner),
        )

    def test_keywords_come_last(self) -> None:
        self.assertEqual(parse_target("f(a, n=5)").keywords, (("n", 5),))
        with self.assertRaises(Refused):
            parse_target("f(n=5, a)")

    def test_what_is_wrong_is_shown_with_its_place(self) -> None:
        for text, place in (
            ("f(a", "character 4"),
            ("f(a,)", "character 5"),
            ("f(a))", "character 5"),
            ("f(a) b", "character 6"),
            ("f('a)", "character 3"),
            ("", "character 1"),
            ("5", "neither a path"),
        ):
            with self.assertRaises(Refused) as caught:
                parse_target(text)
            self.assertIn(place, str(caught.exception))

    def test_numbers_are_bounded(self) -> None:
        for number in ("9" * 400, "9" * 5000, "1e400", "-1e400", "0" * 5000):
            with self.assertRaises(Refused) as caught:
                parse_target(f"highestMax(a,{number})")
            self.assertIn("number", str(caught.exception))

    def test_pipes_are_calls(self) -> None:
        piped = parse_target("a.b | scale(2)|alias('x')")
        assert isinstance(piped, FunctionCall)
        [inner, name] = piped.arguments
        assert isinstance(inner, FunctionCall)
        self.assertEqual(
            (piped.function, name, inner.function, inner.arguments), ("alias", "x", "scale", (Path("a.b"), 2))
        )
        for text in ("a|", "a|b", "a" + "|scale(1)" * 30):
            with self.assertRaises(Refused):
                parse_target(text)

    def test_a_backslash_stands_before_what_would_end_a_path(self) -> None:
        self.assertEqual(parse_target(r"a.web\(4\).x"), Path(r"a.web\(4\).x"))

    def test_depth_and_length_are_bounded(self) -> None:
        for text in ("f(" * 30 + "a" + ")" * 30, "a" * 9000):
            with self.assertRaises(Refused):
                parse_target(text)


class FunctionsTest(TestCase):
    def series(self, name: str, *values: float | None, start: int = 0, step: int = 60) -> Series:
        return Series(name, name, start, step, values)

    def run_function(self, name: str, *arguments: Any, **keywords: Any) -> list[Series]:
        def again(_: Range) -> list[Series]:
            return []

        return function_named(name)(Context(WANTED, "text", again), list(arguments), keywords)

    def test_combinations_leave_out_what_is_not_there(self) -> None:
        both = [self.series("a", 1.0, None, None), self.series("b", 2.0, 4.0, None)]
        for name, values in (("sumSeries", [3.0, 4.0]), ("avg", [1.5, 4.0]), ("maxSeries", [2.0, 4.0])):
            [combined] = self.run_function(name, both)
            self.assertEqual(combined.values, [*values, None])
        self.assertEqual(self.run_function("sum", []), [])

    def test_a_sum_beyond_all_numbers_is_nothing(self) -> None:
        huge = [self.series("a", 1.7e308), self.series("b", 1.7e308)]
        self.assertEqual(self.run_function("scale", [huge[0]], 10)[0].values, [None])
        self.assertEqual(self.run_function("avg", [self.series("a", 2.0)])[0].values, [2.0])

    def test_series_of_other_steps_are_brought_together(self) -> None:
        fine = self.series("fine", *[float(n) for n in range(10)], start=60, step=60)
        coarse = self.series("coarse", 1.0, 2.0, start=0, step=300)
        stretched = aligned([fine, coarse])
        self.assertEqual([(each.start, each.step, len(each.values)) for each in stretched], [(0, 300, 3)] * 2)
        self.assertEqual(stretched[0].values, [1.5, 6.0, 9.0])
        self.assertEqual(stretched[1].values, [1.0, 2.0, None])

    def test_the_greatest_first(self) -> None:
        series = [self.series("low", 1.0, 2.0), self.series("none", None), self.series("high", 0.0, 9.0)]
        self.assertEqual([each.name for each in self.run_function("highestMax", series, n=2)], ["high", "low"])
        self.assertEqual([each.name for each in self.run_function("highestMax", series)], ["high"])
        self.assertEqual(self.run_function("highestMax", series, -1), [])

    def test_names(self) -> None:
        series = [self.series("a.b.c", 1.0)]
        self.assertEqual(self.run_function("aliasByNode", series, 0, -1, 7)[0].name, "a.c.")
        self.assertEqual(self.run_function("aliasSub", series, r"(\w)$", r"<\1>")[0].name, "a.b.<c>")
        self.assertEqual(self.run_function("aliasByNode", self.run_function("alias", series, "x.y"), 1)[0].name, "y")

    def test_a_search_takes_time_in_proportion_to_the_name(self) -> None:
        long = [self.series("a" * 200, 1.0)]
        for search in ("(a+)+b", "(a|a)*b", ".*.*.*.*b", "(aa|aa)" * 60 + "b", "(a?){100}a{100}b"):
            self.assertEqual(self.run_function("aliasSub", long, search, "")[0].name, "a" * 200)

    def test_a_search_that_is_none_of_re2_is_refused(self) -> None:
        for search, replacement in (
            ("(", ""),
            ("a" * 1001, ""),
            ("(?=a)", ""),
            (r"(a)\1", ""),
            ("a", r"\9"),
            ("x{1001}", ""),
        ):
            with self.assertRaises(Refused) as caught:
                self.run_function("aliasSub", [self.series("a", 1.0)], search, replacement)
            self.assertIn("aliasSub", str(caught.exception))

    def test_a_replacement_keeps_names_short(self) -> None:
        with self.assertRaises(Refused) as caught:
            self.run_function("aliasSub", [self.series("a" * 200, 1.0)], "", "x" * 500)
        self.assertIn("8000", str(caught.exception))

    def test_a_replacement_takes_groups_and_backslashes(self) -> None:
        series = [self.series("web1.cpu", 1.0)]
        for replacement, name in (
            (r"\1", "1.cpu"),
            (r"<\g<1>>", "<1>.cpu"),
            (r"\\1", r"\1.cpu"),
            (r"\q", r"\q.cpu"),
            (r"\0x", "web1x.cpu"),
        ):
            self.assertEqual(self.run_function("aliasSub", series, r"web(\d)(x)?", replacement)[0].name, name)

    def test_windows_and_intervals_are_bounded(self) -> None:
        series = [self.series("a", *[1.0] * 1000, step=1)]
        for name, arguments in (
            ("summarize", ("1x",)),
            ("summarize", ("0min",)),
            ("stdev", (10**12,)),
            ("stdev", (0,)),
            ("movingAverage", ("9999999y",)),
            ("movingAverage", (10**30,)),
            ("timeShift", ("900y",)),
            ("timeShift", ("+9999y",)),
        ):
            with self.assertRaises(Refused, msg=name):
                self.run_function(name, series, *arguments)

    def test_wrong_arguments_are_named(self) -> None:
        series = [self.series("a", 1.0)]
        for arguments, word in (
            ((), "seriesList"),
            ((series,), "factor"),
            ((series, "2"), "number"),
            ((series, True), "number"),
            ((series, float("inf")), "finite"),
            ((5, 5), "series"),
            ((series, 1, 2), "nothing else"),
        ):
            with self.assertRaises(Refused) as caught:
                self.run_function("scale", *arguments)
            self.assertIn(word, str(caught.exception))

    def test_every_function_is_described(self) -> None:
        described = describe()
        self.assertEqual(set(described), set(FUNCTIONS))
        for each in described.values():
            self.assertTrue(each["description"] and each["group"] and each["params"])
        aliases = {"alias", "aliasByMetric", "aliasByNode", "aliasByTags", "aliasSub", "substr"}
        self.assertEqual(set(describe("Alias")), aliases)
