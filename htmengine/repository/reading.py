# SPDX-License-Identifier: MIT
"""What the HTTP API shows: pages of metrics, rows for tables and plots, anomalies over all metrics.

In: a connection and bounds from requests.  Out: plain rows, never more than was asked for: what is long is made
small by the database.  Each function is synchronous, takes ``conn`` first and only reads.

Within a metric rowids and timestamps grow together, so that a range of time is a range of rowids, found by a few
steps through the primary key; there is no index on timestamps alone.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Boolean, ColumnElement, Connection, Integer, and_, case, false, func, null, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from htmengine.errors import MetricNotFound
from htmengine.labels import DIGEST_MARK, spellings
from htmengine.repository import label_conditions
from htmengine.repository.queries import MetricStatus
from htmengine.repository.schema import anomaly, metric, metric_counter, metric_data, metric_score, metric_text
from htmengine.repository.times import from_datetime, to_datetime
from htmengine.selectors import Metric as SelectedMetric
from htmengine.selectors import Selector, has_labels, parse_selector

_Row = TypeVar("_Row")
_Key = TypeVar("_Key")

#: Sorts metrics that have no score behind all others.
_NO_SCORE = -1.0
#: Metrics with the greatest scores that a search is tried on first, for each one that is wanted.
_CHOSEN_OF = 10
#: Rows of a long answer that are in memory at a time.
ROWS_AT_ONCE = 10_000
#: Metrics' buckets that a picture of the fleet is made of, at most.
MOST_UNUSUAL = 100_000


class _Epoch(GenericFunction[int]):
    """A timestamp column as epoch seconds, counted by the database."""

    type = Integer()
    name = "epoch"
    inherit_cache = True


@compiles(_Epoch, "sqlite")
def _sqlite_epoch(element: Any, compiler: Any, **kw: Any) -> str:
    # strftime('%s', ...) writes a text first and takes two and a half times as long
    return f"CAST((julianday({compiler.process(element.clauses, **kw)}) - 2440587.5) * 86400.0 + 0.5 AS INTEGER)"


@compiles(_Epoch, "mysql")
def _mysql_epoch(element: Any, compiler: Any, **kw: Any) -> str:
    return f"TIMESTAMPDIFF(SECOND, '1970-01-01', {compiler.process(element.clauses, **kw)})"


@compiles(_Epoch, "postgresql")
def _postgresql_epoch(element: Any, compiler: Any, **kw: Any) -> str:
    return f"CAST(EXTRACT(EPOCH FROM {compiler.process(element.clauses, **kw)}) AS BIGINT)"


class _LikeInEitherCase(GenericFunction[bool]):
    """LIKE, escaped by backslashes; SQLite's own takes letters in either case and a third of the time."""

    type = Boolean()
    name = "like_in_either_case"
    inherit_cache = True


@compiles(_LikeInEitherCase)
def _ilike(element: Any, compiler: Any, **kw: Any) -> str:
    column, pattern = element.clauses
    return str(compiler.process(column.ilike(pattern, escape="\\"), **kw))


@compiles(_LikeInEitherCase, "sqlite")
def _sqlite_like(element: Any, compiler: Any, **kw: Any) -> str:
    column, pattern = element.clauses
    return str(compiler.process(column.like(pattern, escape="\\"), **kw))


# --- metrics --------------------------------------------------------------------------------------------


class MetricRow(NamedTuple):
    """A metric as lists show it, with its newest scored row (None: no row is scored)."""

    uid: str
    datasource: str
    name: str
    description: str | None
    server: str | None
    location: str | None
    parameters: str | None
    status: int
    message: str | None
    last_timestamp: Any
    model_params: str | None
    last_rowid: int
    rowid: int | None
    timestamp: Any
    metric_value: float | None
    raw_anomaly_score: float | None
    anomaly_score: float | None
    evidence_from: int | None
    interval_s: float | None
    interval_since: int | None
    is_rate: bool  #: its rows are rates of a counter
    text: str | None  #: the whole text of a metric whose name is a short identity


