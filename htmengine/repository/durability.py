# SPDX-License-Identifier: MIT
"""Whether a database server has a commit on the disk before it confirms it, as it is set now.

What is confirmed and lost in a power cut is noticed afterwards: models are made again, and rows that were lost are not
there.  SQLite is set by `htmengine.repository.connections`.
"""

from __future__ import annotations

from sqlalchemy import Connection

#: By dialect: settings, the statement that reads one, and the values that let a commit be lost.
_READ = {"mysql": "SELECT @@{}", "postgresql": "SHOW {}"}
_WEAK: dict[str, dict[str, tuple[str, ...]]] = {
    "mysql": {"innodb_flush_log_at_trx_commit": ("0", "2")},
    "postgresql": {"fsync": ("off",), "synchronous_commit": ("off",)},
}


def weaknesses(conn: Connection) -> list[str]:
    """What is set such that a power cut takes commits that were confirmed, in sentences."""
    kind = conn.dialect.name
    found = []
    for setting, weak in _WEAK.get(kind, {}).items():
        value = str(conn.exec_driver_sql(_READ[kind].format(setting)).scalar())
        if value in weak:
            found.append(
                f"{setting} is {value}: a power cut of the database's host takes rows and scores that were confirmed"
            )
    return found
