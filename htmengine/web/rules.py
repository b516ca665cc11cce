# SPDX-License-Identifier: MIT
"""The API's part about rules: those in force, and the stored ones, which are changed here; and the audit.

In: calls that may go on.  Out: JSON.  docs/http-api.md describes all of it.  The Alert Service looks at the
stored rules every few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection
from twisted.python.failure import Failure

from htmengine.alerts import rule_queries
from htmengine.alerts.configuration import AlertConfig, Rule
from htmengine.alerts.rules import KnownRule, known_rules, options_of, rule_of
from htmengine.errors import AlertRuleNotFound, InvalidAlertRule
from htmengine.incidents.trial import Tried, trial
from htmengine.process.course import Course
from htmengine.process.twisted_types import Clock
from htmengine.repository import audit
from htmengine.repository.engine import Database
from htmengine.web.document import Document
from htmengine.web.http import JSON, Call, Reply, dump, reply
from htmengine.web.previews import Preview, Previews
from htmengine.web.reader import Reader, shielded
from htmengine.web.refused import Refused
from htmengine.web.views import encoded

#: What a preview looks at by default.
PREVIEWED_S = 30 * 86_400
#: Incidents that it shows, pages before the others and the newest first; and metrics of each.
MOST_TRIED = 200
MOST_MOVED = 8


@dataclass(frozen=True, slots=True)
class RulesApi:
    """What the handlers use.  ``config``: alerts.conf."""

    database: Database
    reader: Reader
    clock: Clock
    document: Document
    config: AlertConfig
    previews: Previews

    async def list_alert_rules(self, call: Call) -> Reply:
        return await self._read(_list, self.config)

    async def get_alert_rule(self, call: Call) -> Reply:
        return await self._read(_one, self.config, call.path["rule"])

    async def put_alert_rule(self, call: Call) -> Reply:
        options = self.document.operations["put_alert_rule"].read_body(call.body(JSON))
        rule = self._rule(call.path["rule"], options)
        now, who = self.clock.seconds(), call.who
        known = await self.reader.read(_known, self.config)
        if known.get(rule.name, KnownRule(rule, "stored")).source == "alerts.conf":
            raise _declared(rule.name)
        await shielded(self.database.run(rule_queries.put_rule, rule, who, now))
        return await self._read(_one, self.config, rule.name)

    async def delete_alert_rule(self, call: Call) -> Reply:
        name, now, who = call.path["rule"], self.clock.seconds(), call.who
        try:
            await shielded(self.database.run(rule_queries.delete_rule, name, who, now))
        except AlertRuleNotFound:
            if name in {each.name for each in self.config.rules}:
                raise _declared(name) from None
            raise
        return Reply(status=204, content_type="")

    async def preview_alert_rule(self, call: Call) -> Reply:
        return Reply(await self.reader.compute(_trial, *self._asked(call, "preview_alert_rule")))

    async def begin_preview(self, call: Call) -> Reply:
        return _shown(self.previews.begin(_trial, *self._asked(call, "begin_preview")), 202)

    async def get_preview(self, call: Call) -> Reply:
        return _shown(self.previews.find(call.path["preview"]))

    async def stop_preview(self, call: Call) -> Reply:
        self.previews.stop(call.path["preview"])
        return Reply(status=204, content_type="")

    async def list_audit(self, call: Call) -> Reply:
        given = self.document.operations["list_audit"].read_query(call.query)
        return await self._read(_audit, given["limit"], given.get("before"))

    # --- parts ------------------------------------------------------------------------------------------

    def _asked(self, call: Call, operation: str) -> tuple[Rule, int, AlertConfig]:
        """What is to be previewed.  Raises `Refused`."""
        body = self.document.operations[operation].read_body(call.body(JSON))
        since = body.get("since", int(self.clock.seconds()) - PREVIEWED_S)
        return self._rule("preview", body["options"]), since, self.config

    def _rule(self, name: str, options: Mapping[str, Any]) -> Rule:
        """Raises `Refused` naming the options."""
        try:
            return rule_of(name, options, self.config)
        except InvalidAlertRule as error:
            raise Refused(422, str(error), error.problems) from None

    async def _read(self, view: Any, *args: Any) -> Reply:
        return Reply(await self.reader.read(encoded, view, *args))


def _declared(name: str) -> Refused:
    return Refused(
        409, f"rule {name!r} stands in alerts.conf, or is the default; change it there, or take another name"
    )


# --- views ----------------------------------------------------------------------------------------------


def _known(conn: Connection, config: AlertConfig) -> dict[str, KnownRule]:
    return {each.rule.name: each for each in known_rules(config, rule_queries.stored_rules(conn))}


def _list(conn: Connection, config: AlertConfig) -> dict[str, Any]:
    return {
        "rules": [_rule_json(each) for each in _known(conn, config).values()],
        "receivers": [each.name for each in config.receivers],
    }


def _one(conn: Connection, config: AlertConfig, name: str) -> dict[str, Any]:
    found = _known(conn, config).get(name)
    if found is None:
        raise AlertRuleNotFound(name)
    return _rule_json(found)


def _rule_json(each: KnownRule) -> dict[str, Any]:
    return {
        "name": each.rule.name,
        "source": each.source,
        "options": options_of(each.rule),
        "changed_at": each.changed_at,
        "changed_by": each.changed_by,
    }


def _shown(preview: Preview, status: int = 200) -> Reply:
    """How far it is, and its result.  Raises what went wrong."""
    if isinstance(preview.result, Failure):
        preview.result.raiseException()
    result = None if preview.result is None else msgspec.Raw(preview.result)
    return reply({"id": preview.id, "share": round(preview.course.share, 3), "result": result}, status)


def _trial(conn: Connection, rule: Rule, since: int, config: AlertConfig, course: Course | None = None) -> bytes:
    found = trial(conn, rule, since, config, course)
    shown = sorted(found.found, key=lambda each: (each.paged, each.timestamp))[-MOST_TRIED:]
    answer = {
        "since": since,
        "summary": found.summary,
        "pages": found.pages,
        "usual": found.usual,
        "metrics": found.metrics,
        "complete": found.complete and len(shown) == len(found.found),
        "incidents": [_tried_json(each) for each in sorted(shown, key=lambda each: each.timestamp, reverse=True)],
    }
    return dump(answer)


def _tried_json(each: Tried) -> dict[str, Any]:
    fields = asdict(each)
    shown = {"metrics": fields["metrics"][:MOST_MOVED], "labels": dict(each.labels)}
    return {**fields, "members": len(each.metrics), **shown}


def _audit(conn: Connection, limit: int, before: int | None) -> Mapping[str, Any]:
    entries = audit.newest(conn, limit, before)
    return {"entries": [asdict(each) for each in entries], "next": entries[-1].id if len(entries) == limit else None}
