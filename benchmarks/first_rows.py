# SPDX-License-Identifier: MIT
"""What the scores of a metric's first 288 rows show, while its range is learnt: events found, and found in time.

In: folders with fleets (`htmengine.measure.fleet`), whose metrics begin here with the first row after the warm-up.
Out: of the events that begin in those rows, how many a fixed threshold on the score (2.6) and the height of a page find
if the first scores come with the 12th row, and if all come with the 288th; and false and benign alarms a metric.  A
metric alarms once a day.  An alarm that comes later than an hour after its event finds nothing.

The evidence does not look at the model in these rows, so none runs.

    python -m benchmarks.first_rows /tmp/fleet1 /tmp/fleet2
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.young import alarms_of, young
from htmengine.adapters.datasource.custom import YOUNG_SAMPLES
from htmengine.evidence import Detector
from htmengine.evidence.scale import ALARM_SCORE
from htmengine.incidents.budget import FLOOR
from htmengine.measure.fleet import Fleet, FleetSeries, load_fleet, score_alarms, what
from htmengine.offline.scores import PENDING_SAMPLES


def first_rows(fleet: Fleet) -> Fleet:
    """The same metrics, as far as their range is learnt."""
    series = [FleetSeries(s.name, s.timestamps[:PENDING_SAMPLES], s.values[:PENDING_SAMPLES]) for s in fleet.series]
    return Fleet(fleet.labels, series)


def high_rows(series: FleetSeries) -> dict[str, NDArray[np.bool_]]:
    """Which rows reach the threshold, and the height of a page."""
    found = Detector().update_many(series.timestamps, series.values, np.zeros(len(series.values)))
    return {f"score {ALARM_SCORE:g}": found.scores >= ALARM_SCORE, f"height {FLOOR:g}": found.heights >= FLOOR}


def counted(fleet: Fleet, first_scores: int) -> dict[str, Counter[str]]:
    """Events, those that are found, and alarms, by what raises an alarm."""
    high = [high_rows(each) for each in fleet.series]
    return {kind: _counted(fleet, [each[kind] for each in high], first_scores) for kind in high[0]}


def _counted(fleet: Fleet, high: list[NDArray[np.bool_]], first_scores: int) -> Counter[str]:
    pairs = zip(fleet.series, high, strict=True)
    alarms = [alarm for series, rows in pairs for alarm in alarms_of(series, rows, first_scores)]
    found = score_alarms(fleet, alarms)
    end = max(int(each.timestamps[-1]) for each in fleet.series)
    counts = Counter(what(fleet.labels, alarm)[0] for alarm in alarms)
    counts["events"] = sum(event.first <= end for event in found.events.values())
    counts["found"] = sum(found.events[event].first <= end for event in found.hits)
    return counts


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Events found in the first rows of metrics, and false alarms."""
    fleets = [first_rows(young(load_fleet(folder))) for folder in folders]
    metrics = sum(len(fleet.series) for fleet in fleets)
    for first in (YOUNG_SAMPLES, PENDING_SAMPLES):
        sums: dict[str, Counter[str]] = {}
        for fleet in fleets:
            for kind, counts in counted(fleet, first).items():
                sums.setdefault(kind, Counter()).update(counts)
        for kind, counts in sums.items():
            rates = ", ".join(f"{counts[each] / metrics:.3f} {each}" for each in ("false", "benign"))
            click.echo(f"from row {first:3} {kind:10} {counts['found']:4} of {counts['events']:3} found, {rates}")


if __name__ == "__main__":
    main()
