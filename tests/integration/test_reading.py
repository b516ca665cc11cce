# SPDX-License-Identifier: MIT
"""What the HTTP API reads, on every database: the same rows, pages and buckets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from htmengine.adapters.datasource import custom
from htmengine.adapters.datasource.custom import ModelSpec
from htmengine.errors import InvalidRule
from htmengine.labels import identity
from htmengine.messages import ScoredRow
from htmengine.repository import counters, counts, migrations, name_tree, queries, reading, results
from htmengine.repository.counts import MetricScore
from htmengine.repository.engine import Database
from htmengine.repository.queries import MetricStatus, Score
from htmengine.repository.reading import AnomalyQuery, MetricQuery, PageKey, Span
from htmengine.repository.schema import metric, metric_data
from htmengine.selectors import Metric, parse_selector
from htmengine.web import views
from htmengine.web.graphite import tags
from htmengine.web.graphite.paths import Node, Pattern, find_nodes

START = 1_400_000_000
ROWS = 500


@pytest.fixture(scope="module", params=["sqlite", "mariadb", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with one metric that has rows and scores, and others without."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('reading') / 'db'}"
    else:
        url = request.getfixturevalue(request.param).new_database()
    migrations.upgrade(url)
    opened = Database(url)
    opened.run_sync(_fill)
    yield opened
    opened.close()


def _fill(conn: Any) -> None:
    for name, score in (("web.a", 0.5), ("web.b", None), ("web_c", 0.9), ("100%", 0.9), ("Ünï", None)):
        metric, _ = custom.monitor_metric(conn, ModelSpec.for_name(name, min=0, max=10), 288)
        if score is not None:
            counts.save_scores(conn, [MetricScore(metric.uid, 1, 1, 1, START, 1.0, 0.5, score)])
    uid = uid_of(conn)
    queries.insert_samples(conn, [(uid, rowid, START + 60 * rowid, float(rowid % 50)) for rowid in range(1, ROWS + 1)])
    scored = [ScoredRow(rowid, START + 60 * rowid, 1.0, rowid / 1000, rowid / 1000) for rowid in range(1, ROWS + 1)]
    queries.save_scores(
        conn, [Score(uid, row.rowid, row.timestamp, row.rowid % 50, row.raw, row.anomaly, 0.0) for row in scored]
    )
    great = [(uid, row) for row in scored if row.rowid % 100 == 0]
    results.save_anomalies(conn, great, 0.0)
    results.append_log(conn, [(uid, row) for row in scored[:10]])


def uid_of(conn: Any, name: str = "web.a") -> str:
    row = reading.one_metric(conn, name)
    assert row is not None
    return row.uid


def on(database: Database, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A function of (conn, uid, ...) for the metric with rows."""
    return database.run_sync(lambda conn: fn(conn, uid_of(conn), *args, **kwargs))


def points(*args: Any) -> dict[int, float | None]:
    """What `reading.points_of` finds, read to its end."""
    return dict(reading.points_of(*args))


