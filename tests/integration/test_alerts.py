# SPDX-License-Identifier: MIT
"""Alerts of a real engine at real receivers: HTTP and SMTP servers, an Alertmanager."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from htmengine.process import crash_points
from htmengine.wires.compression import snap
from htmengine.wires.remote_write import write_version_1
from tests.support.distributed import distributed_engine
from tests.support.engine import Engine, running_engine, wait_for
from tests.support.processes import run_htmengine
from tests.support.receivers import (
    HttpReceiver,
    endless,
    hang,
    http_receiver,
    refusing_port,
    self_signed,
    smtp_server,
    status,
)
from tests.support.servers import Alertmanager, MariaDB, RabbitMQ

START = 1_400_000_000
STEP_S = 300
#: A window of one row, and a threshold that a spike reaches and the rows after it do not: the next row resolves.
RULE = "threshold = 0.9999999\nwindow_s = 300\nmax_age_s = 0\n"


@pytest.fixture
def hook() -> Iterator[HttpReceiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    """Writes alerts.conf, and says where."""

    def write(text: str) -> Path:
        folder = tmp_path / "conf"
        folder.mkdir(exist_ok=True)
        (folder / "alerts.conf").write_text(text)
        return folder

    return write


def usual(metric: str) -> list[str]:
    """Rows that give a model its range; nothing in them is anomalous enough."""
    return [f"{metric} {50 + number % 3} {START + STEP_S * number}" for number in range(400)]


def sample(metric: str, number: int, value: float) -> str:
    return f"{metric} {value} {START + STEP_S * number}"


def start_firing(engine: Engine, metric: str = "web.load") -> None:
    engine.send(usual(metric))
    engine.wait_until_scored(metric, 400)
    engine.send([sample(metric, 400, 1000.0)])


def alert(*arguments: str, code: int = 0) -> str:
    """``htmengine alert``; what it prints."""
    return command("alert", *arguments, code=code)


def command(*arguments: str, code: int = 0) -> str:
    """``htmengine``; what it prints."""
    done = run_htmengine(*arguments)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


class TestEngine:
    def test_labels_past_the_255th_byte_of_a_name_make_rules_and_messages(
        self, tmp_path: Path, config: Callable[[str], Path], alertmanager: Alertmanager, hook: HttpReceiver
    ) -> None:
        folder = config(
            '[alert:api]\nmetrics = {job="api",instance=~"web.*"}\npages_per_week = 5\nvalid_range = ..100\n'
            "max_age_s = 0\nreceivers = am, hook\n"
            f"[receiver:am]\ntype = alertmanager\nurl = {alertmanager.url}\n"
            f"[receiver:hook]\ntype = webhook\nurl = {hook.url}\n"
        )
        labels = {"a": "é" * 1900, "instance": "web-7", "job": "api"}
        others = {**labels, "job": "db"}
        now = int(time.time()) // 60 * 60
        rows = [(now - 60.0 * (40 - number), 50.0 + number % 3) for number in range(40)]
        series = [(("__name__", "load"), *each.items()) for each in (labels, others)]
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        with running_engine(tmp_path / "data", "--config", str(folder)) as engine:
            for sent in (rows, [(float(now), 1000.0)]):
                body = snap(write_version_1(dict.fromkeys(series, sent)))
                assert httpx.post(f"{engine.url}/api/v1/write", content=body, headers=headers).status_code == 204
            wait_for(alertmanager.alerts, "the incident in Alertmanager")
            wait_for(lambda: hook.requests, "the message")
            [incident] = httpx.get(f"{engine.url}/api/v1/incidents").json()["incidents"]
            [member] = httpx.get(f"{engine.url}/api/v1/incidents/{incident['id']}").json()["metrics"]
            text = f"load;job=api;instance=web-7;a={labels['a']}"
            found = httpx.get(f"{engine.url}/api/v1/metrics/{quote(text, safe='')}").json()
            rows_shown = command("results", text, "--data-dir", str(engine.data_dir))
        [alert] = alertmanager.alerts()
        assert {**alert["labels"], **labels} == alert["labels"]
        assert alert["labels"]["incident"] == incident["id"]
        assert hook.requests[0].json["metric_labels"] == labels
        assert incident["members"] == 1
        assert found["text"] == member["full_name"] == f"load;a={labels['a']};instance=web-7;job=api"
        assert found["name"] == member["metric"]
        assert " 1000 " in rows_shown

    def test_every_kind_of_receiver_is_told_of_an_anomaly_and_of_its_end(
        self, tmp_path: Path, config: Callable[[str], Path], alertmanager: Alertmanager
    ) -> None:
        with http_receiver() as hook, http_receiver() as chat, smtp_server() as mailbox:
            folder = config(
                "[alerts]\nname_labels = {app}.{what}\n"
                f"[alert:load]\nmetrics = web.*\nreceivers = hook, chat, am, mail\nlabels = severity=page\n{RULE}"
                f"[receiver:hook]\ntype = webhook\nurl = {hook.url}\nsecret = s3cret\n"
                f"[receiver:chat]\ntype = slack\nurl = {chat.url}\n"
                f"[receiver:am]\ntype = alertmanager\nurl = {alertmanager.url}\n"
                f"[receiver:mail]\ntype = email\nhost = 127.0.0.1\nport = {mailbox.port}\ntls = no\n"
                "sender = htm@example.com\nto = ops@example.com\n"
            )

            def held() -> list[dict[str, Any]]:
                """Other tests' alerts may be there, too."""
                return [each for each in alertmanager.alerts() if each["labels"].get("metric") == "web.load"]

            rules = folder / "rules.conf"
            rules.write_text(f'[alert:stored]\nmetrics = {{app="web"}}\nreceivers = am\n{RULE}')
            with running_engine(tmp_path / "data", "--config", str(folder)) as engine:
                at = ("--data-dir", str(engine.data_dir), "--config", str(folder))
                assert alert("apply", str(rules), *at) == "stored: added\n1 changed\n"
                told = re.compile("the rules(?: have changed)?: load, stored")  # before or after the service began
                wait_for(lambda: told.search(engine.log_path.read_text()), "the new rule")
                start_firing(engine)
                wait_for(lambda: hook.requests and chat.requests and mailbox.mails, "the alert")
                wait_for(lambda: len(held()) == 2, "the alerts in Alertmanager")
                fired_there = held()
                engine.send([sample("web.load", 401, 52.0)])
                wait_for(lambda: min(len(hook.requests), len(chat.requests), len(mailbox.mails)) == 2, "its end")
                wait_for(lambda: held() == [], "its end in Alertmanager")
                listed = alert("list", *at)

        fired, over = (request.json for request in hook.requests)
        assert (fired["status"], fired["metric"]["name"], fired["value"]) == ("firing", "web.load", 1000.0)
        assert fired["anomaly_score"] >= 0.99999
        assert [row["value"] for row in fired["recent"]][-3:] == [52.0, 50.0, 1000.0]
        assert (over["status"], over["rowid"], over["id"]) == ("resolved", 402, fired["id"])
        for request in hook.requests:
            signed = request.headers["HTMEngine-Timestamp"].encode() + b"." + request.body
            expected = "sha256=" + hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
            assert request.headers["HTMEngine-Signature"] == expected
        assert "web.load" in chat.requests[0].json["blocks"][0]["text"]["text"]
        own = {"metric": "web.load", "app": "web", "what": "load"}
        labels = sorted((each["labels"] for each in fired_there), key=lambda each: str(each["alertname"]))
        assert labels == [{"alertname": "load", "severity": "page", **own}, {"alertname": "stored", **own}]
        assert [mail["Subject"] for mail in mailbox.mails] == ["[FIRING] load: web.load", "[RESOLVED] load: web.load"]
        assert mailbox.to == [["ops@example.com"]] * 2
        assert "load  web.load" in listed
        assert "RESOLVED" in listed
        assert listed.count("DELIVERED, 1 attempts") == 10

    def test_receivers_that_fail_hang_and_refuse_are_tried_again_and_hold_up_nobody(
        self, tmp_path: Path, config: Callable[[str], Path], hook: HttpReceiver
    ) -> None:
        closed = refusing_port()
        hook.answers = [status(500, "out of order"), status(503, phrase="\x1b[31mred")]
        with http_receiver() as slow, http_receiver() as good:
            slow.answers = [hang(30)]
            folder = config(
                f"[alert:load]\nresolved = no\nreceivers = hook, slow, closed, good\n{RULE}"
                f"[receiver:hook]\ntype = webhook\nurl = {hook.url}\n"
                f"[receiver:slow]\ntype = webhook\nurl = {slow.url}\ntimeout_s = 1\n"
                f"[receiver:closed]\ntype = slack\nurl = http://127.0.0.1:{closed}/secret-path\n"
                f"[receiver:good]\ntype = webhook\nurl = {good.url}\n"
            )
            with running_engine(tmp_path / "data", "--config", str(folder)) as engine:
                start_firing(engine)
                wait_for(lambda: good.requests, "the good receiver")
                wait_for(lambda: len(hook.requests) == 3 and len(slow.requests) == 2, "the others")
                engine.send([sample("web.load", 401, 51.0)])
                engine.wait_until_scored("web.load", 402)
                with http_receiver(closed) as opened:
                    wait_for(lambda: opened.requests, "the one that was closed")
                delivered = "SELECT count(*) FROM alert_delivery WHERE state = 'DELIVERED'"
                wait_for(lambda: engine.query(delivered) == [(4,)], "all deliveries")
            assert len({request.headers["HTMEngine-Delivery"] for request in hook.requests}) == 1
            assert len(good.requests) == 1
            log = engine.log_path.read_text()
            assert "500 Internal Server Error out of order" in log
            assert "503 ?[31mred" in log
            assert "no answer within 1 s" in log
            assert "refused" in log
            assert "secret-path" not in log

    def test_killed_between_firing_and_delivery_it_delivers_the_same_message_after_the_start(
        self, tmp_path: Path, config: Callable[[str], Path], hook: HttpReceiver
    ) -> None:
        hook.answers = [hang(60)]
        folder = config(
            f"[alert:load]\nreceivers = hook\n{RULE}[receiver:hook]\ntype = webhook\nurl = {hook.url}\ntimeout_s = 2\n"
        )
        with running_engine(tmp_path / "data", "--config", str(folder)) as engine:
            start_firing(engine)
            wait_for(lambda: len(hook.requests) == 1, "the first attempt")
            engine.kill()
            engine.start()
            wait_for(lambda: len(hook.requests) == 2, "the second attempt")
            wait_for(lambda: engine.query("SELECT state FROM alert_delivery") == [("DELIVERED",)], "its delivery")
            assert engine.query("SELECT count(*) FROM alert") == [(1,)]
        first, second = hook.requests
        assert first.headers["HTMEngine-Delivery"] == second.headers["HTMEngine-Delivery"]
        assert first.json == second.json

    def test_a_wrong_alerts_conf_is_refused_at_the_start_by_name(
        self, tmp_path: Path, config: Callable[[str], Path]
    ) -> None:
        folder = config("[alert:load]\nthreshold = high\nreceivers = x\n")
        options = ("--data-dir", str(tmp_path / "data"), "--config", str(folder))
        for command in (["run", *options], ["check-config", "--config", str(folder)]):
            done = run_htmengine(*command)
            assert done.returncode == 1
            assert "alerts.conf [alert:load] threshold = 'high': a number from 0 to 1 is allowed" in done.stderr


