# SPDX-License-Identifier: MIT
"""What PagerDuty, Opsgenie, Teams, Telegram and ntfy get, in the shapes of their documentation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from htmengine.alerts.formats import HttpRequest, email_message, signature, slack_request, webhook_request
from htmengine.alerts.incident_messages import Message
from htmengine.alerts.receivers import Email, Ntfy, Opsgenie, PagerDuty, Slack, Teams, Telegram, Vendor, Webhook
from htmengine.alerts.vendors import request_for
from htmengine.errors import DeliveryFailed
from htmengine.labels import identity
from tests.support.notifications import FIRING, INCIDENT, RESOLVED

LINK = "http://127.0.0.1:8080/#/metrics/u1"


def asked(receiver: Vendor, message: Message) -> tuple[HttpRequest, Any]:
    request = request_for(receiver, message)
    return request, json.loads(request.body)


class VendorsTest(SynchronousTestCase):
    def test_pagerduty(self) -> None:
        receiver = PagerDuty("duty", routing_key="key")
        request, event = asked(receiver, FIRING)
        self.assertEqual(request.url, "https://events.pagerduty.com/v2/enqueue")
        details = event["payload"].pop("custom_details")
        self.assertEqual((details["severity"], details["Value"]), ("page", "97.5"))
        self.assertEqual(
            event,
            {
                "routing_key": "key",
                "event_action": "trigger",
                "dedup_key": "0d7f",
                "payload": {
                    "summary": FIRING.summary,
                    "source": "web.cpu",
                    "severity": "error",
                    "timestamp": "2014-05-13T16:55:30Z",
                    "group": "load",
                    "class": "anomaly",
                },
                "links": [{"href": LINK, "text": "HTM Engine"}],
            },
        )
        _, over = asked(receiver, RESOLVED)
        self.assertEqual(over, {"routing_key": "key", "event_action": "resolve", "dedup_key": "0d7f"})

    def test_opsgenie(self) -> None:
        receiver = Opsgenie("ops", api_key="key", priority="P1")
        request, alert = asked(receiver, INCIDENT)
        self.assertEqual(request.url, "https://api.opsgenie.com/v2/alerts")
        self.assertEqual(dict(request.headers), {"Authorization": "GenieKey key"})
        self.assertLessEqual(len(alert["message"]), 130)
        self.assertEqual(
            (alert["alias"], alert["priority"], alert["details"]),
            ("0d9b", "P1", {"severity": "high", "incident": "0d9b"}),
        )
        self.assertIn("db1.load: value 97.5", alert["description"])
        request, _ = asked(receiver, replace(INCIDENT, status="resolved"))
        self.assertEqual(request.url, "https://api.opsgenie.com/v2/alerts/0d9b/close?identifierType=alias")

    def test_teams_gets_a_card_in_which_names_are_names(self) -> None:
        receiver = Teams("teams", url="https://example.com/flow")
        _, body = asked(receiver, replace(FIRING, metric="[x](http://evil)*"))
        [attachment] = body["attachments"]
        self.assertEqual(body["type"], "message")
        self.assertEqual(attachment["contentType"], "application/vnd.microsoft.card.adaptive")
        card = attachment["content"]
        self.assertEqual(
            (card["type"], card["version"], card["body"][0]["color"]), ("AdaptiveCard", "1.4", "Attention")
        )
        self.assertTrue(card["body"][0]["text"].startswith(r"\[x\]\(http://evil\)\* is anomalous"))
        self.assertEqual({fact["title"] for fact in card["body"][1]["facts"]} >= {"Metric", "Value", "Rule"}, True)
        self.assertEqual(card["actions"], [{"type": "Action.OpenUrl", "title": "Show", "url": LINK}])

    def test_labels_that_a_long_name_has_no_room_for_are_shown_everywhere(self) -> None:
        name = identity(f"cpu;a={'x' * 300};job=api")
        alert = replace(FIRING, metric=name, metric_labels=(("job", "api"),))
        incident = replace(INCIDENT, moved=(replace(INCIDENT.moved[0], name=name),), metric_labels=(("job", "api"),))
        receivers = (PagerDuty("p"), Opsgenie("o"), Teams("t"), Telegram("g"), Ntfy("n"))
        for message in (alert, incident):
            mail = email_message(Email("m"), message, "d1", 1_400_000_140.0).get_body().get_content()
            bodies = [request_for(each, message).body.decode() for each in receivers]
            bodies = [*bodies, slack_request(Slack("s"), message).body.decode(), mail]
            self.assertEqual([each for each in bodies if 'job="api"' not in each.replace("\\", "")], [])

    def test_telegram(self) -> None:
        request, body = asked(Telegram("tg", token="1:a", chat_id="-100"), INCIDENT)
        self.assertEqual(request.url, "https://api.telegram.org/bot1:a/sendMessage")
        self.assertEqual((body["chat_id"], "parse_mode" in body), ("-100", False))
        self.assertIn(INCIDENT.summary, body["text"])
        self.assertIn("; db1.up: no samples for 12 minutes", body["text"])

    def test_ntfy(self) -> None:
        request, body = asked(Ntfy("phone", topic="alerts", token="tk"), FIRING)
        self.assertEqual((request.url, request.headers["Authorization"]), ("https://ntfy.sh", "Bearer tk"))
        self.assertEqual(
            (body["topic"], body["title"], body["priority"], body["tags"], body["click"]),
            ("alerts", "load: web.cpu", 4, ["rotating_light"], LINK),
        )
        self.assertEqual(asked(Ntfy("phone", topic="alerts"), RESOLVED)[1]["priority"], 3)

    def test_a_webhook_may_be_an_event_of_cloudevents(self) -> None:
        receiver = Webhook("hook", url="http://127.0.0.1/", form="cloudevents")
        request = webhook_request(receiver, FIRING, "d1", 1_400_000_140.0)
        self.assertEqual(request.headers["Content-Type"], "application/cloudevents+json; charset=utf-8")
        event = json.loads(request.body)
        self.assertEqual(event.pop("data"), {**FIRING.public(), "delivery": "d1"})
        self.assertEqual(
            event,
            {
                "specversion": "1.0",
                "id": "d1",
                "source": "/htmengine",
                "type": "htmengine.alert.firing",
                "subject": "web.cpu",
                "time": "2014-05-13T16:55:30Z",
                "datacontenttype": "application/json",
            },
        )


class TemplateTest(SynchronousTestCase):
    def body(self, template: str) -> bytes:
        file = Path(self.mktemp())
        file.write_text(template)
        receiver = Webhook(
            "hook", url="http://127.0.0.1/", template=str(file), content_type="text/x-test", secret="key"
        )
        request = webhook_request(receiver, FIRING, "d1", 1_400_000_140.0)
        self.assertEqual(request.headers["Content-Type"], "text/x-test")
        self.assertEqual(request.headers["HTMEngine-Signature"], signature("key", "1400000140", request.body))
        return request.body

    def test_it_makes_the_body(self) -> None:
        body = self.body('{"text": {{ (rule ~ ": " ~ metric.name) | tojson }}, "value": {{ value }}}')
        self.assertEqual(json.loads(body), {"text": "load: web.cpu", "value": 97.5})

    def test_what_is_wrong_fails_the_delivery_by_name(self) -> None:
        for template, word in (
            ("{{ nothing }}", "nothing"),
            ("{% if %}", "Expected"),
            ("{{ ().__class__.__base__.__subclasses__() }}", "unsafe"),
            ("{% for n in range(10**9) %}x{% endfor %}", "Range too big"),
            ("{{ 1 / 0 }}", "division"),
            ("{{ 'x' * 2000000 }}", "characters"),
        ):
            with self.assertRaises(DeliveryFailed) as caught:
                self.body(template)
            self.assertIn(word, str(caught.exception))
        with self.assertRaises(DeliveryFailed):
            webhook_request(Webhook("hook", url="http://127.0.0.1/", template="/none"), FIRING, "d1", 0.0)