class PageKey(NamedTuple):
    """Where a page of metrics ends; ``score`` matters when they are sorted by it."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """Which metrics, in what order.

    ``search``: part of the name, or a pattern with * and ? for the whole, or a selector with labels.
    """

    search: str = ""
    statuses: Collection[MetricStatus] = ()
    by_score: bool = False

    def _conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.search and not has_labels(self.search):
            found.append(or_(name_matches(self.search), _text_matches(self.search)))
        if self.search and has_labels(self.search):
            found.append(label_conditions.may_select(parse_selector(self.search)))
        if self.statuses:
            found.append(metric.c.status.in_([int(status) for status in self.statuses]))
        return found


def _text_matches(search: str) -> ColumnElement[bool]:
    """The same of the whole text of a metric whose name is a short identity: no other name is looked up."""
    c = metric_text.alias().c  # the query may have the table itself
    return and_(metric.c.name.contains(DIGEST_MARK), metric.c.uid.in_(select(c.uid).where(_matches(c.text, search))))


def _name_may_be(search: str) -> ColumnElement[bool]:
    return label_conditions.may_select(parse_selector(search)) if has_labels(search) else name_matches(search)


def name_matches(search: str) -> ColumnElement[bool]:
    """Whether a metric's name contains a text, or matches a pattern with * and ?; letters in either case."""
    return _matches(metric.c.name, search)


def _matches(column: ColumnElement[str], search: str) -> ColumnElement[bool]:
    escaped = re.sub(r"([\\%_])", r"\\\1", search)
    pattern = escaped.replace("*", "%").replace("?", "_") if "*" in search or "?" in search else f"%{escaped}%"
    return func.like_in_either_case(column, pattern)


def name_pattern(search: str) -> re.Pattern[str]:
    """As `name_matches` with patterns, for names in memory; without * and ? only the name itself matches.

    >>> bool(name_pattern("web.*").match("web.requests")), bool(name_pattern("web").match("web.requests"))
    (True, False)
    """
    quoted = "".join("[[]" if character == "[" else character for character in search)
    return re.compile(fnmatch.translate(quoted))


def page_of_metrics(conn: Connection, query: MetricQuery, after: PageKey | None, limit: int) -> list[MetricRow]:
    """At most ``limit`` metrics after a key; by name, or greatest newest score first.  Raises `InvalidRule`."""

    def page(after: PageKey | None, limit: int) -> list[MetricRow]:
        return _page_of_metrics(conn, query, after, limit)

    return _selected(selector_of(query.search), page, lambda row: row.text or row.name, key_of, after, limit)


def selector_of(search: str) -> Selector | None:
    """A search as a selector with labels, which no condition of SQL can tell.  Raises `InvalidRule`."""
    return parse_selector(search) if has_labels(search) else None


def _selected(
    selector: Selector | None,
    page: Callable[[_Key | None, int], list[_Row]],
    text_of: Callable[[_Row], str],
    key_of: Callable[[_Row], _Key],
    after: _Key | None,
    limit: int,
) -> list[_Row]:
    """At most ``limit`` rows after a key that the selector takes, out of page after page."""
    if selector is None:
        return page(after, limit)
    found: list[_Row] = []
    size = limit
    while len(found) < limit:
        rows = page(after, size)
        found += [row for row in rows if selector.takes(SelectedMetric.of(text_of(row)))]
        if len(rows) < size:
            break
        after, size = key_of(rows[-1]), min(4 * size, ROWS_AT_ONCE)
    return found[:limit]


def _page_of_metrics(conn: Connection, query: MetricQuery, after: PageKey | None, limit: int) -> list[MetricRow]:
    if query.by_score:
        least = _least_score(conn, after, _CHOSEN_OF * limit if query._conditions() else limit)
        found = (
            [] if least is None else _metrics_after(conn, query, after, limit, metric_score.c.anomaly_score >= least)
        )
        if len(found) == limit:
            return found
    return _metrics_after(conn, query, after, limit)


def _least_score(conn: Connection, after: PageKey | None, limit: int) -> float | None:
    """A score that about ``limit`` metrics after a key reach, told by the scores alone; None: fewer have one.

    So not all metrics are joined and sorted for one page.
    """
    score = metric_score.c.anomaly_score
    found = select(score).where(score.is_not(None)).order_by(score.desc()).offset(limit).limit(1)
    return conn.execute(found if after is None else found.where(score <= after.score)).scalar_one_or_none()


def _metrics_after(
    conn: Connection, query: MetricQuery, after: PageKey | None, limit: int, *conditions: ColumnElement[bool]
) -> list[MetricRow]:
    score = func.coalesce(metric_score.c.anomaly_score, _NO_SCORE)
    if after is not None:
        later = metric.c.name > after.name
        if query.by_score:
            later = or_(score < after.score, and_(score == after.score, later))
        conditions = (*conditions, later)
    conditions = (*query._conditions(), *conditions)
    if query.by_score:
        return _metric_rows(conn, conditions, [score.desc(), metric.c.name], limit)
    page = select(metric.c.uid).where(*conditions).order_by(metric.c.name).limit(limit)  # first, as rows are wide
    return _metric_rows(conn, [metric.c.uid.in_(select(page.subquery().c.uid))], [metric.c.name], limit)