class TestBudget:
    """A rule with a budget, in a real engine."""

    def test_incidents_are_told_once_wherever_the_engine_dies_and_what_people_said_lasts(
        self, tmp_path: Path, config: Callable[[str], Path], hook: HttpReceiver
    ) -> None:
        folder = config(
            "[alert:all]\npages_per_week = 50\nmax_age_s = 0\nreceivers = hook\n"
            f"[receiver:hook]\ntype = webhook\nurl = {hook.url}\ntimeout_s = 2\n"
        )
        with running_engine(tmp_path / "data", "--config", str(folder)) as engine:
            days = Days(engine, ("web.load", "web.users"))
            days.pass_by(15)
            assert engine.query("SELECT count(*) FROM alarm_verdict") == [(0,)]
            engine.stop()
            lines = days.with_a_spike()
            for number, point in enumerate(crash_points.ALERT_POINTS):
                engine.environment[crash_points.VARIABLE] = point
                with contextlib.suppress(AssertionError):  # it may die before it listens
                    engine.start()
                if number == 0:
                    engine.send(lines)
                assert engine.process is not None
                assert engine.process.wait(60) == -signal.SIGKILL, point
            del engine.environment[crash_points.VARIABLE]
            engine.start()
            engine.send(lines)  # what had not been stored
            days.wait_until_scored()
            wait_for(lambda: engine.query(TOLD) == [(1, 2)], "the incident and its message")
            firing = [request for request in hook.requests if request.json["status"] == "firing"]
            assert {request.headers["HTMEngine-Delivery"] for request in firing} == {
                f"{firing[0].json['id']}.firing.hook"
            }
            assert engine.query("SELECT count(*) FROM alarm_verdict WHERE verdict = 'paged'") == [(1,)]
            told = firing[-1].json
            assert (told["type"], told["moved"][0]["direction"]) == ("incident", "up")

            here = ("--data-dir", str(engine.data_dir), "--config", str(folder))
            command("alert", "mark", told["id"], "fine", *here)
            command("alert", "silence", "web.users", "--for", "1h", *here)
            engine.kill()
            engine.start()
            days.pass_by(1)
            engine.send(days.with_a_spike())
            days.wait_until_scored()
            wait_for(lambda: len(engine.query(NEWEST, days.spiked_at)) == 2, "the verdicts")
            assert engine.query(NEWEST, days.spiked_at) == [("held back: fine",), ("held back: silenced",)]
            assert "2 metrics" in command("incidents", *here)
            assert "called the like of it fine" in command(
                "why", "--page", "all", "web.load", str(days.spiked_at), *here
            )

    def test_a_deploy_that_moves_51_metrics_is_one_incident_and_three_messages(
        self, tmp_path: Path, config: Callable[[str], Path], hook: HttpReceiver
    ) -> None:
        folder = config(
            "[alert:all]\npages_per_week = 50\nmax_age_s = 0\nsilence = no\nreceivers = hook\n"
            f"[receiver:hook]\ntype = webhook\nurl = {hook.url}\n"
        )
        with running_engine(tmp_path / "data", "--config", str(folder)) as engine:
            days = Days(engine, [f"web{host}.{what}" for host in range(17) for what in ("cpu", "load", "users")], 3600)
            days.pass_by(15)
            engine.send(days.with_a_spike())
            days.wait_until_scored()
            wait_for(lambda: engine.query("SELECT phase, members FROM incident") == [("OVER", 51)], "the incident")
            wait_for(lambda: hook.requests[-1].json["status"] == "resolved", "its end")
            told = [request.json for request in hook.requests]
            assert [each["status"] for each in told] in (["firing", "resolved"], ["firing", "worse", "resolved"])
            assert told[-1]["metrics"] == 51


