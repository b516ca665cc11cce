# SPDX-License-Identifier: AGPL-3.0-only
"""NuPIC models on disk, in a folder that nobody else may write: NuPIC's restoring unpickles, which runs what it reads.

Nothing is read before its folder and files are known to be this user's (or root's) alone to write, and before every
file has the SHA-256 that was noted when it was written.  HTM Engine's own checkpoints lie beside ``nupic/`` and are
neither read nor written.

::

    <root>/nupic/
        4a/4a0f...77/            SHA-1 of the model's id
            1-3000/              generation and last row; the newest two are kept
                state.json       id, generation, row, parameters, unconfirmed results, the files' SHA-256
                model/           what NuPIC wrote
            1-4000.<pid>.partial being written; renamed when complete
            1-2000.damaged       was found damaged or not private
"""

from __future__ import absolute_import, division, unicode_literals

import errno
import hashlib
import io
import json
import os
import shutil
import stat
import time
from collections import namedtuple

FORMAT = 1
_KEPT = 2
_STATE = "state.json"
_MODEL = "model"
_DAMAGED = ".damaged"
_PARTIAL = ".partial"
_CHUNK_BYTES = 1 << 20
#: What has been written for this long will not be finished.
_PARTIAL_S = 86400.0

#: A model after the row ``rowid``; ``results`` are those that were not known to be published.
Checkpoint = namedtuple("Checkpoint", "model_id generation rowid params results model_folder")


class Unusable(Exception):
    """A checkpoint that is damaged, or that somebody else could have written."""


class Folder(object):
    """The checkpoints below ``root``; ``damaged`` has (path, why) of those that were put aside."""

    def __init__(self, root):
        """Raises OSError, and `Unusable` for a folder that others may write."""
        self.root = os.path.join(os.path.abspath(root), "nupic")
        _make(self.root)
        for path in (os.path.dirname(self.root), self.root):
            _require_private(path)
        self.damaged = []

    def save(self, checkpoint, write):
        """Write a checkpoint, whose model ``write(folder)`` writes; its size in bytes.  Raises OSError."""
        parent = self._parent(checkpoint.model_id)
        _make(parent)
        final = os.path.join(parent, "%d-%d" % (checkpoint.generation, checkpoint.rowid))
        partial = "%s.%d%s" % (final, os.getpid(), _PARTIAL)
        _remove(partial)
        os.mkdir(partial, 0o700)
        try:
            write(os.path.join(partial, _MODEL))
            files = dict(_digests(partial))
            self._write_state(os.path.join(partial, _STATE), checkpoint, files)
            _remove(final)
            os.rename(partial, final)
            _sync(parent)
        except BaseException:
            _remove(partial)
            raise
        self._keep_newest(parent)
        return sum(os.path.getsize(os.path.join(final, name)) for name in files)

    def load(self, model_id, generation):
        """The usable checkpoints of that generation, the newest first; others go to ``damaged``."""
        for rowid, path in self._states(model_id, generation):
            try:
                yield self._read(path, model_id, generation, rowid)
            except (Unusable, EnvironmentError, ValueError, KeyError) as error:
                self.put_aside(path, "%s" % error)

    def newest_rowid(self, model_id, generation):
        """The last row of the newest checkpoint of that generation; -1: there is none."""
        return max([rowid for rowid, _ in self._states(model_id, generation)] or [-1])

    def put_aside(self, path, why):
        """Keep what cannot be used under another name."""
        self.damaged.append((path, why))
        try:
            _remove(path + _DAMAGED)
            os.rename(path, path + _DAMAGED)
        except EnvironmentError:
            pass  # a disk that cannot be written; it is found again then

    def path_of(self, checkpoint):
        """Where a loaded checkpoint lies."""
        return os.path.dirname(checkpoint.model_folder)

    def delete(self, model_id):
        """Remove all that there is of a model."""
        _remove(self._parent(model_id))

    def _parent(self, model_id):
        name = hashlib.sha1(model_id.encode("utf-8")).hexdigest()  # noqa: S324 - a file's name, no signature
        return os.path.join(self.root, name[:2], name)

    def _states(self, model_id, generation):
        """(row, path) of a generation's checkpoints, the newest first."""
        return sorted(
            ((rowid, path) for found, rowid, path in _checkpoints(self._parent(model_id)) if found == generation),
            reverse=True,
        )

    def _read(self, path, model_id, generation, rowid):
        for folder in (os.path.dirname(os.path.dirname(path)), os.path.dirname(path), path):
            _require_private(folder)
        _require_private(os.path.join(path, _STATE))
        with io.open(os.path.join(path, _STATE), encoding="utf-8") as stream:
            state = json.load(stream)
        if state.get("format") != FORMAT:
            raise Unusable("checkpoint format %s; known is %d" % (state.get("format"), FORMAT))
        if (state["modelId"], state["generation"], state["rowid"]) != (model_id, generation, rowid):
            raise Unusable("it is one of model %s, row %s" % (state["modelId"], state["rowid"]))
        if dict(_digests(path)) != state["files"]:
            raise Unusable("the files are not those that were written")
        return Checkpoint(model_id, generation, rowid, state["params"], state["results"], os.path.join(path, _MODEL))

    def _write_state(self, path, checkpoint, files):
        state = {
            "format": FORMAT,
            "modelId": checkpoint.model_id,
            "generation": checkpoint.generation,
            "rowid": checkpoint.rowid,
            "params": checkpoint.params,
            "results": checkpoint.results,
            "files": files,
        }
        with io.open(path, "wb") as stream:
            stream.write(json.dumps(state).encode("ascii"))
            stream.flush()
            os.fsync(stream.fileno())

    def _keep_newest(self, parent):
        newest_first = sorted(_checkpoints(parent), reverse=True)
        left = [os.path.join(parent, name) for name in os.listdir(parent) if name.endswith(_PARTIAL)]
        for path in [path for _, _, path in newest_first[_KEPT:]] + [each for each in left if _is_abandoned(each)]:
            _remove(path)


def _checkpoints(parent):
    """(generation, row, path) of each in a model's folder."""
    for name in os.listdir(parent) if os.path.isdir(parent) else ():
        generation, _, rowid = name.partition("-")
        if generation.isdigit() and rowid.isdigit():
            yield int(generation), int(rowid), os.path.join(parent, name)


def _is_abandoned(path):
    return os.stat(path).st_mtime < time.time() - _PARTIAL_S


def _digests(path):
    """(name, SHA-256) of each of the model's files, which are this user's, and no links."""
    for folder, folders, names in os.walk(os.path.join(path, _MODEL)):
        for each in [folder] + [os.path.join(folder, name) for name in folders + names]:
            _require_private(each)
        for name in names:
            full = os.path.join(folder, name)
            yield os.path.relpath(full, path), _sha256(full)


def _sha256(path):
    digest = hashlib.sha256()
    with io.open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _require_private(path):
    """Raises `Unusable` for what others may write, for a link, and for what is neither file nor folder."""
    found = os.lstat(path)
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise Unusable("%s: neither a file nor a folder" % path)
    if found.st_uid not in (os.getuid(), 0):
        raise Unusable("%s: belongs to the user id %d, not to %d" % (path, found.st_uid, os.getuid()))
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise Unusable("%s: others may write it (mode %o; allowed is 700)" % (path, stat.S_IMODE(found.st_mode)))


def _make(path):
    try:
        os.makedirs(path, 0o700)
    except EnvironmentError as error:
        if error.errno != errno.EEXIST:
            raise


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _sync(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
