# SPDX-License-Identifier: MIT
"""The HTTP API of a real engine, driven by a real HTTP client."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from htmengine.web.access import Token
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.metrics import seed_incident

START = 1_400_000_100
STEP = 300
ROWS = 600
#: Names that break what trusts them.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img/src=x/onerror=alert(1)>',
    "a'/**/OR/**/1=1--",
    "/etc/passwd",
    "a/b",
    "a%2Fb",
    "a?b=c&d#e",
    "%",
    "_",
    "a\\b",
    "{curly}",
    "ünïcödé.测试",
    "emoji.🙂",
    "api",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all tests, with a metric that has an anomaly at its end."""
    with running_engine(tmp_path_factory.mktemp("web") / "data", "--workers", "1", "--no-auto-monitor") as started:
        with httpx.Client(base_url=started.url) as client:
            spec = {"metricSpec": {"metric": "web.requests", "unit": "1/s"}, "modelParams": {"min": 0, "max": 100}}
            assert client.post("/api/v1/metrics", json={**spec, "monitor": True}).status_code == 201
            assert client.post("/api/v1/metrics/web.requests/samples", json={"samples": samples()}).status_code == 202
        started.wait_until_scored("web.requests", ROWS)
        yield started


@pytest.fixture
def client(engine: Engine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=engine.url, timeout=30) as opened:
        yield opened


def samples() -> list[dict[str, float]]:
    values = [50.0 + number % 5 for number in range(ROWS - 1)] + [5000.0]
    return [{"value": value, "timestamp": START + STEP * number} for number, value in enumerate(values)]


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    return document


class TestRules:
    def test_a_rule_is_stored_changed_and_removed(self, client: httpx.Client) -> None:
        at = "/api/v1/alert/rules/web"
        options = {"metrics": ['web.*{dc!="test"}'], "pages_per_week": 2.0, "min_change": "10%", "silence": False}
        stored = client.put(at, json=options).json()
        assert (stored["source"], stored["options"]) == ("stored", options)
        assert client.put(at, json={**options, "rows": 2}).json()["options"]["rows"] == 2
        assert client.get(at).json()["changed_by"] == "HTTP client 127.0.0.1"
        listed = client.get("/api/v1/alert/rules").json()
        assert [(each["name"], each["source"]) for each in listed["rules"]] == [("all", "default"), ("web", "stored")]
        assert client.delete(at).status_code == 204
        problem(client.get(at), 404)
        problem(client.delete("/api/v1/alert/rules/all"), 409)
        entries = client.get("/api/v1/audit", params={"limit": 3}).json()["entries"]
        assert [each["what"] for each in entries] == ["removed a rule", "changed a rule", "added a rule"]

    def test_a_preview_tells_what_a_rule_would_have_done(self, client: httpx.Client) -> None:
        asked = {"options": {"metrics": ["web.requests"], "threshold": 0.99999}, "since": START}
        found = client.post("/api/v1/alert/preview", json=asked).json()
        assert (found["pages"], found["metrics"], found["complete"]) == (found["usual"], 1, True)
        [newest, *_] = found["incidents"]
        assert (newest["title"], newest["timestamp"]) == ("web.requests", START + STEP * (ROWS - 1))
        young = client.post("/api/v1/alert/preview", json={"options": {"pages_per_week": 5}, "since": START}).json()
        assert (young["pages"], young["usual"]) == (0, found["usual"])
        wrong = client.post("/api/v1/alert/preview", json={"options": {"metrics": ["{job}"]}})
        assert [each["field"] for each in problem(wrong, 422)["errors"]] == ["metrics"]

    def test_a_preview_goes_on_between_requests_until_it_is_stopped(self, client: httpx.Client) -> None:
        asked = {"options": {"metrics": ["web.requests"], "threshold": 0.99999}, "since": START}
        begun = client.post("/api/v1/alert/previews", json=asked)
        assert begun.status_code == 202
        at = f"/api/v1/alert/previews/{begun.json()['id']}"
        wait_for(lambda: client.get(at).json()["result"], "the preview")
        found = client.get(at).json()
        assert (found["share"], found["result"]) == (1, client.post("/api/v1/alert/preview", json=asked).json())
        assert client.delete(at).status_code == 204
        problem(client.get(at), 404)

    def test_what_is_wrong_with_a_rule_is_named(self, client: httpx.Client) -> None:
        at = "/api/v1/alert/rules/web"
        wrong = problem(client.put(at, json={"pages_per_week": -1, "colour": 1}), 400)
        assert {each["field"] for each in wrong["errors"]} == {"colour", "pages_per_week"}
        wrong = problem(client.put(at, json={"metrics": ["{job}"], "rows": 2}), 422)
        assert [each["field"] for each in wrong["errors"]] == ["metrics"]
        problem(client.put(at, json={"receivers": ["x"]}), 422)
        problem(client.put("/api/v1/alert/rules/a%20b", json={}), 422)