#: Incidents that the receiver knows of, and the metrics in them.
TOLD = """SELECT count(*), sum(members) FROM incident JOIN alert_delivery ON alert_id = incident.id
    WHERE alert_delivery.status = 'firing' AND state = 'DELIVERED'"""
NEWEST = """SELECT verdict FROM alarm_verdict JOIN metric USING (uid)
    WHERE alarm_verdict.timestamp = ? AND verdict <> 'held off' ORDER BY name"""


class Days:
    """Days of rows up to some weeks ago; each spike is higher than the one before."""

    def __init__(self, engine: Engine, metrics: Sequence[str], step_s: int = STEP_S) -> None:
        self._engine = engine
        self._metrics = metrics
        self._step_s = step_s
        self._at = int(time.time()) - 40 * 86_400
        self._rows = 0
        self.spiked_at = 0
        self._spike = 1000.0

    def pass_by(self, days: int) -> None:
        """Usual rows are sent and scored."""
        self._engine.send(self._usual(86_400 // self._step_s * days))
        self.wait_until_scored()

    def with_a_spike(self) -> list[str]:
        """Lines of a usual day that begins with a spike of all metrics."""
        self._spike *= 3
        self.spiked_at = self._at
        return [*self._lines(self._spike), *self._usual(86_400 // self._step_s - 1)]

    def wait_until_scored(self) -> None:
        for metric in self._metrics:
            self._engine.wait_until_scored(metric, self._rows)

    def _usual(self, rows: int) -> list[str]:
        return [line for n in range(rows) for line in self._lines(50.0 + n % 3)]

    def _lines(self, value: float) -> list[str]:
        lines = [f"{metric} {value} {self._at}" for metric in self._metrics]
        self._at += self._step_s
        self._rows += 1
        return lines


class TestDistributed:
    def test_the_tap_tells_of_what_other_processes_scored(
        self, tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB, hook: HttpReceiver
    ) -> None:
        options = {"HTMENGINE__APPLICATION__METRIC_STORER__AUTO_MONITOR": "yes"}
        url = mariadb.new_database()
        with distributed_engine(tmp_path, rabbitmq_port=rabbitmq.port, database_url=url, options=options) as engine:
            (engine.config_dir / "alerts.conf").write_text(
                f"[alerts]\nqueue_name = {engine.names}.alerts\n[alert:load]\nreceivers = hook\n{RULE}"
                f"[receiver:hook]\ntype = webhook\nurl = {hook.url}\n"
            )
            twistd = str(Path(sys.executable).with_name("twistd"))
            command = [twistd, "-n", "--pidfile=", "htmengine-alerts"]
            alerts = subprocess.Popen(command, env=engine.environment(), stdout=subprocess.PIPE, text=True)
            try:
                assert alerts.stdout is not None
                wait_for(lambda: "(consuming)" in alerts.stdout.readline(), "the alert service")
                engine.start_all()
                engine.send(usual("web.load"))
                engine.wait_until_scored(400)
                engine.send([sample("web.load", 400, 1000.0)])
                wait_for(lambda: hook.requests, "the alert")
                engine.send([sample("web.load", 401, 52.0)])
                wait_for(lambda: len(hook.requests) == 2, "its end")
            finally:
                alerts.terminate()
                alerts.communicate(timeout=20)
        assert [request.json["status"] for request in hook.requests] == ["firing", "resolved"]


class TestCommand:
    """``htmengine alert test``: one attempt at each receiver, and what came back."""

    def test_it_says_what_each_receiver_answered(
        self, tmp_path: Path, config: Callable[[str], Path], hook: HttpReceiver, alertmanager: Alertmanager
    ) -> None:
        folder = config(
            f"[alert:load]\nreceivers = hook, am\n[alert:other]\nreceivers = closed\n"
            f"[receiver:hook]\ntype = webhook\nurl = {hook.url}\n"
            f"[receiver:am]\ntype = alertmanager\nurl = {alertmanager.url}\n"
            f"[receiver:closed]\ntype = slack\nurl = http://127.0.0.1:{refusing_port()}/services/secret\n"
        )
        at = ("--data-dir", str(tmp_path / "data"), "--config", str(folder))
        said = alert("test", "load", *at).splitlines()
        assert said == [
            f"load -> hook (webhook, http://127.0.0.1:{hook.port}): 200 OK taken",
            f"load -> am (alertmanager, {alertmanager.url}): 200 OK",
        ]
        assert hook.requests[0].json["status"] == "test"
        assert {"test": "true", "alertname": "load", "metric": "htmengine.test"} in [
            each["labels"] for each in alertmanager.alerts()
        ]
        said_of_all = alert("test", *at, code=1)
        assert said_of_all.count("\n") == 3
        assert "FAILED: Connection was refused by other side" in said_of_all
        assert "secret" not in said_of_all
        assert alert("test", "nothing", *at, code=1) == "Error: no rule nothing; there are load, other\n"
        assert "no engine has ever run on this folder" in alert("list", *at, code=1)

    def test_a_redirect_carries_no_alert_elsewhere_and_no_answer_is_endless(
        self, tmp_path: Path, config: Callable[[str], Path], hook: HttpReceiver
    ) -> None:
        folder = config(
            f"[alert:load]\nreceivers = hook\n[receiver:hook]\ntype = webhook\nurl = {hook.url}\ntimeout_s = 20\n"
        )
        at = ("--data-dir", str(tmp_path / "data"), "--config", str(folder))
        with http_receiver() as elsewhere:
            hook.answers = [status(307, Location=elsewhere.url), endless]
            assert "FAILED: 307 Temporary Redirect (redirects are not followed" in alert("test", *at, code=1)
            assert elsewhere.requests == []
        assert "200 OK xxxx" in alert("test", *at)

    # The server does not know that it is behind TLS from the start.
    @pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
    def test_mail_goes_encrypted_and_with_a_login_and_no_error_tells_the_password(
        self, tmp_path: Path, config: Callable[[str], Path]
    ) -> None:
        certificate = self_signed(tmp_path / "server.pem")

        def at(host: str, port: int, password: str, ca_file: Path | None, tls: str = "starttls") -> tuple[str, ...]:
            folder = config(
                f"[alert:load]\nreceivers = mail\n[receiver:mail]\ntype = email\nhost = {host}\nport = {port}\n"
                f"sender = htm@example.com\nto = ops@example.com\nuser = htm\npassword = {password}\ntls = {tls}\n"
                + (f"tls_ca_file = {ca_file}\n" if ca_file else "")
            )
            return ("--data-dir", str(tmp_path / "data"), "--config", str(folder))

        with smtp_server(certificate, "sw0rdfish") as mailbox:
            said = alert("test", *at("localhost", mailbox.port, "sw0rdfish", certificate))
            assert "taken for 1 of 1 addresses" in said
            assert [mail["Subject"] for mail in mailbox.mails] == ["[TEST] load: htmengine.test"]
            said = alert("test", *at("localhost", mailbox.port, "wr0ng-pass", certificate), code=1)
            assert "FAILED: 535" in said
            assert "wr0ng-pass" not in said
            said = alert("test", *at("localhost", mailbox.port, "sw0rdfish", None), code=1)
            assert "certificate" in said
            assert len(mailbox.mails) == 1
        with smtp_server(certificate, "sw0rdfish", implicit=True) as mailbox:
            said = alert("test", *at("localhost", mailbox.port, "sw0rdfish", certificate, "implicit"))
            assert "taken for 1 of 1 addresses" in said
            said = alert("test", *at("localhost", mailbox.port, "wr0ng-pass", certificate, "implicit"), code=1)
            assert "FAILED: 535" in said
            assert "wr0ng-pass" not in said
            said = alert("test", *at("localhost", mailbox.port, "sw0rdfish", None, "implicit"), code=1)
            assert "certificate" in said
            assert len(mailbox.mails) == 1
        with smtp_server() as plain:
            said = alert("test", *at("127.0.0.1", plain.port, "sw0rdfish", certificate), code=1)
            assert "FAILED" in said
            assert plain.mails == []
