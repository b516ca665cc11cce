# SPDX-License-Identifier: MIT
"""Models on disk: the newest two states of each, either of which restores it.

In: a model's bytes with its generation and last rowid, from the worker that holds it.  Out: the newest
intact ones.  A checkpoint need not be newer than the last row: what came after it is in metric_data and is run
again, so losing one costs time, never a score.

::

    <root>/
        3f/                        first two hexadecimal digits of the CRC-32 of the model's id
            3fb1...e9.0            two slots, written in turn: the older one is replaced
            3fb1...e9.1
            3fb1...e9.1.<host>-<pid>.partial    being written; renamed when complete, removed when its writer is gone
            3fb1...e9.0.damaged    was found damaged; kept for whoever wants to know why
            3fb1...e9.0.refused    does not fit the database; likewise

A file is: magic ``HTMC``, format 2 (u32), generation (u64), rowid (u64), length of the id (u32), digest of the rows up
to that one (i64; -1: not known), the id, length of the results (u32), the results (JSON), the model's bytes, CRC-32 of
all before (u32); little-endian.  Format 1, which is read too, has no digest.

A checkpoint may be made before the results of its last rows are published.  A model cannot run a row twice, so the
checkpoint carries these results, and whoever loads it publishes them again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from htmengine.errors import CorruptCheckpoint, UnknownCheckpointVersion
from htmengine.messages import ResultRow
from htmengine.process import crash_points

_MAGIC = b"HTMC"
_FORMAT = 2
#: Magic, format, generation, rowid, length of the id.
_HEAD = struct.Struct("<4sIQQI")
_DIGEST = struct.Struct("<q")
_NO_DIGEST = -1
#: Formats that are read, and the length of what stands before the id.
_FORMATS = {1: _HEAD.size, 2: _HEAD.size + _DIGEST.size}
_LENGTH = struct.Struct("<I")
_CHECKSUM = struct.Struct("<I")
_SLOTS = (0, 1)
_DAMAGED = ".damaged"
_REFUSED = ".refused"
_PARTIAL = ".partial"
#: What another host has been writing for this long will not be finished.
_PARTIAL_S = 86_400.0
_NO_STATE = (-1, -1)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model after the row ``rowid``."""

    model_id: str
    generation: int
    rowid: int
    model: bytes
    results: tuple[ResultRow, ...] = ()  #: those that were not known to be published, up to ``rowid``
    digest: int | None = None  #: of the rows up to ``rowid`` (`messages.digest`); None: not known


class CheckpointStore:
    """The checkpoints below one folder, which several processes, and hosts, may share.

    A model has one writer at a time, but for one that does not know yet that it has lost its connection.  What such a
    one writes is right, only old: the same rows make the same model.  So an old state never replaces a newer one,
    and each writer has a partial file of its own.

    >>> import tempfile
    >>> store = CheckpointStore(Path(tempfile.mkdtemp()))
    >>> store.save(Checkpoint("m", generation=1, rowid=300, model=b"..."))
    >>> next(store.load("m", generation=1)).rowid
    300
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self._root = root
        self._durable = durable
        self._host = socket.gethostname()
        #: Files that were found damaged: (path, why), for whoever tells the operator.
        self.damaged: list[tuple[Path, str]] = []
        self._unusable: set[Path] = set()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the older slot, atomically, if it is older.  Raises OSError if the disk is full or not writable."""
        path = self._slot_to_replace(checkpoint.model_id)
        if self._state_of(path) > (checkpoint.generation, checkpoint.rowid):
            return  # another scheduler has gone on with this model
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{self._host}-{os.getpid()}{_PARTIAL}")
        try:
            with partial.open("wb") as file:
                _write(file, _pack(checkpoint))
                if self._durable:
                    file.flush()
                    os.fdatasync(file.fileno())
            crash_points.reached("checkpoint.written")
            if path.is_dir():
                _put_aside(path, _DAMAGED)
            partial.replace(path)
            self._unusable.discard(path)
            crash_points.reached("checkpoint.replaced")
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def load(self, model_id: str, generation: int) -> Iterator[Checkpoint]:
        """The intact checkpoints of that generation, the newest first; damaged ones go to ``damaged``.

        The older one is only read when it is asked for.
        """
        states = {path: _state_in(path) for path in self._slots(model_id) if os.path.lexists(path)}
        # What has no head is looked at first, so that it is found.
        for path in sorted(states, key=lambda path: (states[path] == _NO_STATE, states[path]), reverse=True):
            checkpoint = self._read(path, model_id)
            if checkpoint is not None and checkpoint.generation == generation:
                yield checkpoint

    def newest_rowid(self, model_id: str, generation: int) -> int:
        """The last rowid of the newest checkpoint of that generation, intact or not; -1: there is none."""
        states = [self._state_of(path) for path in self._slots(model_id)]
        return max((rowid for found, rowid in states if found == generation), default=-1)

    def refuse(self, checkpoint: Checkpoint) -> None:
        """Put one aside that does not fit the database, lest it keep those out that do."""
        for path in self._slots(checkpoint.model_id):
            if _state_in(path) == (checkpoint.generation, checkpoint.rowid):
                _put_aside(path, _REFUSED)

    def refuse_newer(self, model_id: str, generation: int) -> None:
        """Put those of later generations aside, which the database does not know."""
        for path in self._slots(model_id):
            if _state_in(path)[0] > generation:
                _put_aside(path, _REFUSED)

    def delete(self, model_id: str) -> None:
        """Remove all of a model's files."""
        for path in self._slots(model_id):
            for suffix in ("", _DAMAGED, _REFUSED):
                _remove(path.with_name(path.name + suffix))

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def model_ids(self) -> Iterator[set[str]]:
        """The models that have checkpoints, a folder after the other."""
        for folder in sorted(self._root.glob("??")):
            with contextlib.suppress(OSError):  # it is gone, or cannot be read
                slots = [entry.name.rpartition(".") for entry in folder.iterdir()]
                yield {model_id for model_id, _, slot in slots if slot in {"0", "1"}}

    def remove_partials(self, now: float) -> int:
        """Remove what writers that were killed have left; how many.  ``now`` is in epoch seconds.

        A writer of this host is gone when it has no process; of another's nothing is known, but for its files' age.
        """
        removed = 0
        for path in self._root.glob(f"??/*{_PARTIAL}"):
            with contextlib.suppress(OSError):  # gone already, or on a disk that cannot be written
                if self._is_abandoned(path, now):
                    path.unlink()
                    removed += 1
        return removed

    def _is_abandoned(self, path: Path, now: float) -> bool:
        of_this_host, writer = path.name.removesuffix(_PARTIAL).rpartition(f".{self._host}-")[1:]
        if of_this_host and writer.isdigit() and not _runs(int(writer)):
            return True
        return path.stat().st_mtime < now - _PARTIAL_S

    def _slots(self, model_id: str) -> list[Path]:
        folder = self._root / f"{zlib.crc32(model_id.encode()) >> 24:02x}"
        return [folder / f"{model_id}.{slot}" for slot in _SLOTS]

    def _slot_to_replace(self, model_id: str) -> Path:
        """An unused or unreadable slot, else the one with the older state."""
        return min(self._slots(model_id), key=self._state_of)

    def _state_of(self, path: Path) -> tuple[int, int]:
        """(generation, rowid); `_NO_STATE` if it holds nothing of use."""
        return _NO_STATE if path in self._unusable else _state_in(path)

    def _read(self, path: Path, model_id: str) -> Checkpoint | None:
        try:
            with _opened(path) as file:
                checkpoint = _unpack(file.read())
            if checkpoint.model_id != model_id:
                raise CorruptCheckpoint(f"it is one of model {checkpoint.model_id}")
        except (CorruptCheckpoint, UnknownCheckpointVersion, OSError) as error:
            self.damaged.append((path, str(error)))
            self._unusable.add(path)
            if isinstance(error, CorruptCheckpoint):
                with contextlib.suppress(OSError):  # a disk that cannot be written; it is found again then
                    _put_aside(path, _DAMAGED)
            return None
        self._unusable.discard(path)
        return checkpoint


