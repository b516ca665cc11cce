# SPDX-License-Identifier: MIT
"""What siblings bring in a metric's first 288 rows: events found and false alarms, with and without them.

In: folders with fleets (`htmengine.measure.fleet`).  Each metric that has three siblings is taken as new in turn: it
begins with the first row after the warm-up, and its siblings know the seven days before it.  Out: of the events that
begin in its first 288 rows, how many a fixed threshold on the score (2.6) and the height of a page find, and false and
benign alarms.  A metric alarms once a day, from its 12th row on.

    python -m benchmarks.siblings /tmp/fleet1 /tmp/fleet2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.first_rows import first_rows
from benchmarks.young import alarms_of, young
from htmengine.adapters.datasource.custom import YOUNG_SAMPLES
from htmengine.adapters.datasource.siblings import KNOWN_DAYS, SIBLINGS, Kin
from htmengine.evidence import Detector
from htmengine.evidence.detector import Scored
from htmengine.evidence.scale import ALARM_SCORE
from htmengine.evidence.siblings import Siblings, hours_of
from htmengine.htm.params import SiblingParams
from htmengine.incidents.budget import FLOOR
from htmengine.measure.fleet import Fleet, FleetSeries, load_fleet, score_alarms, what

DAY_S = 86_400
HIGH: dict[str, Callable[[Scored], NDArray[np.bool_]]] = {
    f"score {ALARM_SCORE:g}": lambda scored: scored.scores >= ALARM_SCORE,
    f"height {FLOOR:g}": lambda scored: scored.heights >= FLOOR,
}


def shown(fleet: Fleet) -> dict[str, SiblingParams]:
    """What each metric that moves shows in the last days of the warm-up."""
    end = fleet.labels["warm_up_end"]
    known = [(each, (each.timestamps < end) & (each.timestamps >= end - KNOWN_DAYS * DAY_S)) for each in fleet.series]
    found = {
        each.name: hours_of(each.timestamps[rows], each.values[rows]) for each, rows in known if _moves(each, rows)
    }
    return {name: each for name, each in found.items() if each is not None}


def _moves(series: FleetSeries, rows: NDArray[np.bool_]) -> bool:
    return bool(np.ptp(series.values[rows]) > 0.0)


def with_siblings(fleet: Fleet) -> dict[str, list[SiblingParams]]:
    """What the siblings show of the metrics that have enough, as an engine chooses them."""
    known = shown(fleet)
    kin = Kin()
    kin.learn(known)
    found = {}
    for name in (each.name for each in fleet.series):
        others = kin.most_like(name)
        if len(others) >= SIBLINGS:
            found[name] = [known[other] for other in others[:SIBLINGS]]
    return found


def scored(series: FleetSeries, siblings: Sequence[SiblingParams]) -> Scored:
    """The first rows as an engine scores them."""
    detector = Detector(siblings=Siblings(siblings) if siblings else None)
    return detector.update_many(series.timestamps, series.values, np.zeros(len(series.values)))


def counted(fleet: Fleet, high: Sequence[NDArray[np.bool_]]) -> Counter[str]:
    """Events of the fleet's metrics that begin in their first rows, those that are found, and alarms."""
    pairs = zip(fleet.series, high, strict=True)
    alarms = [alarm for each, rows in pairs for alarm in alarms_of(each, rows, YOUNG_SAMPLES)]
    result = score_alarms(fleet, alarms)
    names, end = {each.name for each in fleet.series}, max(int(each.timestamps[-1]) for each in fleet.series)
    touched = {each["id"] for each in fleet.labels["incidents"] if names & {*each["metrics"]}}
    counts = Counter(what(fleet.labels, alarm)[0] for alarm in alarms)
    for key, event in result.events.items():
        if event.first <= end and (event.metric in names or key in touched):
            counts["events"] += 1
            counts["found"] += key in result.hits
    return counts


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Events found in the first rows of metrics that have siblings, and false alarms."""
    sums = {(kind, asks): Counter[str]() for asks in (False, True) for kind in HIGH}
    for fleet in map(load_fleet, folders):
        siblings = with_siblings(fleet)
        begun = first_rows(young(fleet))
        new = Fleet(fleet.labels, [each for each in begun.series if each.name in siblings])
        for (kind, asks), counts in sums.items():
            rows = [HIGH[kind](scored(each, siblings[each.name] if asks else ())) for each in new.series]
            counts.update(counted(new, rows))
            counts["metrics"] += len(new.series)
    for (kind, asks), counts in sums.items():
        rates = ", ".join(f"{counts[each] / counts['metrics']:.3f} {each}" for each in ("false", "benign"))
        found = f"{counts['found']:4} of {counts['events']:3} found"
        click.echo(f"{'with' if asks else 'without':7} siblings {kind:10} {found}, {rates} a metric")


if __name__ == "__main__":
    main()
