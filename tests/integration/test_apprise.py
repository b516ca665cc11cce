# SPDX-License-Identifier: MIT
"""Alerts by Apprise: to an HTTP server that takes them, refuses them, or hangs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.extras import needed
from tests.support.processes import run_htmengine
from tests.support.receivers import hang, http_receiver, status

needed("apprise")

COMMAND = [sys.executable, "-m", "htmengine.cli.main"]


def htmengine(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    options = ["--config", str(folder)]
    return run_htmengine(*command, *options)


def configuration(folder: Path, url: str) -> Path:
    receiver = f"[receiver:chat]\ntype = apprise\nurl = {url}\ntimeout_s = 2\n"
    (folder / "alerts.conf").write_text(f"[alert:load]\nreceivers = chat\n{receiver}")
    return folder


def test_a_message_is_delivered_or_the_reason_is_told_without_the_url(tmp_path: Path) -> None:
    with http_receiver() as target:
        folder = configuration(tmp_path, f"json://user:secret@127.0.0.1:{target.port}/hook")
        said = htmengine(folder, "alert", "test", "load")
        assert said.stdout == "load -> chat (apprise, json): delivered by Apprise\n", said.stderr
        [request] = target.requests
        assert (request.json["title"], request.json["type"]) == ("load: htmengine.test", "info")
        assert request.headers["Authorization"].startswith("Basic ")
        target.answers = [status(500), hang(5)]
        for why in ("500", "no answer within 2 s"):
            said = htmengine(folder, "alert", "test", "load")
            assert (said.returncode, "FAILED" in said.stdout, why in said.stdout) == (1, True, True), said.stdout
            assert "secret" not in said.stdout + said.stderr


def test_a_url_that_apprise_does_not_know_is_refused_at_the_start_and_not_shown(tmp_path: Path) -> None:
    said = htmengine(configuration(tmp_path, "nothing://secret"), "check-config")
    assert (said.returncode, "secret" in said.stderr) == (1, False)
    assert "[receiver:chat] url: a URL of a service that Apprise knows is allowed" in said.stderr