class TestMetrics:
    def test_a_metric_tells_its_model_and_its_newest_score(self, client: httpx.Client) -> None:
        metric = client.get("/api/v1/metrics/web.requests").json()
        assert metric["status"] == "ACTIVE"
        assert metric["unit"] == "1/s"
        assert metric["model"] == {"generation": 1, "min": 0.0, "max": 100.0, "young": False}
        assert metric["parameters"]["modelParams"] == {"min": 0, "max": 100}
        assert metric["rows"] == metric["newest"]["rowid"] == ROWS
        assert metric["newest"]["value"] == 5000.0
        assert metric["newest"]["anomaly_score"] > 0.99999
        assert metric["evidence_from"] == 1
        assert metric["cadence"] == {"interval_s": 300.0, "since": None}
        assert client.get(f"/api/v1/metrics/{metric['uid']}").json() == metric

    def test_creating_monitoring_unmonitoring_and_deleting(self, client: httpx.Client) -> None:
        created = client.post("/api/v1/metrics", json={"metricSpec": {"metric": "a.new.one"}})
        assert created.status_code == 201
        at = created.headers["Location"]
        assert client.get(at).json()["status"] == "UNMONITORED"
        problem(client.post("/api/v1/metrics", json={"metricSpec": {"metric": "a.new.one"}}), 409)
        put = client.put(f"{at}/model", json={"modelParams": {"min": 1, "max": 2}})
        assert put.json()["model"] == {"generation": 1, "min": 1.0, "max": 2.0, "young": False}
        wait_for(lambda: client.get(at).json()["status"] == "ACTIVE", "the model")
        assert client.delete(f"{at}/model").json()["status"] == "UNMONITORED"
        assert client.delete(at).status_code == 204
        problem(client.get(at), 404)
        problem(client.delete(at), 404)

    def test_lists_are_searched_sorted_and_paged_by_key(self, client: httpx.Client) -> None:
        names = [f"page.{letter}" for letter in "abcde"]
        for name in names:
            client.post("/api/v1/metrics", json={"metricSpec": {"metric": name}})
        seen, after = [], None
        while True:
            given = {"search": "PAGE.", "limit": "2"} | ({"after": after} if after else {})
            page = client.get("/api/v1/metrics", params=given).json()
            assert page["total"] == 5
            seen += [metric["name"] for metric in page["metrics"]]
            after = page["next"]
            if after is None:
                break
        assert seen == names
        assert client.get("/api/v1/metrics", params={"search": "page.?"}).json()["total"] == 5
        assert client.get("/api/v1/metrics", params={"search": "age.?"}).json()["total"] == 0
        first = client.get("/api/v1/metrics", params={"sort": "anomaly", "limit": 2}).json()
        assert first["metrics"][0]["name"] == "web.requests"
        second = client.get("/api/v1/metrics", params={"sort": "anomaly", "after": first["next"]}).json()
        assert len(second["metrics"]) == second["total"] - 2
        only = client.get("/api/v1/metrics", params=[("status", "ACTIVE"), ("status", "ERROR")]).json()
        assert [metric["name"] for metric in only["metrics"]] == ["web.requests"]

    @pytest.mark.parametrize("name", HOSTILE)
    def test_a_hostile_name_is_a_name_like_any_other(self, client: httpx.Client, engine: Engine, name: str) -> None:
        created = client.post("/api/v1/metrics", json={"metricSpec": {"metric": name}})
        assert created.status_code == 201, created.text
        uid = created.json()["uid"]
        url = f"/api/v1/metrics/{quote(name, safe='')}"
        assert client.get(url).json()["uid"] == uid
        assert client.get(f"{url}/data").json()["rows"] == []
        found = client.get("/api/v1/metrics", params={"search": name, "limit": 1000}).json()["metrics"]
        assert name in [metric["name"] for metric in found]
        if name in ("%", "_"):
            assert all(name in metric["name"] for metric in found)
        assert client.get("/api/v1/anomalies", params={"search": name}).json()["anomalies"] == []
        sent = client.post(f"/api/v1/metrics/{uid}/samples", content=f"1.5 {START}\n", headers=TEXT)
        assert sent.json() == {"accepted": 1}
        wait_for(lambda: client.get(f"/api/v1/metrics/{uid}").json()["rows"] == 1, "the row")
        assert client.delete(f"/api/v1/metrics/{uid}").status_code == 204
        assert engine.query("SELECT count(*) FROM metric WHERE name = 'web.requests'") == [(1,)]

    def test_an_unknown_page_key_is_refused(self, client: httpx.Client) -> None:
        for after in ("x", "WzFd", "eyJhIjoxfQ"):
            assert problem(client.get("/api/v1/metrics", params={"after": after}), 400)["errors"][0]["field"] == "after"


TEXT = {"Content-Type": "text/plain"}


