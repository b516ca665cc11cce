# SPDX-License-Identifier: MIT
"""Messages that the database is too old for: an embedded engine lets them go before its services start.

In: the bus's file and the database, whose rows end where they ended when it was copied or the power failed.  Out: the
file without messages between the services about rows or models that the database does not have.  Nothing new has
been stored yet, so a message about rows that it has is about these very rows.  What it let go is asked for again by
the storer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection

from htmengine.bus.queue_file import QueueFile
from htmengine.errors import InvalidMessage, UnroutableMessage
from htmengine.messages import (
    DELETE_MODEL,
    ModelCommand,
    ModelInput,
    ModelResult,
    ModelSnapshot,
    decode_model_message,
    decode_result_message,
)
from htmengine.repository import queries, set_aside
from htmengine.repository.engine import Database
from htmengine.runtime.detector_states import last_rowid

#: Read at once.
READ_MESSAGES = 500
READ_BYTES = 8 << 20
#: What operators are told.
REASON = "rows or models that the database does not have: it is older than the queue"

#: (uid, generation, last row): what a message is about.
Subject: TypeAlias = tuple[str, int, int]


def drop_stale(file: QueueFile, database: Database, model_queues: Sequence[str], results_queue: str, now: int) -> int:
    """Remove and count them; they are reported as messages that were set aside.  Returns how many."""
    readers = [(queue, decode_model_message) for queue in model_queues] + [(results_queue, decode_result_message)]
    return sum(_drop_from(queue, decode, file, database, now) for queue, decode in readers)


def _drop_from(queue: str, decode: Callable[[bytes], Any], file: QueueFile, database: Database, now: int) -> int:
    dropped, after, complete = 0, 0, False
    while not complete:
        try:
            part = file.read(queue, after, READ_MESSAGES, READ_BYTES)
        except UnroutableMessage:
            return dropped  # nobody has declared it yet
        after, complete = part.end, part.complete
        about = {id_: _subjects(decode, body) for id_, _, body in part.messages}
        uids = {uid for subjects in about.values() for uid, _, _ in subjects}
        ends = database.read_sync(_ends, sorted(uids))
        stale = [id_ for id_, subjects in about.items() if any(_is_ahead(each, ends) for each in subjects)]
        if stale:
            database.run_sync(set_aside.add, queue, [REASON] * len(stale), now)
            with file.transaction():
                file.remove(queue, stale)
        dropped += len(stale)
    return dropped


def _subjects(decode: Callable[[bytes], Any], body: bytes) -> list[Subject]:
    """What cannot be read, and what only deletes, is the services' to deal with."""
    try:
        message = decode(body)
    except InvalidMessage:
        return []
    return [
        (part.model_id, part.generation, _last_row(part))
        for part in (message if isinstance(message, Iterable) else [message])
        if not (isinstance(part, ModelCommand) and part.method == DELETE_MODEL)
    ]


def _last_row(part: Any) -> int:
    match part:
        case ModelInput():
            return part.last_rowid
        case ModelResult() | ModelSnapshot():
            return last_rowid(part)
    return 0


def _ends(conn: Connection, uids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Each metric's generation and last row."""
    return {
        metric.uid: (metric.definition.generation if metric.definition else 0, metric.last_rowid)
        for metric in queries.get_metrics(conn, uids)
    }


def _is_ahead(subject: Subject, ends: Mapping[str, tuple[int, int]]) -> bool:
    """What is about a metric that is gone finds no model."""
    uid, generation, rowid = subject
    newest, last = ends.get(uid, (generation, rowid))
    return generation > newest or rowid > last
