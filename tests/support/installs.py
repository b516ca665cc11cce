# SPDX-License-Identifier: MIT
"""A clone's content, and environments in which it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program to its end; what it printed."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=cwd, env=environ, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clone(folder: Path) -> Path:
    """What a clone holds, without what was built here."""
    ignored = shutil.ignore_patterns(
        ".git",
        ".venv",
        "build",
        "dist",
        "*.so",
        "dropin.cache",
        "_trial_temp*",
        "*.egg-info",
        "__pycache__",
        "tests*",
        ".*_cache",
    )
    shutil.copytree(ROOT, folder, ignore=ignored)
    return folder


def environment(venv: Path, *options: str) -> Path:
    """A new environment; the dependencies are those of the environment that runs the tests."""
    run(sys.executable, "-m", "venv", *options, venv)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    [target] = (venv / "lib").glob("python*/site-packages")
    (target / "dependencies.pth").write_text(site + "\n")
    return venv


def install(venv: Path, source: Path, *how: str) -> None:
    """Into an environment of its own."""
    environment(venv, "--without-pip", "--system-site-packages")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall")
    run(sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", *options, *how, source)
