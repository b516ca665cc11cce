# SPDX-License-Identifier: MIT
"""An installed package has its taps, its command and its files, and runs in every working folder.

It is installed from the source distribution, and editable; test_documents.py installs it from a clone.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
from functools import partial
from pathlib import Path

import pytest

from tests.support import installs, processes
from tests.support.engine import START, Engine
from tests.support.installs import ROOT, install, run
from tools import shared_files

TAPS = {"htmengine", *(f"htmengine-{part}" for part in ("listener", "storer", "scheduler", "anomaly", "web", "alerts"))}
LIST_TAPS = """
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
print(*[maker.tapname for maker in getPlugins(IServiceMaker)])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installs.clone(tmp_path_factory.mktemp("source") / "htmengine")


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    return make_sdist(source, "dist")


def make_sdist(source: Path, folder: str) -> Path:
    shutil.rmtree(source / "htmengine.egg-info", ignore_errors=True)  # lists what the last one held
    run("env", "SOURCE_DATE_EPOCH=1700000000", sys.executable, "setup.py", "-q", "sdist", "-d", folder, cwd=source)
    [archive] = (source / folder).glob("htmengine-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def plain(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment after ``pip install htmengine-1.0.tar.gz``."""
    venv = tmp_path_factory.mktemp("plain") / "venv"
    install(venv, sdist)
    return venv


@pytest.fixture
def editable(source: Path, tmp_path: Path) -> Path:
    """An environment after ``pip install -e .`` in a clone."""
    install(tmp_path / "venv", source, "-e")
    return tmp_path / "venv"


def test_the_source_distribution_holds_what_a_clone_does(sdist: Path, source: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    built = ("dist/", "htmengine.egg-info/")
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {name for name in files - held if not name.startswith((".", *built))} == set()


def test_the_source_distribution_is_the_same_each_time(sdist: Path, source: Path) -> None:
    for file in source.rglob("*.py"):
        file.touch()
    assert make_sdist(source, "build").read_bytes() == sdist.read_bytes()


def test_configuration_manual_page_and_completion_are_installed(plain: Path) -> None:
    places = {path: plain / "share" / "htmengine" / path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.*")}
    places |= {ROOT / name: plain / name for name in shared_files.files()}
    assert {path for path, place in places.items() if place.read_bytes() != path.read_bytes()} == set()


@pytest.mark.parametrize("how", ["plain", "editable"])
def test_twistd_and_the_command_find_everything(
    how: str, source: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    venv: Path = request.getfixturevalue(how)
    python = venv / "bin" / "python"
    taps = run(python, "-c", LIST_TAPS, cwd=tmp_path)
    assert set(taps.split()) >= TAPS
    where = run(python, "-c", "import htmengine.htm._core as core; print(core.__file__)", cwd=tmp_path)
    assert str(source if how == "editable" else venv) in where
    assert "demo" in run(venv / "bin" / "htmengine", "--help", cwd=tmp_path)


TWISTD = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "htmengine"]


@pytest.mark.parametrize(
    ("folder", "command"),
    [("clone", []), ("empty", []), ("root", []), ("hostile", []), ("hostile", TWISTD)],
    ids=["run-clone", "run-empty", "run-root", "run-hostile", "twistd-hostile"],
)
def test_the_engine_imports_nothing_from_the_working_folder(
    folder: str, command: list[str], plain: Path, source: Path, tmp_path: Path
) -> None:
    hostile = tmp_path / "hostile"
    (hostile / "htmengine").mkdir(parents=True)
    for trap in ("json.py", "numpy.py", "htmengine/__init__.py"):
        (hostile / trap).write_text("raise SystemExit('a file of the working folder was run')\n")
    (tmp_path / "empty").mkdir()
    cwd = {"clone": source, "empty": tmp_path / "empty", "root": Path("/"), "hostile": hostile}[folder]
    python = str(plain / "bin" / "python")
    command = [python, *command] if command else [str(plain / "bin" / "htmengine"), "run"]
    engine = Engine(tmp_path / "data", "--workers", "1", command=command, start=partial(processes.start, cwd=cwd))
    engine.start()
    try:
        engine.send(f"web1.example.org.cpu-0.cpu-user {row % 7} {START + 60 * row}" for row in range(300))
        assert len(engine.wait_until_scored("web1.example.org.cpu-0.cpu-user", 300)) == 300
    finally:
        engine.stop()
