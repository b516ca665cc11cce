# SPDX-License-Identifier: MIT
"""The OpenAPI document checks what its operations are given."""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files
from typing import Any
from unittest import TestCase

from htmengine.alerts.configuration import Rule
from htmengine.web.api import Api
from htmengine.web.document import MOST_ERRORS, Document, parse_json, parse_query
from htmengine.web.incidents import IncidentsApi
from htmengine.web.maintenance import MaintenanceApi
from htmengine.web.refused import Refused
from htmengine.web.rules import RulesApi


class DocumentTestCase(TestCase):
    def setUp(self) -> None:
        self.operations = Document().operations

    def refusal(self, call: Any, *args: Any) -> Refused:
        with self.assertRaises(Refused) as caught:
            call(*args)
        self.assertEqual(caught.exception.status, 400)
        refused: Refused = caught.exception
        return refused

    def fields(self, call: Any, *args: Any) -> list[str]:
        return [field for field, _ in self.refusal(call, *args).errors]


class SchemasTest(TestCase):
    def test_a_rule_has_the_options_of_alerts_conf(self) -> None:
        schemas = json.loads(files("htmengine.web").joinpath("openapi.json").read_text())["components"]["schemas"]
        options = [each.name for each in dataclasses.fields(Rule) if each.metadata]
        self.assertEqual(list(schemas["AlertRuleOptions"]["properties"]), options)


class QueryTest(DocumentTestCase):
    def read(self, query: bytes) -> dict[str, Any]:
        return self.operations["list_metrics"].read_query(query)

    def test_defaults_are_the_documents(self) -> None:
        self.assertEqual(self.read(b""), {"sort": "name", "limit": 100})

    def test_values_have_the_types_that_the_document_says(self) -> None:
        self.assertEqual(self.read(b"limit=7&search=7&status=ACTIVE&status=ERROR")["status"], ["ACTIVE", "ERROR"])
        self.assertEqual(self.read(b"limit=7&search=7")["search"], "7")
        events = self.operations["stream_events"].read_query(b"threshold=.5&metric=a.%2A")
        self.assertEqual((events["threshold"], events["metric"]), (0.5, ["a.*"]))

    def test_each_refusal_names_its_parameter(self) -> None:
        for query, field in (
            (b"limit=0", "limit"),
            (b"limit=1001", "limit"),
            (b"limit=1.0", "limit"),
            (b"limit=", "limit"),
            (b"limit=%D9%A1", "limit"),  # an Arabic digit
            (b"limit=1&limit=2", "limit"),
            (b"status=active", "status[0]"),
            (b"sort=value", "sort"),
            (b"search=%00", "search"),
            (b"search=" + b"x" * 4097, "search"),
            (b"serch=x", "serch"),
        ):
            self.assertEqual(self.fields(self.read, query), [field])

    def test_what_is_missing_is_named(self) -> None:
        self.assertEqual(self.fields(self.operations["get_sparklines"].read_query, b"rows=5"), ["uid"])

    def test_queries_that_are_no_utf8_or_too_many_are_refused(self) -> None:
        self.refusal(parse_query, b"a=%ff")
        self.refusal(parse_query, "a=ä".encode())
        self.refusal(parse_query, b"&".join(b"a=1" for _ in range(1001)))


class BodyTest(DocumentTestCase):
    def read(self, body: bytes) -> Any:
        return self.operations["create_metric"].read_body(body)

    def test_a_body_is_checked_to_its_depth(self) -> None:
        self.assertEqual(self.read(b'{"metricSpec": {"metric": "a"}}'), {"metricSpec": {"metric": "a"}})
        for body, fields in (
            (b"{}", ["metricSpec"]),
            (b"[]", [""]),
            (b'{"metricSpec": {}}', ["metricSpec.metric"]),
            (b'{"metricSpec": {"metric": "a b"}}', ["metricSpec.metric"]),
            (b'{"metricSpec": {"metric": "a"}, "modelParams": {"min": true}}', ["modelParams.max", "modelParams.min"]),
            (b'{"metricSpec": {"metric": "a", "x": 1}, "y": 2}', ["metricSpec.x", "y"]),
        ):
            self.assertEqual(sorted(self.fields(self.read, body)), fields)

    def test_answers_are_short_whatever_was_sent(self) -> None:
        refused = self.refusal(self.read, b'{"metricSpec": {"metric": "' + b"x" * 100_000 + b'"}}')
        self.assertLess(len(refused.detail), 300)
        many = self.refusal(self.read, b"{" + b",".join(b'"%d": 1' % n for n in range(5000)) + b"}")
        self.assertLessEqual(len(many.errors), MOST_ERRORS)

    def test_only_strict_json_is_read(self) -> None:
        self.assertEqual(parse_json(b'{"a": 12345678901234567890}'), {"a": 1.2345678901234567e19})
        for body in (b"", b"{", b"NaN", b"[Infinity]", b"1e999", b"\xff", b"[" * 100_000, b"9" * 5000, b"{'a': 1}"):
            self.refusal(parse_json, body)
        twice = self.refusal(parse_json, b'[{"metric": "a", "value": 1, "metric": "b"}]')
        self.assertIn("the key metric stands twice", twice.detail)


class OperationsTest(DocumentTestCase):
    def test_each_operation_has_its_handler_and_its_scope(self) -> None:
        for operation in self.operations.values():
            self.assertTrue(
                any(hasattr(part, operation.name) for part in (Api, IncidentsApi, RulesApi, MaintenanceApi)),
                operation.name,
            )
            changing = operation.method != "GET" and not operation.path.endswith("/session")
            self.assertEqual(operation.scope in {"send", "operate", "admin"}, changing, operation.name)
        is_open = {operation.name for operation in self.operations.values() if operation.scope is None}
        self.assertEqual(is_open, {"get_openapi", "get_session", "start_session", "end_session"})