def _runs(pid: int) -> bool:
    """Whether another process than this one has the id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()


def _opened(path: Path) -> BinaryIO:
    """Open for reading, whatever has been put there.  Raises `CorruptCheckpoint` for what is no file, and OSError."""
    # A FIFO is opened at once this way, where it would wait for a writer without end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptCheckpoint("it is no regular file")
    return os.fdopen(descriptor, "rb")


def _put_aside(path: Path, suffix: str) -> None:
    """Keep what cannot be used under another name; it takes the place of what was kept before."""
    kept = path.with_name(path.name + suffix)
    if path.is_dir() or kept.is_dir():
        _remove(kept)
    path.replace(kept)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(file: BinaryIO, data: bytes) -> None:
    """In two halves, so that a test may have the process die between them."""
    half = len(data) // 2
    file.write(data[:half])
    file.flush()
    crash_points.reached("checkpoint.writing")
    file.write(data[half:])


def _state_in(path: Path) -> tuple[int, int]:
    """(generation, rowid) from a file's head; `_NO_STATE` if there is none."""
    try:
        with _opened(path) as file:
            magic, version, generation, rowid, _ = _HEAD.unpack(file.read(_HEAD.size))
    except (OSError, CorruptCheckpoint, struct.error):
        return _NO_STATE
    return (generation, rowid) if magic == _MAGIC and version in _FORMATS else _NO_STATE


def _pack(checkpoint: Checkpoint) -> bytes:
    model_id = checkpoint.model_id.encode()
    results = msgspec.json.encode(checkpoint.results)
    head = _HEAD.pack(_MAGIC, _FORMAT, checkpoint.generation, checkpoint.rowid, len(model_id))
    digest = _DIGEST.pack(_NO_DIGEST if checkpoint.digest is None else checkpoint.digest)
    body = b"".join((head, digest, model_id, _LENGTH.pack(len(results)), results, checkpoint.model))
    return body + _CHECKSUM.pack(zlib.crc32(body))


def _unpack(data: bytes) -> Checkpoint:
    if len(data) < _HEAD.size + _LENGTH.size + _CHECKSUM.size:
        raise CorruptCheckpoint(f"{len(data)} bytes are too few for a checkpoint")
    magic, version, generation, rowid, id_length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise CorruptCheckpoint("not a checkpoint")
    if version not in _FORMATS:
        raise UnknownCheckpointVersion(f"checkpoint format {version}; known are {', '.join(map(str, _FORMATS))}")
    if zlib.crc32(memoryview(data)[: -_CHECKSUM.size]) != _CHECKSUM.unpack_from(data, len(data) - _CHECKSUM.size)[0]:
        raise CorruptCheckpoint("the checksum does not match")
    id_at = _FORMATS[version]
    (digest,) = _DIGEST.unpack_from(data, _HEAD.size) if version > 1 else (_NO_DIGEST,)
    results_at = id_at + id_length + _LENGTH.size
    (results_length,) = _LENGTH.unpack_from(data, results_at - _LENGTH.size)
    model_at = results_at + results_length
    return Checkpoint(
        data[id_at : id_at + id_length].decode(),
        generation,
        rowid,
        data[model_at : -_CHECKSUM.size],
        tuple(ResultRow(*row) for row in json.loads(data[results_at:model_at])),
        None if digest == _NO_DIGEST else digest,
    )
