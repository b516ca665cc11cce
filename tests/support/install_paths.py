# SPDX-License-Identifier: MIT
"""The ways to install HTM Engine, each from nothing to a first score: ``make install-paths``.

In: the names of ways, or none for all.  Out: a table of times and sizes; status 1 if one fails.  A way that this
machine cannot go is skipped, with the reason.  Each has a place of its own below build/install.  Ways with a root file
system need root, Debian and debootstrap; the file system is kept, so that only the first run downloads it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.support.engine import Engine, lines, wait_for
from tests.support.installs import ROOT, clone

ROWS = 300  #: a new metric has its model after 288
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
DATA = "/var/lib/htmengine"


@dataclass(frozen=True, slots=True)
class Installed:
    """What starts an engine, and where it is."""

    command: Sequence[str]
    folder: Path  #: all that was installed
    data: Path | None = None  #: its data folder as seen from here
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Place:
    """A folder for one way, and the sources that all have in common."""

    def __init__(self, folder: Path, wheel: Path | None) -> None:
        self.folder = folder
        self.common = folder.parent
        self._wheel = wheel
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def run(self, *command: str | Path, cwd: Path | None = None, **environment: str) -> str:
        """Run a program to its end; what it printed.  What it says when it fails is raised."""
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=cwd or self.folder,
            env=environ,
            timeout=1800,
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-3000:]}")
        return done.stdout

    @cached_property
    def source(self) -> Path:
        """What a clone holds."""
        return clone(self.folder / "clone")

    @cached_property
    def wheel(self) -> Path:
        """The one that was given, or one that is made here for all."""
        if self._wheel is None:
            self.run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", self.common / "wheel", ROOT)
            [self._wheel] = (self.common / "wheel").glob("*.whl")
        return self._wheel.resolve()

    def environment(self, python: str = PYTHON) -> Path:
        """A new one; the folder of its commands."""
        self.run(python, "-m", "venv", self.folder / "venv")
        return self.folder / "venv" / "bin"


# --- Python's own ways ----------------------------------------------------------------------------------


def pip_clone(place: Place) -> Installed:
    """``pip install .`` in a clone."""
    bin_folder = place.environment()
    place.run(bin_folder / "pip", "install", "--quiet", place.source)
    return _run(bin_folder)


def pip_sdist(place: Place) -> Installed:
    """``pip install htmengine-VERSION.tar.gz``."""
    bin_folder = place.environment()
    place.run(sys.executable, "setup.py", "-q", "sdist", "-d", place.folder, cwd=place.source)
    place.run(bin_folder / "pip", "install", "--quiet", *place.folder.glob("*.tar.gz"))
    return _run(bin_folder)


def pipx(place: Place) -> Installed:
    """``pipx install``."""
    tools = place.environment()
    place.run(tools / "pip", "install", "--quiet", "pipx")
    home = place.folder / "pipx"
    place.run(
        tools / "pipx", "install", place.wheel, PIPX_HOME=str(home), PIPX_BIN_DIR=str(home / "bin"), USE_EMOJI="0"
    )
    return _run(home / "bin", home)


def uv(place: Place) -> Installed:
    """``uv tool install``, from the index that pip uses."""
    tools = place.environment()
    place.run(tools / "pip", "install", "--quiet", "uv")
    home = place.folder / "uv"
    # Hard links into uv's cache would be counted as if they took no room.
    place.run(
        tools / "uv",
        *("tool", "install", "--python", tools / "python", "--link-mode", "copy", "--native-tls", place.wheel),
        UV_TOOL_DIR=str(home / "tools"),
        UV_TOOL_BIN_DIR=str(home / "bin"),
        UV_CACHE_DIR=str(place.folder / "cache"),
    )
    return _run(home / "bin", home)


def other_python(version: str) -> Callable[[Place], Installed]:
    """``pip install`` with another Python: compiled for it."""

    def install(place: Place) -> Installed:
        bin_folder = place.environment(f"python{version}")
        place.run(bin_folder / "pip", "install", "--quiet", ROOT)
        return _run(bin_folder)

    return install


def supervisord(place: Place) -> Installed:
    """An embedded engine as a program of supervisord."""
    bin_folder = place.environment()
    place.run(bin_folder / "pip", "install", "--quiet", f"{place.wheel}[supervisor]")
    script = place.folder / "start"
    script.write_text(SUPERVISED.format(folder=place.folder, bin=bin_folder))
    script.chmod(0o755)
    return Installed([str(script)], bin_folder.parent)


SUPERVISED = """#!/bin/sh
cat > {folder}/supervisord.conf <<END
[supervisord]
nodaemon=true
user=root
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[program:htmengine]
command={bin}/htmengine run $*
redirect_stderr=true
stdout_logfile=/dev/fd/1
stdout_logfile_maxbytes=0
stopwaitsecs=20
END
exec {bin}/supervisord -c {folder}/supervisord.conf
"""


def _run(bin_folder: Path, folder: Path | None = None) -> Installed:
    return Installed([str(bin_folder / "htmengine"), "run"], folder or bin_folder.parent)


# --- a root file system ---------------------------------------------------------------------------------


def debian(place: Place) -> Installed:
    """The Debian package in a new Debian: installed, started as its unit says, upgraded, removed and purged."""
    python = place.environment()
    place.run(
        ROOT / "packaging" / "build_deb.sh", place.wheel, place.folder, PIP_PYTHON=str(python / "python"), cwd=ROOT
    )
    [package] = place.folder.glob("*.deb")
    root = new_debian(place)
    started = time.monotonic()
    place.run("dpkg", "--info", package)
    dpkg(place, root, "--install", package)
    print(f"  dpkg --install: {time.monotonic() - started:.0f} s", flush=True)
    place.run("systemd-analyze", f"--root={root}", "verify", "--man=no", "htmengine.service", "htmengine@web.service")
    return Installed(
        chrooted(root, "htmengine", *exec_start(root)),
        root / "opt" / "htmengine",
        root / DATA[1:],
        ["--data-dir", DATA],
        {"APPLICATION_CONFIG_PATH": "/etc/htmengine", "XDG_DATA_HOME": "/var/lib"},
    )


def exec_start(root: Path) -> list[str]:
    """What systemd would start."""
    unit = (root / "lib/systemd/system/htmengine.service").read_text()
    [command] = re.findall(r"^ExecStart=(.*)", unit, re.MULTILINE)
    return str(command).split()


def after_debian(place: Place, installed: Installed) -> None:
    """The package's later life.  Configuration and data outlive all but a purge."""
    root = installed.folder.parents[1]
    options = root / "etc/htmengine/application.conf"
    options.write_text("# changed by the administrator\n" + options.read_text())
    assert stored(installed) == ROWS
    dpkg(place, root, "--force-confold", "--install", next_revision(place))
    assert options.read_text().startswith("# changed by the administrator\n")
    score(installed, first=ROWS + 1, last=ROWS + 10)
    assert stored(installed) == ROWS + 10
    dpkg(place, root, "--remove", "htmengine")
    assert not installed.folder.exists(), sorted(installed.folder.rglob("*"))[:20]
    assert options.exists()
    assert stored(installed) == ROWS + 10
    dpkg(place, root, "--purge", "htmengine")
    left = [path for path in ("etc/htmengine", DATA[1:], "usr/bin/htmengine") if (root / path).exists()]
    assert left == []
    assert "htmengine" not in (root / "etc/passwd").read_text()


