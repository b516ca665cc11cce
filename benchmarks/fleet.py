# SPDX-License-Identifier: MIT
"""Pages and incidents of a whole fleet: the engine's own code on a fleet of metrics with labelled faults.

In: a folder with a CSV per metric and labels.json (`htmengine.measure.fleet`).  Out: a table of what people would be
told by the engine with a budget, and in the same run by

- the rule of before: the likelihood with the range rule >= 0.99999, an hour's cool-down for each metric;
- the score at a fixed threshold: anomaly_score >= 0.99999, the same cool-down;
- a Gaussian of each metric's last 7 days, and a forecast by the value of a day ago, one alarm a metric a day: their
  thresholds are chosen by hindsight, so that they page as often as the budget allows.

Raw scores are kept beside the series (``.raw``), so that the policy can be run again in seconds.  A counter is sent as
one: all detectors get rates.  No metric pages in the fleet's warm-up.

    python benchmarks/fleet.py /tmp/fleet --budget 0.5 --alarms alarms.csv --groups groups.csv
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from htmengine.evidence import AnomalyLikelihood
from htmengine.evidence.explaining import LEAST_HEIGHT
from htmengine.evidence.kinds import KINDS, Side, reasons
from htmengine.evidence.scale import ALARM_SCORE
from htmengine.evidence.scoring import detector_for
from htmengine.htm.model import Model
from htmengine.htm.params import ModelParams
from htmengine.incidents.budget import FLOOR, WEEK_S, Budget
from htmengine.incidents.grouping import Alarm
from htmengine.incidents.replay import Replay, Replayed, Row, Story
from htmengine.incidents.roots import AROUND_S, LASTING_ROWS, LEADING_HEIGHT, beside, lasting, ranked
from htmengine.measure.fleet import (
    Alarmed,
    Fleet,
    FleetScore,
    FleetSeries,
    GroupScore,
    load_fleet,
    score_alarms,
    score_groups,
)
from htmengine.measure.pictures import examples, page

Floats: TypeAlias = NDArray[np.float64]

RANGE_ROWS = 288
HOUR_S, DAY_S = 3600, 86_400
#: A row of this score is listed, whatever its height: the default of [anomaly_likelihood] anomaly_floor.
LISTED_SCORE = 0.99
#: A score of this likelihood was an alarm.
OLD_RULE = 0.99999


class Scores(NamedTuple):
    """n rows of a metric: heights P, scores S, likelihoods; evidence and sides of each kind; its step in seconds."""

    heights: Floats
    scores: Floats
    likelihoods: Floats
    evidence: Floats
    sides: NDArray[np.uint8]
    step: float


def raw_scores(series: FleetSeries, params: ModelParams, folder: Path) -> Floats:
    """The model's raw scores, from the folder if they were computed before."""
    key = hashlib.sha256(series.timestamps.tobytes() + series.values.tobytes() + repr(params).encode()).hexdigest()[:16]
    path = folder / ".raw" / f"{series.name}-{key}.npy"
    if path.exists():
        kept: Floats = np.load(path)
        return kept
    raw = Model(params).learn_many(series.timestamps, series.values)
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".new.npy")
    np.save(unfinished, raw)
    unfinished.replace(path)
    return raw


def score_series(series: FleetSeries, folder: Path) -> Scores:
    """All rows of one metric scored, as by an engine that is not told the range."""
    params = ModelParams.for_sample(series.values[:RANGE_ROWS].tolist())
    raw = raw_scores(series, params, folder)
    detector = detector_for(params)
    found = detector.update_many(series.timestamps, series.values, raw)
    likelihood = AnomalyLikelihood(active_columns=params.spatial.active_columns)
    old = np.array([likelihood.score(*row) for row in zip(series.values.tolist(), raw.tolist(), strict=True)])
    return Scores(found.heights, found.scores, old, found.evidence, found.sides, detector.step)


def score_fleet(fleet: Fleet, folder: Path, jobs: int) -> list[Scores]:
    """Every metric scored, in ``jobs`` processes."""
    scores: dict[str, Scores] = {}
    # spawn: a fork of a process that has threads may hang
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(score_series, each, folder): each.name for each in fleet.series}
        for future in tqdm(as_completed(waiting), total=len(waiting), unit="metric", leave=False):
            scores[waiting[future]] = future.result()
    return [scores[each.name] for each in fleet.series]


@dataclass(frozen=True, slots=True)
class Detected:
    """What a detector tells people: alarms, and how they belong together, the suspected root first."""

    title: str
    alarms: list[Alarmed]
    groups: list[list[Alarmed]]
    notes: dict[str, float]


