# SPDX-License-Identifier: MIT
"""The statements by which an administrator makes a database and its user.

In: the kind of server, a name and a password.  Out: SQL, for ``htmengine init`` to run, or for the administrator.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import ProgrammingError

from htmengine.errors import ConfigError
from htmengine.repository.connections import DRIVERS, database_url, make_engine
from htmengine.repository.failures import in_one_line

#: Names and passwords of these need no quoting.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}")

_STATEMENTS = {
    "mysql": (
        "CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4",
        "CREATE USER IF NOT EXISTS '{name}'@'%' IDENTIFIED BY '{password}'",
        "GRANT ALL ON `{name}`.* TO '{name}'@'%'",
    ),
    "postgresql": (
        "CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'",
        'CREATE DATABASE "{name}" OWNER "{name}" ENCODING \'UTF8\' TEMPLATE template0',
    ),
}
#: PostgreSQL cannot say IF NOT EXISTS of them: a role, a database.
_IS_THERE = {"42710", "42P04"}
#: Where a server listens, by its kind.
PORTS = {"mysql": 3306, "postgresql": 5432}


def statements(kind: str, name: str, password: str) -> list[str]:
    """Make a database and a user of the same name, unless they are there; a user who is there keeps the password.

    Raises `ConfigError` for a name that would need quoting.

    >>> statements("mysql", "htmengine", "secret")[1]
    "CREATE USER IF NOT EXISTS 'htmengine'@'%' IDENTIFIED BY 'secret'"
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


def check_administrator(kind: str, admin_url: str) -> None:
    """Raises `ConfigError` unless the URL is one of such a server.

    >>> check_administrator("mysql", "mysql://root@db1")
    """
    try:
        backend = database_url(admin_url).get_backend_name()
    except ConfigError:
        backend = ""
    if backend != kind:
        raise ConfigError([f"--admin-url: a URL such as {kind}://user:password@host is allowed (--database {kind})"])


def run(admin_url: str, statements: list[str]) -> None:
    """Run statements as an administrator.  Raises `DatabaseFailed` and `ConfigError`."""
    with _connected(admin_url, "--admin-url") as conn:
        for statement in statements:
            try:
                conn.execute(text(statement))
            except ProgrammingError as error:
                if getattr(error.orig, "sqlstate", None) not in _IS_THERE:
                    raise


def reach(server_url: str) -> None:
    """Connect once.  Raises `DatabaseFailed` and `ConfigError`."""
    with _connected(server_url, "[repository] in application.conf") as conn:
        conn.execute(text("SELECT 1"))


@contextlib.contextmanager
def _connected(server_url: str, settings: str) -> Iterator[Connection]:
    """``settings``: where the URL was written."""
    option = settings.removesuffix(" in application.conf")
    engine = make_engine(server_url, option=option, database=database_url(server_url, option).database or "")
    try:
        with (
            in_one_line(server_url, settings),
            engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn,
        ):
            yield conn
    finally:
        engine.dispose()
