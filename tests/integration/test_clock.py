# SPDX-License-Identifier: MIT
"""Somebody sets the clock of an engine that runs: it goes on at once, and tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.crashes import SETTINGS
from tests.support.engine import Engine, lines, wait_for

#: Debian's package faketime.
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.mark.skipif(LIBRARY is None, reason="faketime is not installed")
def test_an_engine_goes_on_when_its_clock_is_set_back_or_forward(tmp_path: Path) -> None:
    shift = tmp_path / "shift"
    shift.write_text("+0")
    engine = Engine(tmp_path / "data", "--workers", "1")
    engine.environment = {
        **SETTINGS,
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(shift),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    engine.start()
    try:
        engine.send(lines(1, 40, metrics=1))
        engine.wait_until_scored("m0", 40)
        for rows, jump in ((60, "-1h"), (80, "+365d")):
            shift.write_text(jump)
            engine.send(lines(rows - 19, rows, metrics=1))
            engine.wait_until_scored("m0", rows)
            if jump == "-1h":
                told = wait_for(
                    lambda: engine.query("SELECT message FROM trouble WHERE source = 'clock'"), "the trouble"
                )
                assert "jumped back by 3600 s" in told[0][0]
        assert "killed" not in engine.log_path.read_text()  # a worker whose time seems to be up
        assert engine.stop() == 0
    finally:
        engine.kill()