def key_of(row: MetricRow) -> PageKey:
    """The key of the page that ends with a metric."""
    return PageKey(row.name, _NO_SCORE if row.anomaly_score is None else row.anomaly_score)


def count_metrics(conn: Connection, query: MetricQuery) -> int:
    """How many metrics there are in all pages.  Raises `InvalidRule`."""
    selector = selector_of(query.search)
    if selector is not None:
        texts = select(func.coalesce(metric_text.c.text, metric.c.name)).select_from(metric.outerjoin(metric_text))
        told, conditions = 0, query._conditions()
        if selector.glob is None and label_conditions.is_exact(selector.matchers):
            count = select(func.count(), func.count(case((label_conditions.unclear(), 1)))).select_from(metric)
            several, left = conn.execute(count.where(*conditions)).one()
            told, conditions = several - left, [*conditions, label_conditions.unclear() if left else false()]
        found = conn.execute(texts.where(*conditions)).scalars()
        return int(told) + sum(selector.takes(SelectedMetric.of(text)) for text in found)
    return int(conn.execute(select(func.count()).select_from(metric).where(*query._conditions())).scalar_one())


def one_metric(conn: Connection, name: str) -> MetricRow | None:
    """The metric of that name, however its tags are sorted, or else of that uid."""
    names = spellings(name)
    rows = {row.name: row for row in _metric_rows(conn, [or_(metric.c.name.in_(names), metric.c.uid == name)], [], 3)}
    return next((rows[each] for each in (*names, *rows) if each in rows), None)


def find_metric(conn: Connection, name: str) -> MetricRow:
    """As `queries.find_metric`, with what is known of its newest scores.  Raises `MetricNotFound`."""
    row = one_metric(conn, name)
    if row is None:
        raise MetricNotFound(name)
    return row


def metrics_with_prefix(conn: Connection, prefix: str, limit: int | None = None) -> dict[str, str]:
    """The uids of the metrics whose names begin so, by name, in order: all, or the first ones."""
    query = select(metric.c.name, metric.c.uid).where(metric.c.name.startswith(prefix, autoescape=True))
    return {
        name: uid for name, uid in conn.execute(query.order_by(metric.c.name).limit(limit)) if name.startswith(prefix)
    }


def each_metric(conn: Connection, where: ColumnElement[bool] | None = None) -> Iterator[tuple[str, str]]:
    """(name, uid) of all metrics, in order, one by one: to free half a million at once would hold every thread."""
    query = select(metric.c.name, metric.c.uid).order_by(metric.c.name)
    return ((row.name, row.uid) for row in conn.execute(query if where is None else query.where(where)))


def values_of_label(conn: Connection, label: str, where: ColumnElement[bool]) -> dict[str | None, int]:
    """The values that a label has, and how many names have them; None: names that are `label_conditions.unclear`."""
    unclear, has_it = label_conditions.unclear(), label_conditions.has_label(label)
    value = case((unclear, null()), else_=label_conditions.value_of(label)).label("value")
    conditions = [where, *([] if label == label_conditions.NAME else [or_(has_it, unclear)])]
    rows = conn.execute(select(value, func.count()).where(*conditions).group_by("value"))
    return {each: count for each, count in rows}  # noqa: C416  (rows are no pairs to mypy)


def a_name(conn: Connection, *where: ColumnElement[bool]) -> str | None:
    """The name of a metric, if there is one."""
    return conn.execute(select(metric.c.name).where(*where).limit(1)).scalar()


def names_with_prefix(conn: Connection, prefix: str) -> Iterator[str]:
    """The names of all metrics that begin so, in no order, one by one: an index alone is read."""
    query = (
        select(metric.c.name).where(metric.c.name.startswith(prefix, autoescape=True))
        if prefix
        else select(metric.c.name)
    )
    return (name for name in conn.execute(query).scalars() if name.startswith(prefix))


def metrics_named(conn: Connection, names: Sequence[str]) -> dict[str, str]:
    """The uids of the metrics with exactly these names, by name."""
    query = select(metric.c.name, metric.c.uid).where(metric.c.name.in_(names))
    return {name: uid for name, uid in conn.execute(query) if name in names}


