# SPDX-License-Identifier: MIT
"""Models on disk: two generations of each, and nothing that damaged files can break."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from htmengine.model_swapper.checkpoints import Checkpoint, CheckpointStore


def checkpoint(rowid: int, *, generation: int = 1, model: bytes = b"state") -> Checkpoint:
    return Checkpoint("m", generation, rowid, model + str(rowid).encode())


class CheckpointStoreTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.store = CheckpointStore(self.root)

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def test_the_newest_two_are_kept_the_newest_first(self) -> None:
        for rowid in (10, 20, 30):
            self.store.save(checkpoint(rowid))
        self.assertEqual(list(self.store.load("m", 1)), [checkpoint(30), checkpoint(20)])
        self.assertEqual(len(self.files()), 2)

    def test_another_generation_is_not_loaded_and_gets_replaced(self) -> None:
        self.store.save(checkpoint(500))
        self.store.save(checkpoint(10, generation=2))
        self.assertEqual(list(self.store.load("m", 2)), [checkpoint(10, generation=2)])
        self.store.save(checkpoint(20, generation=2))
        self.assertEqual(list(self.store.load("m", 1)), [])

    def test_nothing_is_loaded_of_a_model_that_was_never_saved_or_is_deleted(self) -> None:
        self.assertEqual(list(self.store.load("m", 1)), [])
        self.store.save(checkpoint(10))
        self.store.delete("m")
        self.assertEqual(list(self.store.load("m", 1)), [])
        self.assertEqual(self.files(), [])

    def test_a_damaged_file_leaves_the_one_before_and_is_reported(self) -> None:
        self.store.save(checkpoint(10))
        self.store.save(checkpoint(20))
        newest = next(path for path in self.files() if b"state20" in path.read_bytes())
        newest.write_bytes(newest.read_bytes()[:-1])
        self.assertEqual(list(self.store.load("m", 1)), [checkpoint(10)])
        self.assertEqual([path for path, _ in self.store.damaged], [newest])

    def test_a_damaged_file_is_put_aside_and_goes_with_its_model(self) -> None:
        self.store.save(checkpoint(300))
        [path] = self.root.rglob("m.0")
        path.write_bytes(b"")
        self.assertEqual(list(self.store.load("m", 1)), [])
        self.assertEqual(list(self.store.load("m", 1)), [])
        self.assertEqual(self.store.damaged, [(path, "0 bytes are too few for a checkpoint")])
        self.assertEqual([each.name for each in path.parent.iterdir()], ["m.0.damaged"])
        self.store.delete("m")
        self.assertEqual(list(path.parent.iterdir()), [])

    def test_what_is_no_file_or_cannot_be_read_stops_nobody_and_is_replaced(self) -> None:
        def fifo(path: Path) -> None:
            os.mkfifo(path)

        def folder(path: Path) -> None:
            (path / "below").mkdir(parents=True)

        def unix_socket(path: Path) -> None:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(os.path.relpath(path))

        def device(path: Path) -> None:
            path.symlink_to("/dev/zero")

        def nowhere(path: Path) -> None:
            path.symlink_to("/no/such/file")

        for put in (fifo, folder, unix_socket, device, nowhere, folder):
            self.store.save(checkpoint(300))
            for path in [*self.root.rglob("m.0"), *self.root.rglob("m.1")]:
                path.unlink()
                put(path)
            self.assertEqual(self.store.newest_rowid("m", 1), -1)
            self.assertEqual(list(self.store.load("m", 1)), [], put)
            self.assertEqual(len(self.store.damaged), 1, self.store.damaged)
            self.store.damaged.clear()
            for rowid in (301, 302):
                self.store.save(checkpoint(rowid))
            self.assertEqual(list(self.store.load("m", 1)), [checkpoint(302), checkpoint(301)])
            self.store.delete("m")
            self.assertEqual(self.files(), [])

    def test_folders_that_come_while_the_engine_runs_make_room_for_checkpoints(self) -> None:
        for rowid in (300, 301):
            self.store.save(checkpoint(rowid))
        for path in self.files():
            path.unlink()
            path.mkdir()
        for rowid in (302, 303):
            self.store.save(checkpoint(rowid))
        self.assertEqual(list(self.store.load("m", 1)), [checkpoint(303), checkpoint(302)])

    def test_a_file_that_cannot_be_read_is_told_and_replaced(self) -> None:
        self.store.save(checkpoint(300))
        [path] = self.files()

        def refuse(path: Path, _flags: int) -> int:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        with mock.patch("os.open", refuse):  # tests may run as root, whom no permission stops
            self.assertEqual(list(self.store.load("m", 1)), [])
        self.assertEqual([each for each, _ in self.store.damaged], [path])
        self.store.save(checkpoint(301))
        self.assertEqual(list(self.store.load("m", 1)), [checkpoint(301)])

    def test_a_file_of_another_model_is_not_taken(self) -> None:
        self.store.save(checkpoint(300))
        [path] = self.root.rglob("m.0")
        path.with_name("n.0").write_bytes(path.read_bytes())
        store = CheckpointStore(self.root)
        self.patch(store, "_slots", lambda model_id: [path.with_name(f"{model_id}.0")])  # in the same folder
        self.assertEqual(list(store.load("n", 1)), [])
        self.assertEqual([why for _, why in store.damaged], ["it is one of model m"])

    def test_a_damaged_file_is_the_next_to_be_replaced(self) -> None:
        self.store.save(checkpoint(10))
        self.store.save(checkpoint(20))
        newest = next(path for path in self.files() if b"state20" in path.read_bytes())
        newest.write_bytes(b"")
        self.store.save(checkpoint(30))
        self.assertEqual(list(self.store.load("m", 1)), [checkpoint(30), checkpoint(10)])

    def test_an_old_state_never_replaces_a_newer_one(self) -> None:
        self.store.save(checkpoint(100))
        self.store.save(checkpoint(200))
        CheckpointStore(self.root).save(checkpoint(50))  # by a scheduler that lost the shard long ago
        self.assertEqual(list(self.store.load("m", 1)), [checkpoint(200), checkpoint(100)])
        self.assertEqual(self.store.newest_rowid("m", 1), 200)
        self.assertEqual(self.store.newest_rowid("m", 2), -1)

    def test_what_cannot_be_used_is_replaced_by_any_state(self) -> None:
        self.store.save(checkpoint(100))
        self.store.save(checkpoint(200))
        for path in self.files():
            path.write_bytes(path.read_bytes()[:-1])
        self.assertEqual(list(self.store.load("m", 1)), [])
        self.store.save(checkpoint(50))
        self.assertEqual(list(self.store.load("m", 1)), [checkpoint(50)])

    def test_a_write_that_was_cut_off_is_not_seen(self) -> None:
        self.store.save(checkpoint(10))
        [saved] = self.files()
        saved.with_name(saved.name[:-1] + "1.partial").write_bytes(saved.read_bytes()[:20])
        self.assertEqual(list(self.store.load("m", 1)), [checkpoint(10)])

    def test_what_a_dead_writer_left_is_removed_and_what_others_write_is_not(self) -> None:
        self.store.save(checkpoint(10))
        [saved] = self.files()
        host, gone = socket.gethostname(), subprocess.Popen(["true"])
        gone.wait()
        partials = {
            writer: saved.with_name(f"{saved.name}.{writer}.partial")
            for writer in (
                f"{host}-{gone.pid}",
                f"{host}-{os.getpid()}",
                f"{host}-{os.getppid()}",
                "else.where-7",
                "old-1",
            )
        }
        for path in partials.values():
            path.write_bytes(b"half a checkp")
        os.utime(partials["old-1"], (0, 0))
        self.assertEqual(self.store.remove_partials(time.time()), 3)
        left = [partials[f"{host}-{os.getppid()}"], partials["else.where-7"]]
        self.assertEqual(self.files(), sorted([saved, *left]))

    def test_there_may_be_no_folder_yet_to_remove_partials_from(self) -> None:
        self.assertEqual(self.store.remove_partials(0.0), 0)

    def test_a_folder_that_cannot_be_written_says_so(self) -> None:
        self.root.write_bytes(b"a file where the folder should be")
        with self.assertRaises(OSError):
            self.store.save(checkpoint(10))

    @given(data=st.data())
    def test_no_flipped_bit_goes_unnoticed(self, data: st.DataObject) -> None:
        store = CheckpointStore(Path(self.mktemp()), durable=False)
        store.save(checkpoint(10))
        path = next(path for path in store._root.rglob("*") if path.is_file())
        content = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        self.assertEqual(list(store.load("m", 1)), [])
        self.assertEqual(len(store.damaged), 1)

    @given(content=st.binary(max_size=200))
    def test_foreign_bytes_are_refused(self, content: bytes) -> None:
        store = CheckpointStore(Path(self.mktemp()), durable=False)
        store.save(checkpoint(10))
        path = next(path for path in store._root.rglob("*") if path.is_file())
        path.write_bytes(content)
        self.assertEqual(list(store.load("m", 1)), [])