# --- the engine -------------------------------------------------------------------------------------------


def engine(fleet: Fleet, scores: Sequence[Scores], budget: float) -> Detected:
    """The engine with a budget for the whole fleet, in pages a metric-week."""
    rule = Budget(budget * len(fleet.series))
    names = [each.name for each in fleet.series]
    replay = Replay("all", rule, names, fleet.step, fleet.learning_s, partial(told, scores))
    for row in tqdm(rows_in_order(fleet, scores), total=sum(len(each.values) for each in fleet.series), leave=False):
        replay.take(row)
    found = replay.finish()
    groups = [
        [Alarmed(each.metric, each.timestamp) for each in suspects(fleet, scores, story)] for story in found.pages
    ]
    alarms = [
        Alarmed(each.metric, each.timestamp) for story in found.pages for each in story.alarms[story.paged_with :]
    ]
    return Detected("engine", sorted(alarms, key=lambda each: each.timestamp), groups, notes(fleet, rule, found))


def suspects(fleet: Fleet, scores: Sequence[Scores], story: Story) -> list[Alarm]:
    """The likeliest root of an incident first, as `htmengine.incidents.suspects` finds it in the database."""
    members = {each.metric for each in story.alarms}
    moved = [
        found
        for place, (series, of) in enumerate(zip(fleet.series, scores, strict=True))
        if series.name not in members and (found := moved_beside(place, series, of, story.incident.timestamp))
    ]
    return ranked([*story.alarms, *beside(story.alarms, moved)])


def moved_beside(place: int, series: FleetSeries, of: Scores, began_at: int) -> Alarm | None:
    """A metric that moved when an incident began, by its rows that an engine lists."""
    first, end = np.searchsorted(series.timestamps, (began_at - AROUND_S, began_at + AROUND_S + 1)).tolist()
    listed = (of.heights >= LEADING_HEIGHT) & ((of.scores >= LISTED_SCORE) | (of.heights >= LEAST_HEIGHT))
    near = np.flatnonzero(listed[max(first - 1, 0) : end + LASTING_ROWS]) + max(first - 1, 0)
    rows = [Row(place, row + 1, int(series.timestamps[row]), float(of.heights[row])) for row in near.tolist()]
    run = lasting(rows, began_at)
    if not run:
        return None
    highest = max(run, key=lambda row: row.height)
    about = (str(place), series.name, highest.rowid, highest.timestamp, highest.height)
    return Alarm(*about, "", "", since=run[0].timestamp)


def rows_in_order(fleet: Fleet, scores: Sequence[Scores]) -> Iterator[Row]:
    """All metrics' rows in the order of time."""
    times = np.concatenate([each.timestamps for each in fleet.series])
    places = np.concatenate([np.full(len(each.values), place) for place, each in enumerate(fleet.series)])
    rowids = np.concatenate([np.arange(1, len(each.values) + 1) for each in fleet.series])
    heights = np.concatenate([each.heights for each in scores])
    order = np.lexsort((places, times))
    columns = (column[order].tolist() for column in (places, rowids, times, heights))
    yield from (Row(*row) for row in zip(*columns, strict=True))


def told(scores: Sequence[Scores], row: Row) -> tuple[str, str | None, str]:
    """The loudest kind of an alarm's row, its direction, and what it says."""
    of = scores[row.place]
    sides = [Side(side) for side in of.sides[row.rowid - 1].tolist()]
    spoken = reasons(of.evidence[row.rowid - 1].tolist(), sides, of.step, row.rowid)
    if not spoken:
        return "", None, ""
    kind, _, text = spoken[0]
    return kind.name, sides[KINDS.index(kind)].direction, text


def notes(fleet: Fleet, budget: Budget, found: Replayed) -> dict[str, float]:
    """Pages by the incident, those held back, and the worst four weeks as a share of the budget's."""
    times = sorted(story.paged_at for story in found.pages if story.paged_at is not None)
    most = max((sum(begin <= time < begin + 4 * WEEK_S for time in times) for begin in times), default=0)
    return {
        "incidents_paged": len(times) / fleet.weeks,
        "incidents_held_back": (len(found.stories) - len(times)) / fleet.weeks,
        "most_in_four_weeks": most / (4 * budget.pages_per_week),
    }


# --- what it is compared with -------------------------------------------------------------------------------