class TestRows:
    def test_data_is_paged_by_rowid_and_bounded_by_time(self, client: httpx.Client) -> None:
        url = "/api/v1/metrics/web.requests/data"
        first = client.get(url, params={"limit": 400}).json()
        assert [first["rows"][0]["rowid"], first["rows"][-1]["rowid"], first["next"]] == [1, 400, 400]
        second = client.get(url, params={"limit": 400, "after": 400}).json()
        assert [second["rows"][0]["rowid"], second["rows"][-1]["rowid"], second["next"]] == [401, ROWS, None]
        some = client.get(url, params={"from": START + STEP + 1, "until": START + 3 * STEP}).json()["rows"]
        assert [row["timestamp"] for row in some] == [START + 2 * STEP, START + 3 * STEP]
        last = client.get(url, params={"newest": "true", "limit": 2}).json()
        assert [row["rowid"] for row in last["rows"]] == [ROWS - 1, ROWS]
        assert client.get(url, params={"from": START + STEP * ROWS}).json()["rows"] == []

    def test_a_plot_keeps_peaks(self, client: httpx.Client) -> None:
        plot = client.get("/api/v1/metrics/web.requests/plot", params={"points": 20}).json()
        assert plot["rows"] == ROWS == sum(plot["count"])
        assert plot["step"] == 10_800
        assert len(plot["timestamp"]) <= 20
        assert all(timestamp % plot["step"] == 0 for timestamp in plot["timestamp"])
        assert max(plot["max"]) == plot["last"][-1] == 5000.0
        assert min(plot["min"]) == 50.0
        assert plot["anomaly_score"][-1] > 0.99999
        assert (plot["first_timestamp"], plot["last_timestamp"]) == (START, START + STEP * (ROWS - 1))

    def test_a_plot_of_few_rows_has_them_as_they_are(self, client: httpx.Client) -> None:
        given = {"from": START, "until": START + 5 * STEP}
        plot = client.get("/api/v1/metrics/web.requests/plot", params=given).json()
        assert plot["step"] is None
        assert plot["timestamp"] == [START + STEP * number for number in range(6)]
        assert plot["min"] == plot["max"] == plot["last"] == [50.0, 51.0, 52.0, 53.0, 54.0, 50.0]

    def test_a_metric_without_rows_has_an_empty_plot(self, client: httpx.Client) -> None:
        client.post("/api/v1/metrics", json={"metricSpec": {"metric": "empty"}})
        plot = client.get("/api/v1/metrics/empty/plot").json()
        assert (plot["rows"], plot["timestamp"], plot["last_timestamp"]) == (0, [], None)

    def test_sparklines_of_many_metrics(self, client: httpx.Client) -> None:
        uid = client.get("/api/v1/metrics/web.requests").json()["uid"]
        given = [("uid", uid), ("uid", "unknown"), ("rows", "3")]
        lines = client.get("/api/v1/sparklines", params=given).json()["sparklines"]
        assert list(lines) == [uid]
        assert lines[uid]["value"] == [52.0, 53.0, 5000.0]
        assert lines[uid]["anomaly_score"][-1] > 0.99999

    def test_anomalies_over_all_metrics(self, client: httpx.Client) -> None:
        found = client.get("/api/v1/anomalies", params={"threshold": 0.99999}).json()
        anomaly = found["anomalies"][0]
        assert anomaly["anomaly_score"] > 0.99999
        assert anomaly["why"]["direction"] == "up"
        at = START + STEP * (ROWS - 1)
        assert anomaly == client.get("/api/v1/metrics/web.requests/why", params={"at": at}).json()
        assert [anomaly[name] for name in ("name", "rowid", "timestamp", "value")] == ["web.requests", ROWS, at, 5000.0]
        assert client.get("/api/v1/anomalies", params={"metric": "web.requests", "until": START}).json() == {
            "anomalies": [],
            "next": None,
        }
        assert problem(client.get("/api/v1/anomalies", params={"threshold": 0.5}), 422)["errors"]
        problem(client.get("/api/v1/anomalies", params={"metric": "no.such"}), 404)

    def test_a_metric_learns_for_14_days(self, client: httpx.Client) -> None:
        learning = client.get("/api/v1/metrics/web.requests").json()["learning"]
        assert learning["until"] == START + 14 * 86_400
        assert learning["progress"] == pytest.approx(STEP * (ROWS - 1) / (14 * 86_400), abs=1e-3)

    def test_a_usual_row_has_its_reasons_too(self, client: httpx.Client) -> None:
        url = "/api/v1/metrics/web.requests/why"
        told = client.get(url, params={"at": START + STEP * (ROWS - 2)}).json()
        assert (told["rowid"], told["value"]) == (ROWS - 1, 53.0)
        assert told["why"]["lower"] < told["why"]["expected"] < told["why"]["upper"]
        problem(client.get(url, params={"at": START + 1}), 404)
        problem(client.get(url), 400)

    def test_a_range_has_its_evidence_in_the_plots_buckets(self, client: httpx.Client) -> None:
        given = {"points": 50}
        told = client.get("/api/v1/metrics/web.requests/evidence", params=given).json()
        plot = client.get("/api/v1/metrics/web.requests/plot", params=given).json()
        assert told["complete"]
        assert (told["step"], told["timestamp"][-1]) == (plot["step"], plot["timestamp"][-1])
        last = {name: decades[-1] for name, decades in told["lanes"].items()}
        assert last["level"] > 3.0
        at = START + STEP * (ROWS - 1)
        why = client.get("/api/v1/metrics/web.requests/why", params={"at": at}).json()["why"]
        assert told["expected"][-1] == pytest.approx(why["expected"], rel=1e-5)
        series = [f"web.requests.{name}" for name in ("lower", "expected", "upper")]
        asked = [("target", name) for name in series] + [("from", at - STEP), ("until", at), ("format", "json")]
        lower, expected, upper = (each["datapoints"][-1][0] for each in client.get("/render", params=asked).json())
        assert lower < expected < upper
        problem(client.get("/api/v1/metrics/no.such/evidence"), 404)

    def test_maintenance_is_stored_and_tells_its_next_windows(self, client: httpx.Client) -> None:
        at = "/api/v1/maintenance/move"
        options = {"metrics": ["db*"], "at": "2050-03-01 22:00:00", "for_s": 7200.0, "learning": False}
        made = client.put(at, json=options).json()
        assert (made["options"], made["next"]) == (options, [{"from": 2529784800.0, "until": 2529792000.0}])
        assert client.get("/api/v1/maintenance").json()["maintenance"] == [made]
        refused = problem(client.put(at, json={"cron": "0 25 * * *"}), 422)
        assert refused["errors"][0]["field"] == "cron"
        problem(client.put(at, json={"calendar": "/etc/passwd"}), 400)
        assert client.delete(at).status_code == 204
        problem(client.get(at), 404)
        assert client.get("/api/v1/audit").json()["entries"][0]["what"] == "removed maintenance"

    def test_incidents_and_silences(self, client: httpx.Client, engine: Engine) -> None:
        seed_incident(engine, "web.requests")
        found = client.get("/api/v1/incidents", params={"metric": "web.requests"}).json()
        [incident] = found["incidents"]
        assert (incident["phase"], incident["paged"], found["touched"]) == ("OPEN", True, 1)
        assert found["rules"][0]["pages"] == 1
        url = f"/api/v1/incidents/{incident['id'][:8]}"
        assert [metric["metric"] for metric in client.get(url).json()["metrics"]] == ["web.requests"]
        told = client.post(f"{url}/acknowledge", json={"who": "ana"}).json()
        assert told["acknowledged_by"] == "ana"
        marked = client.post(f"{url}/mark", json={"what": "fine", "note": "a deploy"}).json()
        assert [event["what"] for event in marked["events"]] == ["acknowledged", "fine"]
        assert client.get("/api/v1/incidents").json()["rules"][0]["precision"] == 0.0
        problem(client.post(f"{url}/mark", json={"what": "odd"}), 400)
        problem(client.get("/api/v1/incidents/none"), 404)
        silence = client.post("/api/v1/silences", json={"metrics": ["web.*"], "for_s": 600}).json()
        assert client.get("/api/v1/silences").json()["silences"] == [silence]
        number = {"number": silence["id"]}
        assert client.delete("/api/v1/silences", params=number).status_code == 204
        problem(client.delete("/api/v1/silences", params=number), 404)
        later = {"metrics": ["web.*"], "for_s": 600, "from_at": silence["until_at"] // 1 + 600}
        assert client.post("/api/v1/silences", json=later).json()["from_at"] == later["from_at"]
        problem(client.post("/api/v1/silences", json={**later, "from_at": 1}), 422)

    def test_where_the_fleet_is_unusual(self, client: httpx.Client) -> None:
        at = START + STEP * (ROWS - 1)
        told = client.get("/api/v1/unusual", params={"from": at - 3600, "until": at + 60}).json()
        [part] = told["parts"]
        assert (part["part"], part["metrics"], sum(part["unusual"])) == ("web", 1, 1)

    def test_anomalies_are_paged(self, client: httpx.Client) -> None:
        given = {"threshold": "0.99", "limit": "1"}
        page = client.get("/api/v1/anomalies", params=given).json()
        everything = client.get("/api/v1/anomalies", params={"threshold": 0.99}).json()["anomalies"]
        seen = page["anomalies"]
        while page["next"]:
            page = client.get("/api/v1/anomalies", params=given | {"after": page["next"]}).json()
            seen += page["anomalies"]
        assert seen == everything

    def test_ledger_and_status(self, client: httpx.Client) -> None:
        ledger = client.get("/api/v1/metrics/web.requests/ledger").json()
        assert (ledger["stored"], ledger["scored"], ledger["adds_up"]) == (ROWS, ROWS, True)
        assert client.get("/api/v1/ledger").json()["scored"] == ROWS
        status = client.get("/api/v1/status").json()
        assert status["metrics"]["ACTIVE"] == 1
        assert status["queues"]["results"] == 0


class TestSamples:
    def test_lines_and_objects_of_many_metrics(self, client: httpx.Client, engine: Engine) -> None:
        assert client.post("/api/v1/samples", content=f"sent.a 1 {START}\n\nsent.b 2\n", headers=TEXT).json() == {
            "accepted": 2
        }
        many = {"samples": [{"metric": "sent.c", "value": 3, "timestamp": START}, {"metric": "sent.a", "value": 4.5}]}
        assert client.post("/api/v1/samples", json=many).json() == {"accepted": 2}
        sql = (
            "SELECT name, metric_value FROM metric JOIN metric_data USING (uid) WHERE name LIKE 'sent.%' ORDER BY 1, 2"
        )
        wait_for(lambda: len(engine.query(sql)) == 4, "the samples")
        assert engine.query(sql) == [("sent.a", 1.0), ("sent.a", 4.5), ("sent.b", 2.0), ("sent.c", 3.0)]

    def test_names_may_have_4_kb_of_labels_everywhere(self, client: httpx.Client, engine: Engine) -> None:
        created, by_line, by_object, loaded = (
            f"long.{kind};path={'p' * 4000}" for kind in ("new", "line", "json", "csv")
        )
        assert client.post("/api/v1/metrics", json={"metricSpec": {"metric": created}}).status_code == 201
        lines = f"{created} 1 {START}\n{by_line} 1 {START}"
        assert client.post("/api/v1/samples", content=lines, headers=TEXT).json() == {"accepted": 2}
        one = {"samples": [{"metric": by_object, "value": 1, "timestamp": START}]}
        assert client.post("/api/v1/samples", json=one).json() == {"accepted": 1}
        assert client.post("/api/v1/history", content=f"{loaded} 1 {START}", headers=TEXT).json()["accepted"] == 1
        assert client.post(f"/api/v1/metrics/{quote(loaded)}/rebuild").json()["joined"] == 1

        def stored() -> dict[str, int]:
            page = client.get("/api/v1/metrics", params={"search": '{path=~"p+"}'}).json()
            return {metric["text"]: metric["rows"] for metric in page["metrics"]}

        wait_for(lambda: stored() == dict.fromkeys((created, by_line, by_object, loaded), 1), "a row each")
        too_long = {"metricSpec": {"metric": "é" * 2049}}
        problem(client.post("/api/v1/metrics", json=too_long), 422)

    @pytest.mark.parametrize(
        ("samples", "field"),
        [
            ([{"value": "1"}], "samples[0].value"),
            ([{"value": 1}, {"value": True}], "samples[1].value"),
            ([{"timestamp": 1}], "samples[0].value"),
            ([{"value": 1, "time": 5}], "samples[0].time"),
            ([{"value": 1, "timestamp": -5}], "samples[0]"),
            ([5], "samples[0]"),
            ([], "samples"),
            ({}, "samples"),
        ],
    )
    def test_a_bad_sample_is_named_and_none_is_taken(self, client: httpx.Client, samples: Any, field: str) -> None:
        response = client.post("/api/v1/metrics/web.requests/samples", json={"samples": samples})
        assert problem(response, 400)["errors"][0]["field"] == field
        assert client.get("/api/v1/metrics/web.requests").json()["rows"] == ROWS

    def test_bad_lines_are_named_by_number(self, client: httpx.Client) -> None:
        lines = f"a 1 {START}\na nan {START}\n\nb 1 2 3\n"
        errors = problem(client.post("/api/v1/samples", content=lines, headers=TEXT), 400)["errors"]
        assert [error["field"] for error in errors] == ["line 2", "line 4"]

    def test_all_bad_samples_of_a_refused_request_are_counted(self, client: httpx.Client) -> None:
        def rejected() -> dict[str, int]:
            found: dict[str, int] = client.get("/api/v1/ledger").json()["rejected"]
            return found

        before = rejected()
        problem(client.post("/api/v1/samples", content="bad.m x 1\n" * 100, headers=TEXT), 400)
        bad = {"samples": [{"metric": "bad.m", "value": "x"}] * 100 + [{"metric": "bad.m"}] * 50}
        problem(client.post("/api/v1/history", json=bad), 400)
        wanted = {"value_not_a_number": 200, "field_count": 50}
        wait_for(
            lambda: {each: rejected().get(each, 0) - before.get(each, 0) for each in wanted} == wanted, "the counts"
        )

    @pytest.mark.parametrize(
        "body", ['{"samples": [{"value": NaN}]}', '{"samples": [{"value": 1e999}]}', "[", '"\xff"']
    )
    def test_what_is_not_json_is_refused(self, client: httpx.Client, body: str) -> None:
        response = client.post(
            "/api/v1/metrics/web.requests/samples",
            content=body.encode("latin-1"),
            headers={"Content-Type": "application/json"},
        )
        problem(response, 400)

    def test_too_many_samples_and_too_long_bodies_are_refused(self, client: httpx.Client) -> None:
        many = {"samples": [{"value": 1}] * 10_001}
        problem(client.post("/api/v1/metrics/web.requests/samples", json=many), 400)
        problem(client.post("/api/v1/samples", content=b"x" * 3_000_000, headers=TEXT), 413)
        chunks = (b"x" * 500_000 for _ in range(5))
        problem(client.post("/api/v1/samples", content=chunks, headers=TEXT), 413)


class TestRefusals:
    def test_unknown_fields_and_parameters_are_named(self, client: httpx.Client) -> None:
        errors = problem(client.get("/api/v1/status?verbose=1"), 400)["errors"]
        assert errors == [{"field": "verbose", "detail": "unknown; allowed are none"}]
        spec = {"metricSpec": {"metric": "x", "colour": 1}, "modelparams": {}}
        errors = problem(client.post("/api/v1/metrics", json=spec), 400)["errors"]
        assert {error["field"] for error in errors} == {"metricSpec.colour", "modelparams"}

    def test_a_model_that_makes_no_sense_is_refused(self, client: httpx.Client) -> None:
        spec = {"metricSpec": {"metric": "senseless"}, "modelParams": {"min": 5, "max": 1}, "monitor": True}
        assert "min 5" in problem(client.post("/api/v1/metrics", json=spec), 422)["detail"]
        problem(client.get("/api/v1/metrics/senseless"), 404)

    def test_wrong_methods_types_and_paths(self, client: httpx.Client) -> None:
        wrong = client.patch("/api/v1/metrics")
        problem(wrong, 405)
        assert wrong.headers["Allow"] == "GET, HEAD, POST"
        problem(client.post("/api/v1/metrics", content=b"{}", headers=TEXT), 415)
        problem(client.get("/api/v1/nothing"), 404)
        problem(client.get("/api/v1/metrics/%ff"), 404)
        problem(client.get("/api/v1/metrics?search=%ff"), 400)
        problem(client.get("/api/v1/metrics?search=" + "x" * 14000), 414)
        problem(client.get("/static/../../services.py"), 404)
        problem(client.get("/static/%2e%2e/%2e%2e/services.py"), 404)

    def test_answers_carry_strict_headers(self, client: httpx.Client) -> None:
        for path in ("/", "/api/v1/status", "/nothing"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert "Access-Control-Allow-Origin" not in headers

    def test_a_name_that_another_site_resolved_to_here_is_refused(self, client: httpx.Client) -> None:
        problem(client.get("/api/v1/metrics", headers={"Host": "evil.example"}), 403)
        assert client.get("/api/v1/metrics", headers={"Host": "localhost:1"}).status_code == 200

    def test_another_sites_page_may_change_nothing(self, client: httpx.Client) -> None:
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            sent = client.post("/api/v1/samples", content="a 1\n", headers={**TEXT, **headers})
            problem(sent, 403)
        own = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
        assert client.post("/api/v1/samples", content="own.page 1\n", headers={**TEXT, **own}).status_code == 202


def test_no_request_forges_a_line_of_the_log(client: httpx.Client, engine: Engine) -> None:
    forged = quote("\n2026-01-01T00:00:00+0000 [forged] <script>", safe="")
    for path in (
        f"/api/v1/metrics/{forged}",
        f"/{forged}",
        f"/api/v1/metrics?search={forged}",
        f"/render?target={forged}",
    ):
        assert client.get(path).status_code in (400, 404)
    client.post("/api/v1/samples", content=f"{forged} 1\n", headers={**TEXT, "User-Agent": "forged\tagent"})
    assert "[forged]" not in engine.log_path.read_text()


class TestSkeleton:
    def test_the_routes_of_the_skeleton_application(self, client: httpx.Client, engine: Engine) -> None:
        assert client.put("/skeleton.cpu", content=json.dumps({"min": 0, "max": 12})).status_code == 201
        assert client.put("/skeleton.cpu", content=json.dumps({"min": 0, "max": 12})).status_code == 409
        problem(client.put("/skeleton.mem", content=json.dumps({"min": 0, "maximum": 12})), 400)
        lines = "".join(f"{number % 7} {START + 60 * number}\n" for number in range(5))
        assert client.post("/skeleton.cpu", content=lines).status_code == 202
        engine.wait_until_scored("skeleton.cpu", 5)
        listed = client.get("/skeleton.cpu")
        assert listed.headers["Content-Type"] == "text/plain; charset=utf-8"
        name, value, timestamp, score = listed.text.splitlines()[1].split()
        assert (name, value, timestamp) == ("skeleton.cpu", "1.0", str(START + 60))
        assert 0.0 <= float(score) < 0.999
        assert len(listed.text.splitlines()) == 5
        assert client.delete("/skeleton.cpu").status_code == 204

    def test_a_metric_that_an_old_web_application_called_by_its_path(
        self, client: httpx.Client, engine: Engine
    ) -> None:
        engine.send([f"/old {row}.5 {START + 60 * row}" for row in range(1, 4)])
        wait_for(lambda: client.get("/old").text.count("\n") == 3, "its rows")
        assert client.post("/old", content=f"4.5 {START + 240}").status_code == 202
        wait_for(lambda: client.get("/old").text.count("\n") == 4, "one more row of the same metric")
        assert client.put("/old", content=b"{}").status_code == 409
        assert client.delete("/old").status_code == 204
        assert client.get("/old").status_code == 404
        problem(client.get("/skeleton.cpu"), 404)

    def test_only_the_headers_of_a_stream_are_asked_for(self, client: httpx.Client) -> None:
        for path in ("/web.requests", "/api/v1/events"):
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")

    def test_all_rows_of_a_long_metric_come_at_the_clients_pace(self, client: httpx.Client, engine: Engine) -> None:
        rows = 12_000
        engine.send(f"skeleton.long {number} {START + 60 * number}" for number in range(rows))
        wait_for(lambda: client.get("/api/v1/metrics?search=skeleton.long").json()["metrics"], "the metric")
        wait_for(lambda: client.get("/api/v1/metrics/skeleton.long").json()["rows"] == rows, "the rows")
        with client.stream("GET", "/skeleton.long") as response:
            lines = response.iter_lines()
            assert next(lines) == f"skeleton.long 0.0 {START} nan"
            time.sleep(0.5)
            assert sum(1 for _ in lines) == rows - 1

    def test_other_routes_are_not_shadowed(self, client: httpx.Client) -> None:
        for name in ("api", "static", "metrics", "render"):
            problem(client.put(f"/{name}", content="{}"), 404)


@contextlib.contextmanager
def events(engine: Engine, query: str = "", **headers: str) -> Iterator[Iterator[dict[str, str]]]:
    """The events of a stream, as they come."""
    with (
        httpx.Client(base_url=engine.url, timeout=30) as client,
        client.stream("GET", f"/api/v1/events{query}", headers=headers) as response,
    ):
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        yield parse_events(response.iter_lines())


def parse_events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif "data" in event:
            yield event
            event = {}
        else:
            event = {}


class TestEvents:
    def send(self, engine: Engine, metric: str, first: int, rows: int) -> None:
        engine.send(f"{metric} {number % 7} {START + 60 * number}" for number in range(first, first + rows))

    def test_new_results_come_and_a_client_that_returns_gets_what_it_missed(
        self, engine: Engine, client: httpx.Client
    ) -> None:
        for name in ("events.a", "events.b"):
            client.put(f"/{name}", content='{"min": 0, "max": 7}')
        with events(engine, "?metric=events.*") as stream:
            wait_for(lambda: client.get("/api/v1/status").json()["event_clients"] == 1, "the stream")
            self.send(engine, "events.a", 0, 3)
            seen = [next(stream) for _ in range(3)]
        assert [json.loads(event["data"])["rowid"] for event in seen] == [1, 2, 3]
        assert seen[0]["event"] == "result"
        self.send(engine, "events.b", 0, 2)
        self.send(engine, "events.a", 3, 2)
        engine.wait_until_scored("events.b", 2)
        engine.wait_until_scored("events.a", 5)
        with events(engine, "?metric=events.a", **{"Last-Event-ID": seen[1]["id"]}) as stream:
            missed = [json.loads(next(stream)["data"]) for _ in range(3)]
        assert [(event["name"], event["rowid"]) for event in missed] == [("events.a", n) for n in (3, 4, 5)]
        assert missed[0].keys() == {
            "uid", "name", "rowid", "timestamp", "value", "raw_anomaly_score", "anomaly_score"
        }  # fmt: skip

    def test_only_results_from_the_threshold_up(self, engine: Engine, client: httpx.Client) -> None:
        first = {"Last-Event-ID": "0"}
        with events(engine, "?metric=web.requests&threshold=0.99999", **first) as stream:
            assert json.loads(next(stream)["data"])["rowid"] == ROWS

    def test_a_stream_ends_after_its_limit_or_its_time(self, engine: Engine) -> None:
        with events(engine, "?metric=web.requests&limit=2", **{"Last-Event-ID": "0"}) as stream:
            assert [json.loads(event["data"])["rowid"] for event in stream] == [1, 2]
        with events(engine, "?metric=nothing&timeout=0.2") as stream:
            assert list(stream) == []

    def test_clients_that_leave_at_any_moment_leave_nothing_behind(self, engine: Engine, client: httpx.Client) -> None:
        address = ("127.0.0.1", int(engine.url.rpartition(":")[2]))
        for number in range(40):
            with socket.create_connection(address, timeout=30) as leaving:
                leaving.sendall(b"GET /api/v1/events?last_event_id=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if number % 2:
                    leaving.recv(1000)
        wait_for(lambda: client.get("/api/v1/status").json()["event_clients"] == 0, "the end of all streams")
        log = engine.log_path.read_text()
        assert "Traceback" not in log
        assert "Unhandled" not in log

    def test_bad_ids_and_parameters_are_refused(self, client: httpx.Client) -> None:
        problem(client.get("/api/v1/events", headers={"Last-Event-ID": "x"}), 400)
        problem(client.get("/api/v1/events", headers={"Last-Event-ID": "9" * 19}), 400)
        problem(client.get("/api/v1/events?limit=0"), 400)
        problem(client.get("/api/v1/events?threshold=2"), 400)

    def test_a_client_that_does_not_read_costs_nothing_and_is_told(self, engine: Engine, client: httpx.Client) -> None:
        client.put("/events.many", content='{"min": 0, "max": 7}')
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", int(engine.url.rpartition(":")[2])))
            slow.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_for(lambda: client.get("/api/v1/status").json()["event_clients"] == 1, "the stream")
            rows = 30_000
            for first in range(0, rows, 5000):
                self.send(engine, "events.many", first, 5000)
            wait_for(lambda: client.get("/api/v1/metrics/events.many").json()["rows"] == rows, "the rows")
            engine.wait_until_scored("events.many", 20_000)
            slow.settimeout(30)
            received = b""
            while b"event: skipped" not in received:
                received = received[-1000:] + slow.recv(65_536)
        assert b'"reason":"slow_client"' in received or b"too_old" in received


READ, WRITE = "read-token-0123456789", "write-token-0123456789"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("guarded")
    tokens, data = folder / "tokens", folder / "data"
    tokens.write_text(Token.of("ada", "operate", "token-of-ada-012345").line)
    environment = {"READ_TOKEN": READ, "WRITE_TOKEN": WRITE, "HOST": "0.0.0.0", "TOKENS_FILE": str(tokens)}  # noqa: S104
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for option, value in environment.items():
                patch.setenv(f"HTMENGINE__APPLICATION__WEB__{option}", value)
            started = stack.enter_context(running_engine(data, "--workers", "1"))
        yield started


class TestAccess:
    def call(self, guarded: Engine, method: str, path: str, **options: Any) -> httpx.Response:
        url = guarded.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        return httpx.request(method, url + path, **options)

    def test_tokens_are_wanted(self, guarded: Engine) -> None:
        response = self.call(guarded, "GET", "/api/v1/metrics")
        problem(response, 401)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        wrong = {"Authorization": "Bearer " + "x" * 20}
        problem(self.call(guarded, "GET", "/api/v1/metrics", headers=wrong), 401)
        assert self.call(guarded, "GET", "/api/v1/session").json()["read"] is False

    def test_the_read_token_reads_and_the_write_token_does_both(self, guarded: Engine) -> None:
        spec = {"metricSpec": {"metric": "guarded"}}
        read, write = ({"Authorization": f"Bearer {token}"} for token in (READ, WRITE))
        assert self.call(guarded, "GET", "/api/v1/metrics", headers=read).status_code == 200
        problem(self.call(guarded, "POST", "/api/v1/metrics", headers=read, json=spec), 403)
        assert self.call(guarded, "POST", "/api/v1/metrics", headers=write, json=spec).status_code == 201
        assert self.call(guarded, "GET", "/api/v1/metrics", headers=write).json()["total"] == 1

    def test_a_named_token_may_do_what_its_role_says_and_the_audit_has_its_name(self, guarded: Engine) -> None:
        ada = {"Authorization": "Bearer token-of-ada-012345"}
        problem(self.call(guarded, "DELETE", "/api/v1/metrics/guarded", headers=ada), 403)
        problem(self.call(guarded, "POST", "/api/v1/samples", headers=ada, json={"samples": []}), 403)
        silence = {"metrics": ["x"], "for_s": 60}
        assert self.call(guarded, "POST", "/api/v1/silences", headers=ada, json=silence).json()["who"] == "ada"
        [entry, *_] = self.call(guarded, "GET", "/api/v1/audit", headers=ada).json()["entries"]
        assert (entry["who"], entry["what"]) == ("ada", "silenced")
        write = {"Authorization": f"Bearer {WRITE}"}
        assert self.call(guarded, "DELETE", "/api/v1/metrics/guarded", headers=write).status_code == 204
        [entry, *_] = self.call(guarded, "GET", "/api/v1/audit", headers=ada).json()["entries"]
        assert (entry["who"], entry["what"], entry["about"]) == ("write_token", "deleted a metric", "guarded")

    def test_basic_authentication_has_the_token_as_its_password(self, guarded: Engine) -> None:
        assert self.call(guarded, "GET", "/api/v1/metrics", auth=("grafana", READ)).status_code == 200
        problem(self.call(guarded, "GET", "/api/v1/metrics", auth=(READ, "grafana")), 401)

    def test_a_session_is_a_cookie_for_browsers(self, guarded: Engine) -> None:
        opened = self.call(guarded, "POST", "/api/v1/session", json={"token": READ})
        assert opened.json() == {
            "tokens": True,
            "name": "read_token",
            "read": True,
            "operate": False,
            "write": False,
        }
        cookie = opened.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert READ not in cookie
        carried = {"Cookie": cookie.partition(";")[0]}
        assert self.call(guarded, "GET", "/api/v1/metrics", headers=carried).status_code == 200
        problem(self.call(guarded, "DELETE", "/api/v1/metrics/x", headers=carried), 403)
        forged = {"Cookie": carried["Cookie"].replace(".1.", ".15.")}
        problem(self.call(guarded, "GET", "/api/v1/metrics", headers=forged), 401)
        problem(self.call(guarded, "POST", "/api/v1/session", json={"token": "wrong"}), 401)

    def test_no_token_stands_in_the_log(self, guarded: Engine) -> None:
        log = guarded.log_path.read_text()
        assert READ not in log
        assert WRITE not in log


def test_the_engine_does_not_start_beyond_loopback_without_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTMENGINE__APPLICATION__WEB__HOST", "0.0.0.0")  # noqa: S104
    with pytest.raises(AssertionError, match="without tokens"), running_engine(tmp_path / "data"):
        pass
