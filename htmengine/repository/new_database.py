# SPDX-License-Identifier: MIT
"""The statements by which an administrator makes a database and its user.

In: the kind of server, a name and a password.  Out: SQL, for ``htmengine init`` to run, or for the administrator.
"""

from __future__ import annotations

import re

from sqlalchemy import URL, text

from htmengine.errors import ConfigError
from htmengine.repository.connections import DRIVERS, make_engine
from htmengine.repository.failures import in_one_line

#: Names and passwords of these need no quoting.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}")

_STATEMENTS = {
    "mysql": (
        "CREATE DATABASE `{name}` CHARACTER SET utf8mb4",
        "CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'",
        "GRANT ALL ON `{name}`.* TO '{name}'@'%'",
    ),
    "postgresql": (
        "CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'",
        'CREATE DATABASE "{name}" OWNER "{name}" ENCODING \'UTF8\' TEMPLATE template0',
    ),
}
#: Where a server listens, by its kind.
PORTS = {"mysql": 3306, "postgresql": 5432}


def statements(kind: str, name: str, password: str) -> list[str]:
    """Make a database and a user of the same name.  Raises `ConfigError` for a name that would need quoting.

    >>> statements("mysql", "htmengine", "secret")[1]
    "CREATE USER 'htmengine'@'%' IDENTIFIED BY 'secret'"
    """
    for given in (name, password):
        if not _PLAIN.fullmatch(given):
            raise ConfigError([f"name {name!r}: up to 32 of A-Z a-z 0-9 _ - are allowed"])
    return [statement.format(name=name, password=password) for statement in _STATEMENTS[kind]]


def url(kind: str, host: str, port: int, name: str, password: str) -> str:
    """SQLAlchemy's name of that database.

    >>> url("postgresql", "db1", 5432, "htm", "secret")
    'postgresql+psycopg://htm:secret@db1:5432/htm'
    """
    query = {"charset": "utf8mb4"} if kind == "mysql" else {}
    made = URL.create(DRIVERS[kind], name, password, host, port, name, query)
    return made.render_as_string(hide_password=False)


def run(admin_url: str, statements: list[str]) -> None:
    """Run statements as an administrator.  Raises `DatabaseFailed` and `ConfigError`."""
    engine = make_engine(admin_url)
    try:
        with in_one_line(admin_url), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            for statement in statements:
                conn.execute(text(statement))
    finally:
        engine.dispose()


def reach(database_url: str) -> None:
    """Connect once.  Raises `DatabaseFailed` and `ConfigError`."""
    run(database_url, ["SELECT 1"])