def cooled_down(fleet: Fleet, scores: Sequence[Floats], threshold: float, cooldown_s: int) -> list[Alarmed]:
    """Alarms of rows that reach the threshold, one a metric in a cool-down."""
    alarms = []
    for series, of in zip(fleet.series, scores, strict=True):
        last = -cooldown_s
        for timestamp in series.timestamps[of >= threshold].tolist():
            if timestamp - last >= cooldown_s:
                last = timestamp
                alarms.append(Alarmed(series.name, timestamp))
    return sorted(alarms, key=lambda alarm: alarm.timestamp)


def grouped(alarms: Iterable[Alarmed], join_s: int = 900) -> list[list[Alarmed]]:
    """Alarms near in time, who moved first before the others."""
    groups: list[list[Alarmed]] = []
    for alarm in alarms:
        if not groups or alarm.timestamp - groups[-1][-1].timestamp > join_s:
            groups.append([])
        groups[-1].append(alarm)
    return groups


def by_threshold(
    title: str, fleet: Fleet, scores: Sequence[Floats], threshold: float, cooldown_s: int = HOUR_S
) -> Detected:
    """A detector with a fixed threshold."""
    alarms = cooled_down(fleet, scores, threshold, cooldown_s)
    return Detected(title, alarms, grouped(alarms), {"threshold": threshold})


def by_hindsight(title: str, fleet: Fleet, scores: Sequence[Floats], budget: float) -> Detected:
    """A detector with the lowest threshold at which it keeps to the budget after the warm-up."""
    end = fleet.labels["warm_up_end"]
    low, high = 1.0, 1e6
    for _ in range(40):
        middle = (low * high) ** 0.5
        pages = sum(alarm.timestamp >= end for alarm in cooled_down(fleet, scores, middle, DAY_S))
        low, high = (low, middle) if pages <= budget * fleet.weeks else (middle, high)
    return by_threshold(title, fleet, scores, high, DAY_S)


