# SPDX-License-Identifier: MIT
"""Alerts on MariaDB and PostgreSQL: the unit tests' own suites of states, messages and deliveries, on real servers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from htmengine.repository import schema
from htmengine.repository.engine import Database
from tests.support.servers import MariaDB, PostgreSQL
from tests.unit import (
    test_alert_courier,
    test_alert_rules,
    test_alert_service,
    test_backtest,
    test_incident_queries,
    test_incident_service,
)


class _OnServer(SynchronousTestCase):
    """Takes a new database of a server for each test."""

    server: MariaDB | PostgreSQL

    def new_database(self) -> Database:
        database = Database(self.server.new_database())
        self.addCleanup(database.close)
        database.run_sync(schema.metadata.create_all)
        return database

    def filled_database(self, _key: Hashable, fill: Callable[[Database], Any]) -> tuple[Database, Any]:
        database = self.new_database()
        return database, fill(database)


class _OnMariaDB(_OnServer):
    @pytest.fixture(autouse=True)
    def _use(self, mariadb: MariaDB) -> None:
        self.server = mariadb


class _OnPostgreSQL(_OnServer):
    @pytest.fixture(autouse=True)
    def _use(self, postgresql: PostgreSQL) -> None:
        self.server = postgresql


class AlertServiceOnMariaDBTest(_OnMariaDB, test_alert_service.AlertServiceTest):
    """Rules' states and alerts."""


class AlertServiceOnPostgreSQLTest(_OnPostgreSQL, test_alert_service.AlertServiceTest):
    """Rules' states and alerts."""


class CourierOnMariaDBTest(_OnMariaDB, test_alert_courier.CourierTest):
    """Deliveries."""


class CourierOnPostgreSQLTest(_OnPostgreSQL, test_alert_courier.CourierTest):
    """Deliveries."""


class StoredRulesOnMariaDBTest(_OnMariaDB, test_alert_rules.StoredRulesTest):
    """Rules of the API, and the audit."""


class StoredRulesOnPostgreSQLTest(_OnPostgreSQL, test_alert_rules.StoredRulesTest):
    """Rules of the API, and the audit."""


class IncidentQueriesOnMariaDBTest(_OnMariaDB, test_incident_queries.IncidentQueriesTest):
    """Incidents, silences and marks."""


class IncidentQueriesOnPostgreSQLTest(_OnPostgreSQL, test_incident_queries.IncidentQueriesTest):
    """Incidents, silences and marks."""


class IncidentServiceOnMariaDBTest(_OnMariaDB, test_incident_service.IncidentServiceTest):
    """Rules with a budget."""


class IncidentServiceOnPostgreSQLTest(_OnPostgreSQL, test_incident_service.IncidentServiceTest):
    """Rules with a budget."""


class BacktestOnMariaDBTest(_OnMariaDB, test_backtest.BacktestTest):
    """The stored past once more."""


class BacktestOnPostgreSQLTest(_OnPostgreSQL, test_backtest.BacktestTest):
    """The stored past once more."""


class LongNamesOnMariaDBTest(_OnMariaDB, test_incident_service.LongNamesTest):
    """Labels that lie past a name's 255 bytes."""


class LongNamesOnPostgreSQLTest(_OnPostgreSQL, test_incident_service.LongNamesTest):
    """Labels that lie past a name's 255 bytes."""
