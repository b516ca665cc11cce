# SPDX-License-Identifier: MIT
"""The API's part about incidents: what is open, one of them with what moved beside it, what people do about it, and
where the fleet is unusual.

In: calls that may go on.  Out: JSON.  docs/http-api.md describes all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from htmengine.alerts.queries import Undelivered, undelivered
from htmengine.evidence.explaining import LEAST_HEIGHT
from htmengine.full_texts import FULL_TEXTS
from htmengine.incidents import feedback, queries
from htmengine.incidents.records import Did, Event, Incident, Marks, Member, Silence
from htmengine.incidents.roots import part_of
from htmengine.incidents.suspects import suspects
from htmengine.operations import Operations
from htmengine.process.twisted_types import Clock
from htmengine.repository import reading
from htmengine.repository.counters import learn_texts
from htmengine.web.document import Document
from htmengine.web.http import JSON, Call, Reply, reply
from htmengine.web.reader import Reader, shielded
from htmengine.web.views import encoded, round_step

WEEK_S = 604_800
DAY_S = 86_400
#: What moved so long before an incident's first alarm, or after its last, may have to do with it.
AROUND_S = 900
MOST_OTHERS = 20
MOST_SIMILAR = 5
MOST_UNDELIVERED = 20
#: Parts of names that a picture of the fleet has, and the buckets of time.
MOST_PARTS = 30
HEAT_BUCKETS = 72


@dataclass(frozen=True, slots=True)
class IncidentsApi:
    """What the handlers use."""

    operations: Operations
    reader: Reader
    clock: Clock
    document: Document

    async def list_incidents(self, call: Call) -> Reply:
        given = self.document.operations["list_incidents"].read_query(call.query)
        return await self._read(_list, given, self.clock.seconds())

    async def get_incident(self, call: Call) -> Reply:
        return await self._read(_one, call.path["incident"])

    async def acknowledge_incident(self, call: Call) -> Reply:
        body = self._body(call, "acknowledge_incident")
        return await self._change(
            queries.acknowledge, call.path["incident"], _who(call, body), self.clock.seconds(), body.get("note", "")
        )

    async def mark_incident(self, call: Call) -> Reply:
        body = self._body(call, "mark_incident")
        what, note = Did(body["what"]), body.get("note", "")
        return await self._change(
            feedback.mark, call.path["incident"], what, _who(call, body), self.clock.seconds(), note
        )

    async def list_silences(self, call: Call) -> Reply:
        return await self._read(_silences, self.clock.seconds())

    async def create_silence(self, call: Call) -> Reply:
        body = self._body(call, "create_silence")
        now = self.clock.seconds()
        from_at = float(body.get("from_at", now))
        work = self.operations.database.run(
            queries.add_silence,
            body["metrics"],
            from_at,
            from_at + body["for_s"],
            _who(call, body),
            body.get("why", ""),
            now,
        )
        return reply(_silence_json(await shielded(work)), 201)

    async def delete_silence(self, call: Call) -> Reply:
        number = self.document.operations["delete_silence"].read_query(call.query)["number"]
        work = self.operations.database.run(queries.end_silence, number, _who(call, {}), self.clock.seconds())
        await shielded(work)
        return Reply(status=204, content_type="")

    async def get_unusual(self, call: Call) -> Reply:
        given = self.document.operations["get_unusual"].read_query(call.query)
        until = given.get("until", int(self.clock.seconds()))
        return await self._read(_unusual, given.get("from", until - DAY_S // 2), until)

    # --- parts ------------------------------------------------------------------------------------------

    def _body(self, call: Call, name: str) -> dict[str, Any]:
        body: dict[str, Any] = self.document.operations[name].read_body(call.body(JSON))
        return body

    async def _read(self, view: Callable[..., Any], *args: Any) -> Reply:
        return Reply(await self.reader.read(encoded, view, *args))

    async def _change(self, change: Callable[..., Incident], *args: Any) -> Reply:
        changed = await shielded(self.operations.database.run(change, *args))
        return await self._read(_one, changed.id)


def _who(call: Call, body: Mapping[str, Any]) -> str:
    """Who does it: as the body says, or else from where it comes."""
    return call.person(body.get("who", ""))


# --- views ----------------------------------------------------------------------------------------------


def _list(conn: Connection, given: Mapping[str, Any], now: float) -> dict[str, Any]:
    uid = reading.find_metric(conn, given["metric"]).uid if "metric" in given else None
    found = queries.list_incidents(conn, open_only=given["open"], rule=given.get("rule"), uid=uid, limit=given["limit"])
    return {
        "incidents": [_incident_json(incident) for incident in found],
        "rules": _rules(conn, now),
        "metrics": reading.count_metrics(conn, reading.MetricQuery()),
        "open": queries.count_open(conn),
        "touched": queries.count_open_metrics(conn),
        "undelivered": [_undelivered_json(each) for each in undelivered(conn, now - WEEK_S, MOST_UNDELIVERED)],
    }


def _rules(conn: Connection, now: float) -> list[dict[str, Any]]:
    """What each rule did in the last week, and how people found it."""
    pages, marks = queries.pages_since(conn, now - WEEK_S), queries.marks_by_rule(conn)
    return [_rule(name, pages.get(name, (0, 0)), marks.get(name, Marks())) for name in sorted({*pages, *marks})]


def _rule(name: str, pages: tuple[int, int], marks: Marks) -> dict[str, Any]:
    return {
        "rule": name,
        "pages": pages[0],
        "held_back": pages[1],
        "right": marks.right,
        "fine": marks.fine,
        "precision": marks.precision,
    }


def _one(conn: Connection, incident_id: str) -> dict[str, Any]:
    incident = queries.find_incident(conn, incident_id)
    members = suspects(conn, incident, queries.members_of(conn, incident.id))
    uids = {member.uid for member in members}
    since, until = incident.timestamp - AROUND_S, incident.last_timestamp + AROUND_S
    others = reading.highest_of_each(conn, since, until, uids, MOST_OTHERS)
    return {
        **_incident_json(incident),
        "metrics": [_member_json(member) for member in members],
        "events": [_event_json(event) for event in queries.events_of(conn, incident.id)],
        "others": [other._asdict() for other in others],
        "similar": [_similar_json(*each) for each in queries.similar(conn, incident, uids, MOST_SIMILAR)],
    }


def _silences(conn: Connection, now: float) -> dict[str, Any]:
    return {"silences": [_silence_json(silence) for silence in queries.silences(conn, now)]}


def _unusual(conn: Connection, start: int, end: int) -> dict[str, Any]:
    step = round_step(-(-max(end - start, 1) // HEAT_BUCKETS))
    first = start // step * step
    buckets = (end - first) // step + 1
    parts: dict[str, tuple[set[str], list[set[str]]]] = {}
    unusual = reading.unusual_names(conn, first, end, step, LEAST_HEIGHT)
    learn_texts(conn, {name for name, _ in unusual})
    for name, bucket in unusual:
        metrics, places = parts.setdefault(part_of(name), (set(), [set() for _ in range(buckets)]))
        metrics.add(name)
        places[bucket].add(name)
    loudest = sorted(parts, key=lambda part: (-sum(map(len, parts[part][1])), part))[:MOST_PARTS]
    return {
        "from": first,
        "until": end,
        "step": step,
        "parts": [
            {"part": part, "metrics": len(parts[part][0]), "unusual": [len(names) for names in parts[part][1]]}
            for part in sorted(loudest)
        ],
    }


def _incident_json(incident: Incident) -> dict[str, Any]:
    return {**asdict(incident), "phase": incident.phase.value}


def _undelivered_json(each: Undelivered) -> dict[str, Any]:
    return {**asdict(each), "state": each.state.value}


def _member_json(member: Member) -> dict[str, Any]:
    fields = asdict(member)
    del fields["incident_id"]
    return {**fields, "full_name": FULL_TEXTS.of(member.metric)}


def _event_json(event: Event) -> dict[str, Any]:
    return {"at": event.at, "who": event.who, "what": event.what.value, "note": event.note}


def _similar_json(incident: Incident, shared: int) -> dict[str, Any]:
    return {**_incident_json(incident), "shared": shared}


def _silence_json(silence: Silence) -> dict[str, Any]:
    return {**asdict(silence), "metrics": list(silence.metrics)}
