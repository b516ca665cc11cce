# SPDX-License-Identifier: MIT
"""The names of metrics as a tree of nodes with dots between, of which a part is read.

In: what names begin with, and globs of ``*``.  Out: names in order, a page at a time, without most of what is below
the nodes that are asked for: one level of a hundred thousand metrics takes a few steps through the index of names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, bindparam, collate, or_, select, true

from htmengine.repository.schema import metric

#: Names that are read at once: few while they lead from branch to branch, more and more where they do not.
FIRST_PAGE = 200
GREATEST_PAGE = 10_000
#: Sorts behind all that can be in a name.
_LAST = "\U0010ffff"


def names_in_tree(conn: Connection, prefix: str, globs: Sequence[str], depth: int) -> Iterator[str]:
    """The names that begin so and are like one of the globs, in order.

    Of names that share their first ``depth`` nodes and have more of them, at least one.
    """
    c = metric.c.name
    like = or_(*map(_like, globs))
    if conn.dialect.name == "postgresql":  # its indexes may have a language's order
        ordered = collate(c, "C")
        begins = c.startswith(prefix, autoescape=True) if prefix else true()
        yield from conn.execute(select(c).where(begins, like).order_by(ordered)).scalars()
        return
    first, seen, size = prefix, "", FIRST_PAGE
    page = select(c).where(c >= bindparam("first"), c != bindparam("seen"), c < prefix + _LAST, like)
    query = page.order_by(c).limit(bindparam("size"))
    while True:
        names = conn.execute(query, {"first": first, "seen": seen, "size": size}).scalars().all()
        yield from names
        if len(names) < size:
            return
        branch = _branch(names[-1], depth)
        first, seen = (names[-1], names[-1]) if branch is None else (f"{branch}.{_LAST}", "")
        if branch is None or not names[0].startswith(f"{branch}."):
            size = min(2 * size, GREATEST_PAGE)


def _branch(name: str, depth: int) -> str | None:
    """The first nodes of a name that has more.

    >>> _branch("dc1.web1.load", 2), _branch("dc1.web1", 2)
    ('dc1.web1', None)
    """
    nodes = name.split(".", depth)
    return ".".join(nodes[:depth]) if len(nodes) > depth else None


def _like(glob: str) -> ColumnElement[bool]:
    """Where a glob has no star, it is the name itself."""
    if "*" not in glob:
        return metric.c.name == glob
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
    return metric.c.name.like(escaped, escape="\\")
