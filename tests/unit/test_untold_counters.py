# SPDX-License-Identifier: MIT
"""Counters that nobody has told are found by their rows, and told with what to do."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.labels import identity
from htmengine.repository import counters, queries
from htmengine.repository.counters import LastCount
from htmengine.repository.queries import MetricStatus
from htmengine.runtime import untold_counters
from htmengine.runtime.untold_counters import LOOK_S, UntoldCounters
from htmengine.selectors import separated
from htmengine.wires.counters import SaidCounters
from tests.support.database import InlineDatabase, new_database

START = 1_400_000_000


class UntoldCountersTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.database = new_database(self)
        self.clock = Clock()

    def store(self, name: str, value: Callable[[int], float], rows: int = 310, step_s: int = 300) -> str:
        """A metric with a model and these rows."""
        uid = self.database.run_sync(custom.create_metric, ModelSpec.for_name(name)).uid
        samples = [(uid, n, START + step_s * n, value(n)) for n in range(1, rows + 1)]
        self.database.run_sync(queries.insert_samples, samples)
        self.database.run_sync(queries.update_tails, [(uid, rows, samples[-1][2])])
        self.database.run_sync(queries.set_status, uid, MetricStatus.ACTIVE, None)
        return uid

    def told(self, *said: str) -> list[str]:
        inline: Any = InlineDatabase(self.database)
        self.looks = UntoldCounters(database=inline, said=SaidCounters(said), clock=self.clock)
        return self.successResultOf(self.looks.look())

    def names(self, *said: str) -> list[str]:
        return [each.partition(" ")[0] for each in self.told(*said)]

    def test_what_only_rises_for_a_day_is_told_with_what_to_write(self) -> None:
        self.store("net.rx", lambda n: 1e6 + 7.0 * n)
        [told] = self.told()
        self.assertIn("counters = net.rx in section [admission]", told)
        self.assertIn("!net.rx says that it is none", told)

    def test_the_command_is_of_this_metric_in_a_shell_too(self) -> None:
        for name in ("net.rx;dir=in", "!net.rx", "net.*", "it's"):
            self.store(name, float)
        commands = [told.split("`")[1] for told in self.told()]
        self.assertEqual(
            {tuple(shlex.split(command, posix=True)) for command in commands},
            {("htmengine", "delete", name) for name in ("net.rx;dir=in", "!net.rx", "net.*", "it's")},
        )
        self.assertIn("htmengine delete 'net.rx;dir=in'", commands)

    def test_a_counter_that_starts_again_is_one(self) -> None:
        self.store("net.rx", lambda n: 7.0 * (n % 200))
        self.assertEqual(self.names(), ["net.rx"])

    def test_rows_of_a_short_interval_are_looked_at_over_a_day(self) -> None:
        self.store("short", float, rows=1000, step_s=60)
        self.store("day", float, rows=1600, step_s=60)
        self.assertEqual(self.names(), ["day"])

    def test_what_falls_within_a_day_stands_still_or_is_negative_is_none(self) -> None:
        self.store("wave", lambda n: 50 + 10 * math.sin(n / 50))
        self.store("noise", lambda n: float(n + 5 * (n % 3)))
        self.store("still", lambda n: float(n // 3))
        self.store("below", lambda n: -1.0 * n)
        self.assertEqual(self.names(), [])

    def test_those_that_are_counters_or_are_said_to_be_none_are_not_told(self) -> None:
        uid = self.store("net.rx", float)
        self.store("clock.now", float)
        self.store("net.tx", float)
        self.database.run_sync(counters.save_counts, {uid: LastCount(1.0, 2.0, 0.0)})
        self.assertEqual(self.names("!clock.*"), ["net.tx"])
        self.assertEqual(self.names("net.tx", "!clock.*"), [])

    def test_what_is_told_to_be_written_takes_the_metric_whatever_its_name(self) -> None:
        long = f"net.rx;dc=a;host={'h' * 4000}"
        for text in (long, 'a[b].{c},d*e;k="v"', "!a", "#a,!b", "net.rx;path=/a%20b%2Cc"):
            uid = self.store(identity(text), float)
            if text != identity(text):
                self.database.run_sync(counters.add_texts, {uid: text})
            [told] = self.told()
            [selector] = re.findall(r"with counters = (.*) in section", told)
            said = SaidCounters(separated(selector))
            self.assertEqual((said.says(text), said.says("net.rx;dc=a;host=b")), (True, None))
            self.assertEqual(self.names(*separated(f"!{selector}")), [])
            self.database.run_sync(queries.delete_metric, uid)

    def test_many_are_counted(self) -> None:
        self.patch(untold_counters, "NAMED", 2)
        self.patch(counters, "METRICS_AT_ONCE", 2)
        for name in "abcde":
            self.store(name, float)
        self.assertEqual((self.names()[:2], self.told()[2:]), (["a", "b"], ["3 metrics more look like counters"]))

    def test_it_looks_now_and_then(self) -> None:
        self.assertEqual(self.told(), [])
        self.store("net.rx", float)
        self.assertEqual(self.successResultOf(self.looks.look()), [])
        self.clock.advance(LOOK_S)
        self.assertEqual(len(self.successResultOf(self.looks.look())), 1)
