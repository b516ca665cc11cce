# SPDX-License-Identifier: MIT
"""How far two models agree: what is counted, told and drawn."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
from click.testing import CliRunner

from htmengine.cli.compare import compare, document
from htmengine.history.agreement import FIRST_ROW, Scores, agreement, compared, matched, scores_of
from htmengine.history.agreement_report import Series, alarm_lines, lines, report
from htmengine.htm.params import ModelParams

ROWS = 700
PARAMS = ModelParams.for_range(0.0, 10.0)


def series(*alarms: int, theirs: tuple[int, ...] = ()) -> Series:
    """Both alarm at these rows; NuPIC also, and alone, at others."""
    timestamps = 1_400_000_000 + 300 * np.arange(ROWS)
    values = np.arange(ROWS) % 7.0
    return Series("a&b", "NuPIC", timestamps, values, scored(alarms), scored((*alarms, *theirs)))


def scored(alarms: tuple[int, ...]) -> Scores:
    scores = np.full(ROWS, 0.5)
    scores[list(alarms)] = 1.0
    return Scores(np.where(scores == 1.0, 1.0, 0.025 * (np.arange(ROWS) % 2)), scores, scores)


def test_a_model_agrees_with_itself() -> None:
    both = series(400, 500)
    found = agreement(both.ours, both.theirs)
    assert (found.raw.mean_difference, found.raw.equal, found.raw.correlation) == (0.0, 1.0, 1.0)
    assert (found.alarms.both, found.alarms.agreement) == ([400, 500], 1.0)


def test_the_first_rows_are_left_out_also_of_few() -> None:
    both = series(100, 400)
    for rows in (ROWS, 401):
        some = Scores(*(each[:rows] for each in (both.ours.raws, both.ours.likelihoods, both.ours.scores)))
        found = agreement(some, some)
        assert (found.first_row, found.alarms.both) == (FIRST_ROW, [400])


def test_rows_that_are_all_left_out_are_refused(tmp_path: Path) -> None:
    csv = tmp_path / "m.csv"
    csv.write_text("timestamp,value\n" + "".join(f"{60 * row},{row % 7}\n" for row in range(1, FIRST_ROW + 1)))
    done = CliRunner().invoke(compare, [str(csv), "--min=0", "--max=7", "--nupic-python", sys.executable])
    assert (done.exit_code, "288 rows; the first 288 are left out" in done.stderr) == (1, True)


def test_files_are_offered_where_a_metric_or_a_file_is_named() -> None:
    [what] = [each for each in compare.params if each.name == "what"]
    assert [each.type for each in what.shell_complete(click.Context(compare), "a")] == ["file"]


def test_each_alarm_is_matched_once_with_one_that_is_near() -> None:
    found = matched([100, 200], [95, 105, 211])
    assert (found.both, found.only, found.only_other) == ([100], [200], [105, 211])
    assert found.agreement == 0.25
    assert matched([], []).agreement is None


def test_a_constant_column_correlates_with_nothing() -> None:
    assert compared(np.zeros(3), np.arange(3.0)).correlation is None


def test_likelihood_and_evidence_are_the_engines() -> None:
    rng = np.random.default_rng(1)
    raws = rng.integers(0, 5, ROWS) / 40
    got = scores_of(PARAMS, series().timestamps, series().values, raws)
    assert got.raws is raws
    assert got.likelihoods.shape == got.scores.shape == (ROWS,)
    assert got.likelihoods[ROWS - 1] > 0.0


def test_the_table_the_page_and_the_json_have_what_only_one_found() -> None:
    both = series(400, theirs=(600,))
    found = agreement(both.ours, both.theirs)
    assert [*alarm_lines(both, found.alarms)] == [
        "2014-05-15 02:13:20  1             both",
        "2014-05-15 18:53:20  5             only NuPIC",
    ]
    table = "\n".join(lines(both, found))
    assert "a&b: 700 rows, compared from row 289 on" in table
    assert "50%" in table
    page = report(both, found)
    assert "a&amp;b" in page
    assert page.count("<svg") == 3
    assert "<h2>2014-05-15 18:53:20: only NuPIC</h2>" in page
    told = document(both, found)
    assert told["alarms"] == {
        "both": [1_400_120_000],
        "only": [],
        "only_other": [1_400_180_000],
        "agreement": 0.5,
    }