def _metric_rows(
    conn: Connection, conditions: Sequence[ColumnElement[bool]], order: Sequence[Any], limit: int
) -> list[MetricRow]:
    m, s = metric.c, metric_score.c
    columns = (
        *(m.uid, m.datasource, m.name, m.description, m.server, m.location, m.parameters, m.status, m.message),
        *(m.last_timestamp, m.model_params, m.last_rowid),
        *(s.rowid, s.timestamp, s.metric_value, s.raw_anomaly_score, s.anomaly_score, s.evidence_from),
        *(s.interval_s, s.interval_since),
        *(metric_counter.c.uid.is_not(None), metric_text.c.text),
    )
    tables = metric.outerjoin(metric_score).outerjoin(metric_counter, metric_counter.c.uid == m.uid)
    query = select(*columns).select_from(tables.outerjoin(metric_text, metric_text.c.uid == m.uid)).where(*conditions)
    return [MetricRow._make(row) for row in conn.execute(query.order_by(*order).limit(limit))]


def status_counts(conn: Connection) -> dict[MetricStatus, int]:
    """How many metrics are in each status."""
    found = dict.fromkeys(MetricStatus, 0)
    for status, count in conn.execute(select(metric.c.status, func.count()).group_by(metric.c.status)):
        found[MetricStatus(status)] += count
    return found


# --- rows of one metric ---------------------------------------------------------------------------------


class DataRow(NamedTuple):
    """A stored row; scores are None until it is scored."""

    rowid: int
    timestamp: int
    value: float
    raw_anomaly_score: float | None
    anomaly_score: float | None


class Span(NamedTuple):
    """Rowids from ``first`` to ``last``, both included; empty when last < first."""

    first: int
    last: int

    @property
    def rows(self) -> int:
        """How many rows it has: rowids count 1, 2, 3, and rows go oldest first."""
        return max(0, self.last - self.first + 1)


def span_of(conn: Connection, uid: str, start: int | None, end: int | None) -> Span:
    """The rows from one timestamp to another, both included; None: no bound."""
    c = metric_data.c
    rows = select(c.rowid, c.timestamp).where(c.uid == uid).limit(1)
    first = conn.execute(rows.order_by(c.rowid)).first()
    last = conn.execute(rows.order_by(c.rowid.desc())).first()  # both in one query: a scan on SQLite
    if first is None or last is None:
        return Span(1, 0)
    ends = _Place(first.rowid, from_datetime(first.timestamp)), _Place(last.rowid, from_datetime(last.timestamp))
    low = first.rowid if start is None else _first_at(conn, uid, *ends, start)
    high = last.rowid if end is None else _first_at(conn, uid, *ends, end + 1) - 1
    return Span(low, high)


class _Place(NamedTuple):
    """A row."""

    rowid: int
    timestamp: int


def _first_at(conn: Connection, uid: str, first: _Place, last: _Place, timestamp: int) -> int:
    """The first rowid with a timestamp at or after one; that after the last if there is none.

    Where a metric comes regularly a guess is right at once; every other step halves what is left, so that it takes no
    more than twice the steps of a bisection where it does not.  Rowids that are missing are passed over.
    """
    if timestamp <= first.timestamp:
        return first.rowid
    if timestamp > last.timestamp:
        return last.rowid + 1
    below, above = first, last  # below is too early, above is not
    guessing = True
    while below.rowid + 1 < above.rowid:
        middle = _guess(below, above, timestamp) if guessing else (below.rowid + above.rowid) // 2
        found = _row_at(conn, uid, middle)
        if found.timestamp >= timestamp:
            above = _Place(middle, found.timestamp)
        else:
            below = found
        guessing = not guessing
    return above.rowid


def _guess(below: _Place, above: _Place, timestamp: int) -> int:
    """The rowid at a timestamp if they grow evenly; strictly between two."""
    share = (timestamp - below.timestamp) / (above.timestamp - below.timestamp)
    guess = below.rowid + round(share * (above.rowid - below.rowid))
    return min(max(guess, below.rowid + 1), above.rowid - 1)


def _row_at(conn: Connection, uid: str, rowid: int) -> _Place:
    """The first row from a rowid on."""
    c = metric_data.c
    query = select(c.rowid, c.timestamp).where(c.uid == uid, c.rowid >= rowid).order_by(c.rowid).limit(1)
    found = conn.execute(query).one()
    return _Place(found.rowid, from_datetime(found.timestamp))


