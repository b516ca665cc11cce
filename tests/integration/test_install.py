# SPDX-License-Identifier: MIT
"""An installed package has its taps and its command: as a wheel, and in an editable installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TAPS = {"htmengine", *(f"htmengine-{part}" for part in ("listener", "storer", "scheduler", "anomaly", "web", "alerts"))}
LIST_TAPS = """
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
print(*[maker.tapname for maker in getPlugins(IServiceMaker)])
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=cwd, env=environ, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone holds, without what was built here."""
    folder = tmp_path_factory.mktemp("source") / "htmengine"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "*.so", "*.egg-info", "__pycache__", "tests*", ".*_cache"
    )
    shutil.copytree(ROOT, folder, ignore=ignored)
    return folder


@pytest.mark.parametrize("how", [[], ["-e"]], ids=["wheel", "editable"])
def test_twistd_and_the_command_find_everything(how: list[str], source: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", venv)
    # The dependencies are those of the environment that runs the tests; only this package is installed anew.
    site = next(path for path in sys.path if path.endswith("site-packages"))
    [target] = (venv / "lib").glob("python*/site-packages")
    (target / "dependencies.pth").write_text(site + "\n")
    python = venv / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--force-reinstall",
        *how,
        source,
    )
    taps = run(python, "-c", LIST_TAPS, cwd=tmp_path)
    assert set(taps.split()) >= TAPS
    where = run(python, "-c", "import htmengine.htm._core as core; print(core.__file__)", cwd=tmp_path)
    assert str(source if how else venv) in where
    assert "demo" in run(venv / "bin" / "htmengine", "--help", cwd=tmp_path)