class TestMetrics:
    def names(self, database: Database, query: MetricQuery, after: PageKey | None = None, limit: int = 10) -> list[str]:
        return [row.name for row in database.run_sync(reading.page_of_metrics, query, after, limit)]

    def test_pages_follow_each_other_whatever_the_order(self, database: Database) -> None:
        for query in (MetricQuery(), MetricQuery(by_score=True)):
            after, seen = None, []
            while page := database.run_sync(reading.page_of_metrics, query, after, 2):
                seen += [row.name for row in page]
                after = reading.key_of(page[-1])
            assert len(seen) == len(set(seen)) == database.run_sync(reading.count_metrics, query) == 5

    def test_the_most_anomalous_come_first(self, database: Database) -> None:
        assert self.names(database, MetricQuery(by_score=True), limit=3)[2] == "web.a"
        assert set(self.names(database, MetricQuery(by_score=True), limit=2)) == {"100%", "web_c"}

    def test_search_takes_signs_of_sql_as_they_are(self, database: Database) -> None:
        assert self.names(database, MetricQuery("_")) == ["web_c"]
        assert self.names(database, MetricQuery("%")) == ["100%"]
        assert self.names(database, MetricQuery("WEB.")) == ["web.a", "web.b"]
        assert self.names(database, MetricQuery("web?*")) == ["web.a", "web.b", "web_c"]
        assert self.names(database, MetricQuery("Ünï")) == ["Ünï"]
        assert self.names(database, MetricQuery("' OR 1=1 --")) == []

    def test_a_search_with_labels_is_a_selector(self, database: Database) -> None:
        searches = {'{__name__=~"web.+"}': ["web.a", "web.b", "web_c"], 'web.*{x="",__name__!="web.a"}': ["web.b"]}
        for search, names in searches.items():
            query = MetricQuery(search)
            assert self.names(database, query) == names
            assert self.names(database, query, limit=1) == names[:1]
            assert database.run_sync(reading.count_metrics, query) == len(names)
        with pytest.raises(InvalidRule):
            self.names(database, MetricQuery('{job=~"("}'))
        anomalies = AnomalyQuery(0.0, search='{__name__="web.a"}')
        assert {row.name for row in database.run_sync(reading.page_of_anomalies, anomalies, None, 2)} == {"web.a"}

    def test_names_in_the_tree_lead_from_branch_to_branch(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(name_tree, "FIRST_PAGE", 1)
        read_at_once = database._dialect == "postgresql"
        names = ["t", "t-a", "t.%", "t.a", *(f"t.a.{n}" for n in "123"), "t.a-b", "t.a-b.1", "t.b.1", "t_b.1", "T.a.1"]
        patterns = ("t*", "t.*", "t.a*.*", "t.{a,b}.[12]", "t.a.u*")

        def found(conn: Any, pattern: Pattern) -> tuple[list[str], list[Node]]:
            read = list(name_tree.names_in_tree(conn, pattern.stem, pattern.rough, len(pattern.nodes)))
            return read, find_nodes(pattern, read, 100)

        def find(conn: Any) -> dict[str, tuple[list[str], list[Node]]]:
            for each in names:
                custom.create_metric(conn, ModelSpec.for_name(each))
            found_by = {text: found(conn, Pattern.parse(text)) for text in patterns}
            conn.rollback()
            return found_by

        for text, (read, nodes) in database.run_sync(find).items():
            assert read == sorted(read)
            assert nodes == find_nodes(Pattern.parse(text), sorted(names), 100), text
            assert text not in ("t*", "t.*") or ("t.a.3" in read) == read_at_once

    def test_labels_are_told_by_the_database_as_by_python(self, database: Database) -> None:
        texts = [
            *(
                "disk;dc=a;host=h1",
                "disk;dc=a;host=h2",
                "disk;dc=ab;host=h1",
                "cpu;dc=a",
                "cpu",
                "Cpu;DC=a",
                "disk_;dc=b",
            ),
            *(
                "cpu;dc=%41",
                "cpu;dc=a%20b",
                "cpu;dc=%7Ea",
                f"cpu;dc=a;long={'x' * 300}",
                f"disk;host={'h' * 300}",
                "u;dc=é",
            ),
        ]
        asked = [
            *(
                [],
                ["dc=a"],
                ["dc!=a"],
                ["dc="],
                ["dc!="],
                ["dc=~a"],
                ["dc!=~a"],
                ["dc=~.*"],
                ["host=h1", "dc=a"],
                ["dc=A"],
            ),
            *(
                ["name=cpu"],
                ["name!=cpu"],
                ["name=~c"],
                ["dc=a b"],
                ["dc=~a"],
                ["long!="],
                ["name=disk", "host!=h1"],
                ["dc=é"],
            ),
        ]
        labels = [Metric.of(text) for text in texts]

        def told(conn: Any) -> Any:
            conn.execute(delete(metric_data))
            conn.execute(delete(metric))
            made = [custom.create_metric(conn, ModelSpec.for_name(identity(text))) for text in texts]
            counters.add_texts(
                conn, {each.uid: text for each, text in zip(made, texts, strict=True) if each.name != text}
            )
            found = {
                tuple(conditions): (
                    {(each.tags["name"], *sorted(each.tags.items())) for each in tags.find_tagged(conn, conditions)},
                    tags.tag_names(conn, conditions, ""),
                    {tag: tags.tag_values(conn, tag, conditions, "") for tag in ("name", "dc", "host", "long", "x")},
                )
                for conditions in asked
            }
            counted = {
                search: (
                    reading.count_metrics(conn, MetricQuery(search)),
                    len(reading.page_of_metrics(conn, MetricQuery(search), None, 100)),
                )
                for search in (
                    '{dc="a"}',
                    'c*{dc!="a"}',
                    '{dc="A",host=""}',
                    '{dc=~"a.*"}',
                    '*{long!=""}',
                    'disk;dc=a*{host="h2"}',
                )
            }
            conn.rollback()
            return found, counted

        found, counted = database.run_sync(told)
        for conditions, (metrics, names, values) in found.items():
            taken = [each for each in labels if all(tags._matcher(text).takes(each) for text in conditions)]
            tagged = [{**each.labels, "name": each.name} for each in taken]
            assert metrics == {(each["name"], *sorted(each.items())) for each in tagged}, conditions
            assert names == sorted({tag for each in tagged for tag in each}), conditions
            for tag, several in values.items():
                assert several == Counter(each[tag] for each in tagged if tag in each), (conditions, tag)
        for search, (count, listed) in counted.items():
            assert count == listed == sum(map(parse_selector(search).takes, labels)), search

    def test_statuses(self, database: Database) -> None:
        assert len(self.names(database, MetricQuery(statuses=[MetricStatus.CREATE_PENDING]))) == 5
        assert self.names(database, MetricQuery(statuses=[MetricStatus.ERROR])) == []
        assert database.run_sync(reading.status_counts)[MetricStatus.CREATE_PENDING] == 5

    def test_prefixes(self, database: Database) -> None:
        assert list(database.run_sync(reading.metrics_with_prefix, "web_")) == ["web_c"]
        assert list(database.run_sync(reading.metrics_named, ["web.a", "no.such"])) == ["web.a"]


class TestRows:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(-100, 60 * ROWS + 200), st.integers(-100, 60 * ROWS + 200))
    def test_a_span_has_exactly_the_rows_of_its_time(self, database: Database, start: int, end: int) -> None:
        span = on(database, reading.span_of, START + start, START + end)
        expected = [rowid for rowid in range(1, ROWS + 1) if start <= 60 * rowid <= end]
        rows = on(database, reading.rows_of, span, ROWS)
        assert [row.rowid for row in rows] == expected
        assert span.rows == len(expected)

    def test_buckets_sum_up_what_rows_say(self, database: Database) -> None:
        span = Span(3, 497)
        rows = on(database, reading.rows_of, span, ROWS)
        for step in (60, 300, 7200, 86_400):
            buckets = on(database, reading.buckets_of, span, step)
            assert [bucket.timestamp for bucket in buckets] == sorted({row.timestamp // step * step for row in rows})
            means = on(database, points, span, step, reading.MEAN_VALUE)
            greatest = on(database, points, span, step, reading.GREATEST_SCORE)
            assert greatest == {bucket.timestamp: bucket.anomaly_score for bucket in buckets}
            assert means.keys() == greatest.keys()
            for bucket in buckets:
                mine = [row for row in rows if row.timestamp // step * step == bucket.timestamp]
                values = [row.value for row in mine]
                assert (bucket.rows, bucket.minimum, bucket.maximum) == (len(mine), min(values), max(values))
                assert means[bucket.timestamp] == pytest.approx(sum(values) / len(values))
                assert (bucket.last, bucket.anomaly_score) == (values[-1], mine[-1].anomaly_score)

    def test_newest_rows_are_in_the_order_of_time(self, database: Database) -> None:
        rows = on(database, reading.rows_of, Span(1, ROWS), 3, newest=True)
        assert [row.rowid for row in rows] == [498, 499, 500]

    def test_a_metric_without_rows_has_an_empty_span(self, database: Database) -> None:
        span = database.run_sync(lambda conn: reading.span_of(conn, uid_of(conn, "web.b"), 0, START))
        assert span.rows == 0
        assert database.run_sync(lambda conn: reading.timestamps_at(conn, uid_of(conn, "web.b"), span)) == (None, None)


class TestAnomalies:
    def test_newest_first_and_a_page_at_a_time(self, database: Database) -> None:
        first = database.run_sync(reading.page_of_anomalies, AnomalyQuery(0.0), None, 3)
        assert [row.rowid for row in first] == [500, 400, 300]
        key = reading.AnomalyKey(first[-1].timestamp, first[-1].uid, first[-1].rowid)
        rest = database.run_sync(reading.page_of_anomalies, AnomalyQuery(0.0), key, 3)
        assert [row.rowid for row in rest] == [200, 100]

    def test_threshold_time_and_name(self, database: Database) -> None:
        def rowids(query: AnomalyQuery) -> list[int]:
            return [row.rowid for row in database.run_sync(reading.page_of_anomalies, query, None, 10)]

        assert rowids(AnomalyQuery(0.4)) == [500, 400]
        assert rowids(AnomalyQuery(0.0, start=START + 60 * 200, end=START + 60 * 300)) == [300, 200]
        assert rowids(AnomalyQuery(0.0, search="web.b")) == []

    def test_the_log_of_results(self, database: Database) -> None:
        found, reached = database.run_sync(results.results_after, 4, 100)
        assert [result.rowid for result in found] == [5, 6, 7, 8, 9, 10]
        assert reached == 10
        assert views.result_json(found[0])["name"] == "web.a"


def test_rows_that_are_gone_are_passed_over(tmp_path: Path) -> None:
    migrations.upgrade(f"sqlite:///{tmp_path / 'db'}")
    database = Database(f"sqlite:///{tmp_path / 'db'}")
    database.run_sync(_fill)
    c = metric_data.c
    database.run_sync(lambda conn: conn.execute(delete(metric_data).where((c.rowid < 100) | (c.rowid % 7 == 0))))
    for start in range(0, 60 * ROWS, 777):
        span = on(database, reading.span_of, START + start, None)
        rows = on(database, reading.rows_of, span, ROWS)
        assert [row.rowid for row in rows] == [r for r in range(100, ROWS + 1) if r % 7 and 60 * r >= start]
    database.close()