def rows_of(conn: Connection, uid: str, span: Span, limit: int, *, newest: bool = False) -> list[DataRow]:
    """The first (or newest) rows of a span, in the order of time."""
    c = metric_data.c
    query = select(c.rowid, c.timestamp, c.metric_value, c.raw_anomaly_score, c.anomaly_score).where(
        c.uid == uid, c.rowid.between(span.first, span.last)
    )
    found = conn.execute(query.order_by(c.rowid.desc() if newest else c.rowid).limit(limit))
    rows = [DataRow(rowid, from_datetime(timestamp), *rest) for rowid, timestamp, *rest in found]
    return rows[::-1] if newest else rows


def raw_scored_rows(conn: Connection, uid: str, span: Span) -> list[tuple[int, int, float, float]]:
    """(rowid, timestamp, value, raw score) of a span's first rows that have a raw score, at most `ROWS_AT_ONCE`."""
    c = metric_data.c
    query = select(c.rowid, func.epoch(c.timestamp), c.metric_value, c.raw_anomaly_score).where(
        c.uid == uid, c.rowid.between(span.first, span.last), c.raw_anomaly_score.is_not(None)
    )
    rows = conn.execute(query.order_by(c.rowid).limit(ROWS_AT_ONCE))
    return [(rowid, timestamp, value, raw) for rowid, timestamp, value, raw in rows]


def timestamps_at(conn: Connection, uid: str, span: Span) -> tuple[int, int] | tuple[None, None]:
    """The first and the last timestamp of a span; None and None if it has no rows."""
    c = metric_data.c
    rows = select(c.timestamp).where(c.uid == uid, c.rowid.between(span.first, span.last)).limit(1)
    first = conn.execute(rows.order_by(c.rowid)).scalar()
    last = conn.execute(rows.order_by(c.rowid.desc())).scalar()
    return (None, None) if first is None or last is None else (from_datetime(first), from_datetime(last))


class Bucket(NamedTuple):
    """The rows of ``step`` seconds from ``timestamp``; scores are the greatest, None if no row is scored."""

    timestamp: int
    rows: int
    minimum: float
    maximum: float
    last: float
    raw_anomaly_score: float | None
    anomaly_score: float | None


def buckets_of(conn: Connection, uid: str, span: Span, step: int) -> list[Bucket]:
    """A span in buckets of whole multiples of ``step`` seconds; empty ones are left out.

    The database sums up, so that memory depends on the number of buckets and not on that of rows.
    """
    c = metric_data.c
    number = func.epoch(c.timestamp) // step
    grouped = (
        select(
            number.label("bucket"),
            func.count().label("rows"),
            func.min(c.metric_value).label("minimum"),
            func.max(c.metric_value).label("maximum"),
            func.max(c.rowid).label("newest"),
            func.max(c.raw_anomaly_score).label("raw"),
            func.max(c.anomaly_score).label("anomaly"),
        )
        .where(c.uid == uid, c.rowid.between(span.first, span.last))
        .group_by("bucket")
        .subquery()
    )
    g = grouped.c
    query = (
        select(g.bucket, g.rows, g.minimum, g.maximum, c.metric_value, g.raw, g.anomaly)
        .select_from(grouped.join(metric_data, and_(c.uid == uid, c.rowid == g.newest)))
        .order_by(g.bucket)
    )
    return [Bucket(int(number) * step, *rest) for number, *rest in conn.execute(query)]


#: What `points_of` makes of the rows of a bucket.
MEAN_VALUE: ColumnElement[float] = func.avg(metric_data.c.metric_value)
GREATEST_SCORE: ColumnElement[float] = func.max(metric_data.c.anomaly_score)
GREATEST_RAW_SCORE: ColumnElement[float] = func.max(metric_data.c.raw_anomaly_score)


