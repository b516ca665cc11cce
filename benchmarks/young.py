# SPDX-License-Identifier: MIT
"""What is known of a metric in its first day, week and month: events found and false alarms by its age.

In: folders with fleets (`htmengine.measure.fleet`), whose metrics begin here with the first row after the warm-up: so
faults come from their first day on.  Out: by age, the events that begin then and how many of them a fixed threshold on
the score (2.6) and the height of a page reach, and false and benign alarms a metric-week; a metric alarms once a day.
No rule with a budget pages before a metric is 14 days old.

    python -m benchmarks.young /tmp/fleet1 /tmp/fleet2 --jobs 2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet import Scores, score_fleet
from htmengine.evidence.scale import ALARM_SCORE
from htmengine.incidents.budget import FLOOR, WEEK_S
from htmengine.measure.fleet import Alarmed, Fleet, FleetSeries, load_fleet, score_alarms, what

DAY_S = 86_400
#: Ends of ages, in days.
AGES = {"day 1": 1, "days 2 to 7": 7, "days 8 to 14": 14, "days 15 to 28": 28}


def young(fleet: Fleet) -> Fleet:
    """The same metrics, which begin after the warm-up."""
    first = fleet.labels["warm_up_end"]
    return Fleet(fleet.labels, [_after(each, first) for each in fleet.series])


def _after(series: FleetSeries, first: int) -> FleetSeries:
    kept = series.timestamps >= first
    return FleetSeries(series.name, series.timestamps[kept], series.values[kept])


def alarms_of(series: FleetSeries, high: NDArray[np.bool_], first_scores: int = 1) -> Iterator[Alarmed]:
    """One alarm a day; those of rows before the one with which the first scores come, with it."""
    last = -DAY_S
    rows = np.maximum(np.flatnonzero(high), first_scores - 1)
    for at in series.timestamps[rows].tolist():
        if at - last >= DAY_S:
            last = at
            yield Alarmed(series.name, at)


def by_age(fleet: Fleet, scores: Sequence[Scores], *, height: bool) -> Counter[tuple[str, str]]:
    """(age, what): events that begin at that age, those of them that are found, and alarms."""
    pairs = zip(fleet.series, scores, strict=True)
    high = [(each, s.heights >= FLOOR if height else s.scores >= ALARM_SCORE) for each, s in pairs]
    alarms = [alarm for each, rows in high for alarm in alarms_of(each, rows)]
    found = score_alarms(fleet, alarms)
    counts = Counter((_age(fleet, event.first), "events") for event in found.events.values())
    counts.update((_age(fleet, found.events[event].first), "found") for event in found.hits)
    counts.update((_age(fleet, alarm.timestamp), what(fleet.labels, alarm)[0]) for alarm in alarms)
    return counts


def _age(fleet: Fleet, at: int) -> str:
    days = (at - fleet.labels["warm_up_end"]) / DAY_S
    return next((age for age, end in AGES.items() if days < end), "later")


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
def main(folders: tuple[Path, ...], jobs: int) -> None:
    """Events found and false alarms by the age of the metrics."""
    found = {False: Counter[tuple[str, str]](), True: Counter[tuple[str, str]]()}
    metrics = 0
    for folder in folders:
        fleet = young(load_fleet(folder))
        metrics += len(fleet.series)
        scores = score_fleet(fleet, folder, jobs)
        for height, counts in found.items():
            counts.update(by_age(fleet, scores, height=height))
    begin = 0
    for age, end in AGES.items():
        weeks = metrics * (end - begin) * DAY_S / WEEK_S
        begin = end
        for height, counts in found.items():
            rates = ", ".join(f"{counts[age, kind] / weeks:.2f} {kind}" for kind in ("false", "benign"))
            title = f"height {FLOOR:g}" if height else f"score {ALARM_SCORE:g}"
            click.echo(f"{age:14} {title:10} {counts[age, 'found']:4} of {counts[age, 'events']:3} found, {rates}")


if __name__ == "__main__":
    main()
