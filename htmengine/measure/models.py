# SPDX-License-Identifier: MIT
"""A trained model and the rows that follow, for benchmarks that need many models: each gets a copy.

The metric is the packaged one, 22,695 temperatures of a machine, five minutes apart; its rows repeat when they run
out, later by as much as they span.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Self

from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams, range_of
from htmengine.messages import InputRow
from htmengine.nab.runner import LabelledSeries, load_series

_FILE = "machine_temperature_system_failure.csv"

#: Rows that a young and a mature model have learnt: a day, and two and a half weeks at five minutes.
YOUNG_ROWS = 300
MATURE_ROWS = 5_000


@dataclass(frozen=True)
class Template:
    """A model after the row ``rowid``, and its metric."""

    model: bytes
    rowid: int
    memory_bytes: int
    series: LabelledSeries

    @classmethod
    def trained(cls, rows: int) -> Self:
        """A model that has learnt that many rows."""
        with resources.as_file(resources.files("htmengine") / "data" / _FILE) as path:
            series = load_series(path.name, path, [])
        model = Model(ModelParams.for_range(*range_of(series.values)))
        model.learn_many(series.timestamps[:rows], series.values[:rows])
        return cls(model.save(), rows, model.memory_bytes, series)

    def row(self, rowid: int) -> InputRow:
        """The row with that number, from 1."""
        repeats, place = divmod(rowid - 1, len(self.series.values))
        return InputRow(
            rowid,
            int(self.series.timestamps[place]) + repeats * self._span_s,
            float(self.series.values[place]),
        )

    @cached_property
    def _span_s(self) -> int:
        first, last = self.series.timestamps[0], self.series.timestamps[-1]
        return int(last - first) + 300
