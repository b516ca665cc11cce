# SPDX-License-Identifier: MIT
"""What each kind of receiver gets, and that no metric's name can become anything but a name."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from email import message_from_bytes, policy
from unittest import TestCase
from xml.etree import ElementTree

from htmengine.alerts.formats import alertmanager_request, email_message, slack_request, webhook_request
from htmengine.alerts.incident_messages import message_from_json
from htmengine.alerts.notifications import Notification, sparkline
from htmengine.alerts.receivers import Alertmanager, Email, Slack, Webhook
from tests.support.notifications import FIRING, INCIDENT, RESOLVED

HOSTILE = replace(FIRING, metric="<@U1>&*_`<script>alert(1)</script>")
NOW = 1_400_000_140.0


class NotificationTest(TestCase):
    def test_it_survives_the_table(self) -> None:
        self.assertEqual(message_from_json(FIRING.to_json()), FIRING)

    def test_the_summary_says_what_and_when(self) -> None:
        self.assertEqual(
            FIRING.summary, "web.cpu is anomalous: value 97.5, anomaly score 0.999990 at 2014-05-13T16:55:20Z"
        )

    def test_bars_stand_for_any_values(self) -> None:
        self.assertEqual((sparkline([]), sparkline([5, 5]), sparkline([-1e300, 0, 1e300])), ("", "▁▁", "▁▅█"))

    def test_the_plot_is_an_svg_with_its_anomalies_marked(self) -> None:
        picture = ElementTree.fromstring(HOSTILE.plot())
        space = "{http://www.w3.org/2000/svg}"
        line, marks = picture.find(f"{space}polyline"), picture.findall(f"{space}circle")
        self.assertEqual(line.get("points").split(), ["8.0,112.0", "240.0,100.1", "472.0,8.0"])
        self.assertEqual([(mark.get("cx"), mark.get("cy")) for mark in marks], [("472.0", "8.0")])
        self.assertIn("<script>", picture.find(f"{space}title").text)


class WebhookTest(TestCase):
    receiver = Webhook("hook", url="http://127.0.0.1/", secret="key", authorization="Bearer abc")

    def test_the_body_is_json_with_all_that_is_known(self) -> None:
        body = json.loads(webhook_request(self.receiver, FIRING, "d1", NOW).body)
        recent = body.pop("recent")
        self.assertEqual(
            body,
            {
                "id": "0d7f",
                "delivery": "d1",
                "status": "firing",
                "summary": FIRING.summary,
                "rule": "load",
                "labels": {"severity": "page"},
                "metric_labels": {},
                "metric": {"name": "web.cpu", "uid": "u1"},
                "rowid": 3,
                "timestamp": 1_400_000_120,
                "time": "2014-05-13T16:55:20Z",
                "value": 97.5,
                "anomaly_score": 0.99999,
                "threshold": 0.999,
                "started": "2014-05-13T16:55:20Z",
                "reason": "",
                "link": "http://127.0.0.1:8080/#/metrics/u1",
                "sparkline": "▁▁█",
            },
        )
        self.assertEqual(recent[0], {"timestamp": 1_400_000_000, "value": 10.0, "anomaly_score": None})

    def test_the_signature_is_over_time_and_body(self) -> None:
        request = webhook_request(self.receiver, FIRING, "d1", NOW)
        timestamp = request.headers["HTMEngine-Timestamp"]
        expected = hmac.new(b"key", timestamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
        self.assertEqual(timestamp, "1400000140")
        self.assertEqual(request.headers["HTMEngine-Signature"], f"sha256={expected}")
        self.assertEqual(request.headers["Authorization"], "Bearer abc")

    def test_without_a_secret_nothing_is_signed(self) -> None:
        request = webhook_request(Webhook("hook", url="http://127.0.0.1/"), FIRING, "d1", NOW)
        self.assertEqual(sorted(request.headers), ["HTMEngine-Delivery", "HTMEngine-Timestamp"])


class AlertmanagerTest(TestCase):
    receiver = Alertmanager("am", url="http://127.0.0.1:9093/prefix/")

    def alert(self, notification: Notification) -> dict[str, object]:
        request = alertmanager_request(self.receiver, [notification], NOW)
        self.assertEqual(request.url, "http://127.0.0.1:9093/prefix/api/v2/alerts")
        [alert] = json.loads(request.body)
        assert isinstance(alert, dict)
        return alert

    def test_an_alert_that_fires_ends_when_nobody_speaks_of_it_any_more(self) -> None:
        alert = self.alert(FIRING)
        self.assertEqual(alert["labels"], {"alertname": "load", "metric": "web.cpu", "severity": "page"})
        self.assertEqual(alert["startsAt"], "2014-05-13T16:55:20Z")
        self.assertEqual(alert["endsAt"], "2014-05-13T16:59:40Z")
        self.assertEqual(alert["generatorURL"], FIRING.link)

    def test_the_metrics_labels_are_told_but_hide_no_other(self) -> None:
        alert = self.alert(replace(FIRING, metric_labels=(("host", "a"), ("service.name", "b"), ("alertname", "x"))))
        named = {"alertname": "load", "metric": "web.cpu", "severity": "page"}
        self.assertEqual(alert["labels"], {**named, "host": "a", "service_name": "b"})

    def test_one_that_is_over_has_the_same_labels_and_its_end(self) -> None:
        alert = self.alert(RESOLVED)
        self.assertEqual(alert["labels"], self.alert(FIRING)["labels"])
        self.assertEqual(alert["endsAt"], "2014-05-13T16:55:30Z")

    def test_no_label_can_take_the_place_of_ours(self) -> None:
        labels = self.alert(replace(FIRING, labels=(("alertname", "x"), ("metric", "y"))))["labels"]
        self.assertEqual(labels, {"alertname": "load", "metric": "web.cpu"})


class SlackTest(TestCase):
    receiver = Slack("chat", url="http://127.0.0.1/")

    def text(self, notification: Notification) -> str:
        body = json.loads(slack_request(self.receiver, notification).body)
        return str(body["blocks"][0]["text"]["text"])

    def test_a_message_links_the_metric_and_shows_its_last_values(self) -> None:
        self.assertEqual(
            self.text(FIRING).splitlines(),
            [
                ":red_circle: <http://127.0.0.1:8080/#/metrics/u1|web.cpu> is anomalous (rule load)",
                "value *97.5*, anomaly score *0.999990* at 2014-05-13T16:55:20Z",
                "`▁▁█`",
            ],
        )
        self.assertIn("calm again", self.text(RESOLVED))

    def test_a_name_cannot_mention_anybody_or_be_markup(self) -> None:
        self.assertNotIn("<@U1>", self.text(HOSTILE))
        self.assertIn("&lt;@U1&gt;&amp;*\u200b_\u200b`\u200b&lt;script&gt;", self.text(HOSTILE))


class EmailTest(TestCase):
    receiver = Email("mail", sender="htm@example.com", to=("a@example.com", "b@example.com"))

    def test_a_mail_has_the_alert_as_text_and_the_plot_attached(self) -> None:
        raw = email_message(self.receiver, FIRING, "d1", NOW).as_bytes()
        mail = message_from_bytes(raw, policy=policy.default)
        self.assertEqual(mail["Subject"], "[FIRING] load: web.cpu")
        self.assertEqual(mail["To"], "a@example.com, b@example.com")
        self.assertEqual(mail["Message-ID"], "<d1@example.com>")
        text, plot = mail.iter_parts()
        self.assertIn(FIRING.link, text.get_content())
        self.assertIn("Last values: ▁▁█", text.get_content())
        self.assertEqual((plot.get_content_type(), plot.get_filename()), ("image/svg+xml", "recent.svg"))
        self.assertEqual(plot.get_content(), FIRING.plot().encode())

    def test_no_line_begins_with_a_dot_whatever_the_metric_is_called(self) -> None:
        raw = email_message(self.receiver, replace(FIRING, metric=".\u00fc.", link="."), "d1", NOW).as_bytes()
        self.assertEqual([line for line in raw.splitlines() if line.startswith(b".")], [])

    def test_a_long_name_does_not_break_the_header(self) -> None:
        long = replace(FIRING, metric="m" * 200 + "\u00fc" * 55)
        mail = message_from_bytes(email_message(self.receiver, long, "d1", NOW).as_bytes(), policy=policy.default)
        self.assertEqual(mail["Subject"], f"[FIRING] load: {long.metric}")


class IncidentTest(TestCase):
    """An incident's messages, in each form."""

    def test_it_survives_the_table(self) -> None:
        labelled = replace(INCIDENT, moved=(replace(INCIDENT.moved[0], labels=(("job", "api"),)),))
        for message in (INCIDENT, labelled):
            self.assertEqual(message_from_json(message.to_json()), message)

    def test_a_webhook_has_its_metrics_with_what_was_expected(self) -> None:
        body = json.loads(webhook_request(Webhook("hook", url="http://127.0.0.1/"), INCIDENT, "d1", NOW).body)
        self.assertEqual(
            (body["id"], body["type"], body["title"], body["metrics"]), ("0d9b", "incident", "db1.* and 1 more", 3)
        )
        self.assertEqual(
            body["summary"], "db1.* and 1 more: an incident has begun, 3 metrics since 2014-05-13T16:53:20Z"
        )
        first, second = body["moved"]
        self.assertEqual((first["value"], first["expected"], first["lower"], first["upper"]), (97.5, 12.0, 9.5, 14.5))
        self.assertEqual((second["metric"]["name"], second["value"]), ("db1.up", None))

    def test_alertmanager_knows_it_by_its_id(self) -> None:
        worse = replace(INCIDENT, status="worse", members=20)
        for message in (INCIDENT, worse):
            request = alertmanager_request(Alertmanager("am", url="http://127.0.0.1"), [message], NOW)
            [alert] = json.loads(request.body)
            self.assertEqual(alert["labels"], {"alertname": "all", "incident": "0d9b", "severity": "high"})
        self.assertEqual(alert["annotations"]["metrics"], "20")

    def test_slack_shows_each_metric_and_no_markup_of_names(self) -> None:
        hostile = replace(INCIDENT.moved[0], name="<@U1>")
        message = replace(INCIDENT, moved=(hostile, *INCIDENT.moved[1:]))
        body = json.loads(slack_request(Slack("chat", url="http://127.0.0.1/"), message).body)
        text = body["blocks"][0]["text"]["text"]
        self.assertIn("an incident has begun (rule all)", text)
        self.assertIn("value 97.5, expected 12 (9.5 to 14.5); the highest in 9 weeks", text)
        self.assertNotIn("<@U1>", text)

    def test_a_mail_lists_what_moved(self) -> None:
        receiver = Email("mail", sender="htm@example.com", to=("a@example.com",))
        mail = message_from_bytes(email_message(receiver, INCIDENT, "d1", NOW).as_bytes(), policy=policy.default)
        self.assertEqual(mail["Subject"], "[FIRING] all: db1.* and 1 more")
        text, plot = mail.iter_parts()
        self.assertIn("Moved:         db1.load: value 97.5", text.get_content())
        self.assertEqual(plot.get_content(), INCIDENT.plot().encode())