def windowed_gaussian(series: FleetSeries, days: int = 7) -> Floats:
    """Distance from the mean of the last days' rows, in their standard deviations; 0 for the first day."""
    rows = days * DAY_S // step_of(series)
    centred = series.values - np.median(series.values[:RANGE_ROWS])
    sums, squares = (np.concatenate(([0.0], np.cumsum(column))) for column in (centred, centred**2))
    here = np.arange(len(centred))
    first = np.maximum(here - rows, 0)
    count = np.maximum(here - first, 1)
    mean = (sums[here] - sums[first]) / count
    variance = np.maximum((squares[here] - squares[first]) / count - mean**2, 0.0)
    return known(np.abs(centred - mean), np.sqrt(variance), here >= DAY_S // step_of(series))


def seasonal_naive(series: FleetSeries, days: int = 7) -> Floats:
    """Distance from the value of a day ago, in median distances of the days before; 0 for the first two days.

    Where most distances are 0, it is their standard deviation that counts.
    """
    places = np.searchsorted(series.timestamps, series.timestamps - DAY_S)
    hit = series.timestamps[places] == series.timestamps - DAY_S
    distances = np.where(hit, np.abs(series.values - series.values[places]), 0.0)
    day = (series.timestamps - series.timestamps[0]) // DAY_S
    scales = np.zeros(len(distances))
    for number in range(2, int(day[-1]) + 1):
        before = distances[(day >= max(number - days, 1)) & (day < number) & hit]
        scales[day == number] = 1.4826 * np.median(before) or before.std() if len(before) else 0.0
    return known(distances, scales, day >= 2)


def step_of(series: FleetSeries) -> int:
    """Seconds between rows."""
    return int(np.median(np.diff(series.timestamps)))


def known(distances: Floats, scales: Floats, where: NDArray[np.bool_]) -> Floats:
    """Distances in scales; a scale is a tenth of the usual distance at least, so that constants can be judged."""
    usual = float(np.mean(distances)) or 1.0
    return np.where(where, distances / np.maximum(scales, usual / 10), 0.0)


# --- the result ---------------------------------------------------------------------------------------------


def detectors(fleet: Fleet, scores: Sequence[Scores], budget: float) -> Iterator[Detected]:
    """The engine and what it is compared with."""
    yield engine(fleet, scores, budget)
    yield by_threshold("likelihood, fixed", fleet, [each.likelihoods for each in scores], OLD_RULE)
    yield by_threshold("score, fixed", fleet, [each.scores for each in scores], ALARM_SCORE)
    baselines: tuple[tuple[str, Callable[[FleetSeries], Floats]], ...]
    baselines = (("windowed Gaussian", windowed_gaussian), ("seasonal naive", seasonal_naive))
    for title, method in baselines:
        yield by_hindsight(title, fleet, [method(each) for each in fleet.series], budget)


class Result(NamedTuple):
    """A detector and how good it is."""

    detected: Detected
    score: FleetScore
    groups: GroupScore

    def as_json(self) -> dict[str, Any]:
        """All figures as plain data."""
        return {**self.score.as_json(), **self.detected.notes, "grouping": asdict(self.groups)}


def measure(fleet: Fleet, scores: Sequence[Scores], budget: float) -> list[Result]:
    """All detectors' results."""
    return [
        Result(each, score_alarms(fleet, each.alarms), score_groups(fleet, each.groups))
        for each in detectors(fleet, scores, budget)
    ]


def as_text(fleet: Fleet, results: Sequence[Result]) -> str:
    """The results as a table: rates of a metric-week, then events found by fault."""
    head = (
        "pages",
        "groups",
        "false",
        "benign",
        "early",
        "event precision",
        "found",
        "minutes",
        "groups/inc.",
        "roots",
    )
    lines = [f"{fleet.weeks:.0f} metric-weeks after the warm-up", "", f"{'':20}" + "".join(f"{h:>16}" for h in head)]
    for detected, score, groups in results:
        figures = (
            f"{score.pages / fleet.weeks:.2f}",
            f"{groups.groups / fleet.weeks:.2f}",
            f"{score.counts['false'] / fleet.weeks:.3f}",
            f"{score.counts['benign'] / fleet.weeks:.2f}",
            str(score.counts["early"]),
            f"{score.event_precision:.2f}",
            f"{score.found()} of {score.number()}",
            "-" if score.delay_minutes is None else f"{score.delay_minutes:.0f}",
            f"{groups.groups_an_incident:.2f}",
            f"{groups.roots_first_three} of {groups.incidents}",
        )
        lines.append(f"{detected.title:20}" + "".join(f"{figure:>16}" for figure in figures))
    lines += ["", f"{'found':20}" + "".join(f"{each.detected.title:>20}" for each in results)]
    for kind in sorted({event.kind for event in results[0].score.events.values()}):
        found = "".join(f"{f'{each.score.found(kind)} of {each.score.number(kind)}':>20}" for each in results)
        lines.append(f"{kind:20}" + found)
    most = results[0].detected.notes["most_in_four_weeks"]
    return "\n".join([*lines, "", f"the engine's worst four weeks: {most:.2f} of the budget"])


def write_alarms(path: Path, alarms: Iterable[Alarmed]) -> None:
    """A row an alarm that people were told of."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("metric", "timestamp"), *alarms])


def write_groups(path: Path, groups: Iterable[Sequence[Alarmed]]) -> None:
    """A row a member of an incident, the suspected root first."""
    rows = [(number, *alarm) for number, group in enumerate(groups, 1) for alarm in group]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("incident", "metric", "timestamp"), *rows])


def write_report(path: Path, fleet: Fleet, scores: Sequence[Scores], results: Sequence[Result]) -> None:
    """All figures as text, and what the engine found and missed as pictures."""
    ours = results[0]
    chosen = examples(fleet, [each.heights for each in scores], ours.score, ours.detected.alarms)
    path.write_text(
        page("What the engine found in a fleet, and what it missed", as_text(fleet, results), chosen, FLOOR)
    )


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--budget", default=0.5, show_default=True, type=click.FloatRange(0, min_open=True), help="A metric-week."
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of the table.")
@click.option("--alarms", type=_FILE, help="Write the engine's alarms: metric, timestamp.")
@click.option("--groups", type=_FILE, help="Write its incidents: incident, metric, timestamp.")
@click.option("--report", type=_FILE, help="Write the table and pictures, a found and a missed example a fault: HTML.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Processes to run models in.")
def main(
    folder: Path, budget: float, as_json: bool, alarms: Path | None, groups: Path | None, report: Path | None, jobs: int
) -> None:
    """What people are told of the fleet in DIR."""
    fleet = load_fleet(folder)
    scores = score_fleet(fleet, folder, jobs)
    results = measure(fleet, scores, budget)
    if alarms:
        write_alarms(alarms, results[0].detected.alarms)
    if groups:
        write_groups(groups, results[0].detected.groups)
    if report:
        write_report(report, fleet, scores, results)
    if as_json:
        click.echo(json.dumps({each.detected.title: each.as_json() for each in results}, indent=1))
    else:
        click.echo(as_text(fleet, results))


if __name__ == "__main__":
    main()
