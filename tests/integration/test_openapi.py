# SPDX-License-Identifier: MIT
"""The API does what its OpenAPI document says: schemathesis makes up requests, right ones and wrong ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.engine import running_engine

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support" / "schemathesis"
#: Another one finds other faults: HTMENGINE_SCHEMATHESIS_SEED=2 pytest tests/integration/test_openapi.py
SEED = os.environ.get("HTMENGINE_SCHEMATHESIS_SEED", "1")


def test_schemathesis_finds_no_fault(tmp_path: Path) -> None:
    with running_engine(tmp_path / "data", "--workers", "1") as engine:
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(SUPPORT / "schemathesis.toml")),
            *("run", f"{engine.url}/api/v1/openapi.json", "--seed", SEED, "--max-examples", "15", "--no-shrink"),
        ]
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis.hooks", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout
        assert re.search(r"Operations: +(\d\d) selected / \1 total", done.stdout), done.stdout
        assert httpx.get(f"{engine.url}/api/v1/status").status_code == 200
        assert "Traceback" not in engine.log_path.read_text()


def test_every_operation_is_in_the_words_too(tmp_path: Path) -> None:
    words = (ROOT / "docs" / "http-api.md").read_text()
    with running_engine(tmp_path / "data", "--workers", "1") as engine:
        document = httpx.get(f"{engine.url}/api/v1/openapi.json").json()
    missing = [path for path in document["paths"] if path not in words]
    assert missing == []