def points_of(
    conn: Connection, uid: str, span: Span, step: int, figure: ColumnElement[float]
) -> Iterator[tuple[int, float | None]]:
    """(timestamp, figure) of the buckets of `buckets_of`, in any order: half the work where one figure is enough."""
    c = metric_data.c
    number = (func.epoch(c.timestamp) // step).label("bucket")
    query = select(number, figure).where(c.uid == uid, c.rowid.between(span.first, span.last)).group_by("bucket")
    for rows in conn.execute(query).partitions(ROWS_AT_ONCE):
        for bucket, value in rows:
            yield int(bucket) * step, value


# --- anomalies ------------------------------------------------------------------------------------------


class AnomalyRow(NamedTuple):
    """A row of any metric with a great score."""

    uid: str
    name: str
    rowid: int
    timestamp: int
    value: float
    anomaly_score: float
    why: str | None  #: JSON; None before there was evidence


class AnomalyKey(NamedTuple):
    """Where a page of anomalies ends."""

    timestamp: int
    uid: str
    rowid: int


@dataclass(frozen=True, slots=True)
class AnomalyQuery:
    """Which anomalies: from ``threshold`` up, within a time, of metrics that match."""

    threshold: float
    start: int | None = None
    end: int | None = None
    search: str = ""
    uid: str | None = None


def page_of_anomalies(conn: Connection, query: AnomalyQuery, after: AnomalyKey | None, limit: int) -> list[AnomalyRow]:
    """At most ``limit`` anomalies after a key, newest first.  Raises `InvalidRule`."""

    def page(after: AnomalyKey | None, limit: int) -> list[AnomalyRow]:
        return _page_of_anomalies(conn, query, after, limit)

    return _selected(selector_of(query.search), page, lambda row: row.name, _anomaly_key, after, limit)


def _anomaly_key(row: AnomalyRow) -> AnomalyKey:
    return AnomalyKey(row.timestamp, row.uid, row.rowid)


def _page_of_anomalies(conn: Connection, query: AnomalyQuery, after: AnomalyKey | None, limit: int) -> list[AnomalyRow]:
    a = anomaly.c
    conditions: list[ColumnElement[bool]] = [a.anomaly_score >= query.threshold]
    if query.start is not None:
        conditions.append(a.timestamp >= to_datetime(query.start))
    if query.end is not None:
        conditions.append(a.timestamp <= to_datetime(query.end))
    if query.search:
        conditions.append(a.uid.in_(select(metric.c.uid).where(_name_may_be(query.search))))
    if query.uid is not None:
        conditions.append(a.uid == query.uid)
    if after is not None:
        moment = to_datetime(after.timestamp)
        same = and_(a.timestamp == moment, or_(a.uid > after.uid, and_(a.uid == after.uid, a.rowid < after.rowid)))
        conditions.append(or_(a.timestamp < moment, same))
    rows = conn.execute(
        select(a.uid, metric.c.name, a.rowid, a.timestamp, a.metric_value, a.anomaly_score, a.why)
        .select_from(anomaly.join(metric, metric.c.uid == a.uid))
        .where(*conditions)
        .order_by(a.timestamp.desc(), a.uid, a.rowid.desc())
        .limit(limit)
    )
    return [AnomalyRow(uid, name, rowid, from_datetime(at), *rest) for uid, name, rowid, at, *rest in rows]


class Highest(NamedTuple):
    """A metric that was unusual, with its highest row."""

    uid: str
    name: str
    timestamp: int
    value: float
    height: float


def highest_of_each(conn: Connection, start: int, end: int, without: Collection[str], most: int) -> list[Highest]:
    """The highest row of each metric that was unusual from one timestamp to another, the highest metric first."""
    a = anomaly.c
    rows = conn.execute(
        select(a.uid, metric.c.name, a.timestamp, a.metric_value, a.height)
        .select_from(anomaly.join(metric, metric.c.uid == a.uid))
        .where(a.timestamp.between(to_datetime(start), to_datetime(end)), a.height.is_not(None))
        .order_by(a.height.desc())
        .limit(ROWS_AT_ONCE)
    )
    found: dict[str, Highest] = {}
    for uid, name, timestamp, value, height in rows:
        if uid not in without and len(found) < most:
            found.setdefault(uid, Highest(uid, name, from_datetime(timestamp), value, height))
    return list(found.values())


def unusual_names(conn: Connection, start: int, end: int, step: int, height: float) -> list[tuple[str, int]]:
    """(name, bucket) of each metric with a row so high within a bucket of ``step`` seconds, counted from ``start``."""
    a = anomaly.c
    bucket = ((func.epoch(a.timestamp) - start) // step).label("bucket")
    query = (
        select(metric.c.name, bucket)
        .select_from(anomaly.join(metric, metric.c.uid == a.uid))
        .where(a.timestamp.between(to_datetime(start), to_datetime(end)), a.height >= height)
        .group_by(metric.c.name, "bucket")
        .limit(MOST_UNUSUAL)
    )
    return [(name, int(number)) for name, number in conn.execute(query)]
