# SPDX-License-Identifier: MIT
"""Files that come back older than an engine left them, by seed; ``make power-cuts`` runs many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.power_cuts import KINDS, run_seed


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_no_row_gets_the_score_of_another_and_none_stays_without(seed: int, tmp_path: Path) -> None:
    assert run_seed(seed, tmp_path).problems == []