def next_revision(place: Place) -> Path:
    """The same package with a later version."""
    [package] = place.folder.glob("*-1_*.deb")
    content, later = place.folder / "content", package.with_name(package.name.replace("-1_", "-2_"))
    place.run("dpkg-deb", "--raw-extract", package, content)
    control = content / "DEBIAN" / "control"
    control.write_text(re.sub(r"^(Version: .*-)1$", r"\g<1>2", control.read_text(), flags=re.MULTILINE))
    place.run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", content, later)
    return later


def image_root(place: Place) -> Installed:
    """What Containerfile makes, without a builder: its user, its configuration, a read-only root, its health check."""
    root = new_debian(place)
    recipe = (ROOT / "Containerfile").read_text()
    place.run("python3", "-m", "venv", "--without-pip", root / "opt/htmengine", PATH="/usr/bin:/bin")
    python = place.environment()
    venv = root / "opt/htmengine"
    place.run(
        python / "python", "-m", "pip", "--quiet", "--python", venv / "bin/python", "install", f"{place.wheel}[all]"
    )
    for script in (venv / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            script.write_text(script.read_text().replace(str(root), ""))
    place.run(*chrooted(root, "root", "/opt/htmengine/bin/twistd", "--help"))
    shutil.copytree(venv / "share/htmengine/conf", root / "etc/htmengine", ignore=shutil.ignore_patterns("systemd"))
    volume = place.folder / "volume"
    for folder in (volume, root / DATA[1:]):
        folder.mkdir(parents=True)
    os.chown(volume, 10001, 10001)
    options = dict(re.findall(r"^ +(\w+)=([^\s\\]+)", recipe, re.MULTILINE))
    options.pop("HTMENGINE__APPLICATION__METRIC_LISTENER__HOST")  # the tests ask on the loopback interface
    command = chrooted(root, "10001:10001", "/opt/htmengine/bin/htmengine", "run", volume=volume)
    return Installed(command, venv, volume / "data", ["--data-dir", f"{DATA}/data"], options)


def check_image(installed: Installed, engine: Engine) -> None:
    """The health check of Containerfile, and a root that cannot be written."""
    recipe = (ROOT / "Containerfile").read_text()
    [check] = re.findall(r'CMD \["python", "-c", "(.*?)"\]', recipe)
    port = engine.url.rpartition(":")[2]
    subprocess.run([sys.executable, "-c", check.replace("8080", port)], check=True, timeout=60)
    status = Path(f"/proc/{engine.process and engine.process.pid}/status").read_text()
    assert re.search(r"^Uid:\s+10001\s", status, re.MULTILINE), status
    with contextlib.suppress(OSError):
        Path(f"/proc/{engine.process and engine.process.pid}/root/written").touch()
        raise AssertionError("the root can be written")


def new_debian(place: Place) -> Path:
    """A minimal Debian with Python, in the place's folder."""
    kept = place.common / "debian"
    if not kept.exists():
        packages = "python3,adduser,ca-certificates,systemd"
        made = place.common / "debian.new"
        shutil.rmtree(made, ignore_errors=True)
        place.run("debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, made)
        made.rename(kept)
    root = place.folder / "root"
    place.run("cp", "-a", kept, root)
    return root


RELEASE = "bookworm"


def chrooted(root: Path, user: str, *command: str, volume: Path | None = None) -> list[str]:
    """In the root file system as that user; with a volume, all but that and /tmp is read-only."""
    steps = ['mount --bind "$0" "$0"', 'mount -t proc proc "$0/proc"']
    if volume is not None:
        steps += [
            'mount -t tmpfs tmpfs "$0/tmp"',
            f'mount --bind "{volume}" "$0{DATA}"',
            'mount -o remount,bind,ro "$0"',
        ]
    steps.append('user=$1; shift; exec chroot --userspec="$user" "$0" "$@"')
    return ["unshare", "--mount", "sh", "-c", " && ".join(steps), str(root), user, *command]


def dpkg(place: Place, root: Path, *arguments: str | Path) -> None:
    """Run dpkg in the root file system; packages are taken along."""
    for package in (argument for argument in arguments if isinstance(argument, Path)):
        shutil.copy(package, root)
    inside = [f"/{each.name}" if isinstance(each, Path) else each for each in arguments]
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    place.run(*chrooted(root, "root", "dpkg", *inside), DEBIAN_FRONTEND="noninteractive", LC_ALL="C", PATH=path)


# --- to a first score -----------------------------------------------------------------------------------


def score(
    installed: Installed, *, first: int = 1, last: int = ROWS, check: Callable[[Installed, Engine], None] | None = None
) -> float:
    """Start an engine, send rows until the last has a score, and stop it; seconds to the first score."""
    data = installed.data or Path(tempfile.mkdtemp(prefix="htmengine-install-")) / "data"
    engine = Engine(data, "--workers", "1", *installed.options, command=installed.command)
    with manager() as (address, told):
        engine.environment |= {**installed.environment, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}
        started = time.monotonic()
        try:
            engine.start()
            engine.send(lines(first, last, metrics=1))
            engine.wait_until_scored("m0", 1)
            took = time.monotonic() - started
            engine.wait_until_scored("m0", last)
            wait_for(lambda: {"READY=1", "WATCHDOG=1"} <= told(), "systemd to be told")
            if check is not None:
                check(installed, engine)
            assert engine.stop() in (0, 143)
        except BaseException:
            print(engine.log_path.read_text()[-3000:])
            raise
        finally:
            if engine.process is not None and engine.process.poll() is None:
                engine.kill()
    return took


@contextlib.contextmanager
def manager() -> Iterator[tuple[str, Callable[[], set[str]]]]:
    """A stand-in for systemd: the address that it listens at, and what it has been told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # a name in the abstract namespace, which a root file system does not hide
        listening.setblocking(False)
        heard: set[str] = set()

        def told() -> set[str]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.add(listening.recv(100).decode())
            return heard

        yield f"@{listening.getsockname()[1:].decode()}", told


def stored(installed: Installed) -> int:
    """Rows with a score."""
    assert installed.data is not None
    return len(Engine(installed.data).scores("m0"))


# --- all of them ----------------------------------------------------------------------------------------


def runs(program: str) -> bool:
    """Whether there is such a program; pyenv's stand-ins alone are none."""
    return (
        bool(shutil.which(program))
        and not subprocess.run([program, "--version"], capture_output=True, check=False).returncode
    )


@dataclass(frozen=True, slots=True)
class Way:
    """One way, what it needs, and what is looked at when it has been gone."""

    name: str
    install: Callable[[Place], Installed]
    needs: Sequence[str] = ()  #: programs
    root: bool = False
    check: Callable[[Installed, Engine], None] | None = None
    afterwards: Callable[[Place, Installed], None] | None = None

    def lacks(self) -> str:
        """Why this machine cannot go it."""
        if self.root and os.geteuid() != 0:
            return "needs root"
        missing = [program for program in self.needs if not runs(program)]
        return f"needs {', '.join(missing)}" if missing else ""

    def go(self, place: Place) -> str:
        """A row of the table."""
        started = time.monotonic()
        installed = self.install(place)
        took = time.monotonic() - started
        first = score(installed, check=self.check)
        size = int(place.run("du", "-sm", installed.folder).split()[0])
        if self.afterwards is not None:
            self.afterwards(place, installed)
        return f"| {self.name} | {took:.0f} | {first:.0f} | {size} |"


CHROOT = ("debootstrap", "unshare", "dpkg-deb")
WAYS = [
    Way("pip, clone", pip_clone, ["c++"]),
    Way("pip, sdist", pip_sdist, ["c++"]),
    Way("pipx", pipx),
    Way("uv tool", uv),
    Way("supervisord", supervisord),
    Way("Debian package", debian, [*CHROOT, "systemd-analyze"], root=True, afterwards=after_debian),
    Way("image's root", image_root, CHROOT, root=True, check=check_image),
    *(Way(f"Python {version}", other_python(version), [f"python{version}", "c++"]) for version in ("3.12", "3.13")),
]


def main() -> None:
    """Status 1 if a way fails."""
    parser = argparse.ArgumentParser(description="Go all ways to install HTM Engine, each to a first score.")
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"{', '.join(way.name for way in WAYS)}; all")
    parser.add_argument("--wheel", type=Path, help="that ways which compile nothing install; by default it is made")
    options = parser.parse_args()
    unknown = set(options.ways) - {way.name for way in WAYS}
    if unknown:
        parser.error(f"no way {', '.join(sorted(unknown))}; there are {', '.join(way.name for way in WAYS)}")
    rows, failed = ["| way | installed after, s | first score after, s | MB |", "|---|---|---|---|"], False
    for way in WAYS:
        if options.ways and way.name not in options.ways:
            continue
        if lacks := way.lacks():
            rows.append(f"| {way.name} | skipped: {lacks} | | |")
            continue
        print(f"{way.name}: {(way.install.__doc__ or 'pip install with another Python').splitlines()[0]}", flush=True)
        place = Place(ROOT / "build" / "install" / re.sub(r"\W+", "-", way.name.lower()), options.wheel)
        try:
            rows.append(way.go(place))
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            rows.append(f"| {way.name} | failed | | |")
            print(error, file=sys.stderr)
            failed = True
        print(f"  {rows[-1]}", flush=True)
    print("\n".join(rows))
    sys.exit(failed)


if __name__ == "__main__":
    main()
