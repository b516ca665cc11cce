# SPDX-License-Identifier: MIT
"""Versions of the schema stay what they were when they were written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from twisted.trial.unittest import SynchronousTestCase

from htmengine.errors import StartError
from htmengine.repository import migrations, queries
from htmengine.repository.engine import Database
from tests.support.migrations import tables, with_later_version

SCHEMA_0007 = Path(__file__).parent.parent / "support" / "schema_0007.sql"


@pytest.mark.long
class MigrationsTest(SynchronousTestCase):
    def new_folder(self) -> Path:
        folder = Path(self.mktemp())
        folder.mkdir()
        return folder.absolute()

    def url(self, *scripts: str) -> str:
        """A database in which the statements were run."""
        path = self.new_folder() / "db"
        connection = sqlite3.connect(path)
        connection.executescript("".join(scripts))
        connection.close()
        return f"sqlite:///{path}"

    def assert_current(self, url: str) -> None:
        database = Database(url)
        self.addCleanup(database.close)
        database.run_sync(migrations.check)

    def test_the_first_release_is_still_what_it_was(self) -> None:
        made = self.url()
        migrations.upgrade(made, "0007")
        self.assertEqual(tables(made), tables(self.url(SCHEMA_0007.read_text())))

    def test_a_database_of_the_first_release_is_recognised_and_goes_on(self) -> None:
        url = self.url(SCHEMA_0007.read_text(), "INSERT INTO trouble VALUES ('a', 1, 'full', 0);")
        migrations.upgrade(url)
        self.assert_current(url)
        self.assertEqual(tables(url), tables(self.upgraded()))

    def test_a_metric_gets_the_name_that_its_samples_have_now(self) -> None:
        given = [
            ("a;c=1;b=2", 9),
            ("a;b=2;c=1;", 50),
            ("x..y", 3),
            (".x.y", 4),
            ("z.", 1),
            ("z", 1),
            ("...", 2),
            ("ok", 5),
        ]
        url = self.url(SCHEMA_0007.read_text())
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            rows = [(str(number), name, last_rowid) for number, (name, last_rowid) in enumerate(given)]
            insert = "INSERT INTO metric (uid, datasource, name, status, last_rowid) VALUES (?, 'custom', ?, 0, ?)"
            connection.executemany(insert, rows)
        connection.close()
        migrations.upgrade(url)
        database = Database(url)
        self.addCleanup(database.close)
        names = [metric.name for metric in database.run_sync(queries.list_metrics)]
        expected = ["a;b=2;c=1", "a;b=2;c=1;", "x..y", "x.y", "z.", "z", "...", "ok"]
        self.assertEqual(names, sorted(expected))

    def test_the_versions_are_those_that_alembic_finds_in_its_order(self) -> None:
        found = [each.revision for each in ScriptDirectory(str(migrations.SCRIPTS)).walk_revisions()]
        self.assertEqual(migrations.all_versions(), found[::-1])

    def upgraded(self) -> str:
        url = self.url()
        migrations.upgrade(url)
        return url

    def test_a_version_that_adds_a_column_works_on_every_older_database(self) -> None:
        older = [self.url(), self.url(SCHEMA_0007.read_text()), self.upgraded()]
        self.patch(migrations, "SCRIPTS", with_later_version(self.new_folder() / "in a %41 folder"))
        for url in older:
            migrations.upgrade(url)
            self.assert_current(url)
            self.assertIn("note", [column["name"] for column in tables(url)["trouble"]["columns"]])

    def test_a_schema_that_this_release_does_not_know_is_refused_and_left_alone(self) -> None:
        url = self.url(SCHEMA_0007.read_text(), "UPDATE htmengine_version SET version_num = '0815';")
        before = tables(url)
        for refused in (lambda: migrations.upgrade(url), lambda: self.assert_current(url)):
            error = self.assertRaises(StartError, refused)
            self.assertIn("schema is 0815, which this release does not know (it knows 0007", str(error))
        self.assertEqual(tables(url), before)
