# SPDX-License-Identifier: MIT
"""The tables: HTM Engine's own, as its applications read them, and ours for exactly-once delivery.

Timestamps are UTC without a zone.  Text columns that hold JSON are read and written by `queries`.

Text is compared byte by byte on every database: MySQL's default, which takes "CPU" and "cpu" for one name, does
not do for names of metrics.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

metadata = MetaData()


def exact(length: int) -> String:
    """A text of that many characters, whatever they are, that is equal to itself alone."""
    return String(length).with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql")


#: A text of up to 64 KB.
LONG_TEXT = Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql")

#: Up to 16 MB.
LONG_BYTES = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql")

metric = Table(
    "metric",
    metadata,
    Column("uid", exact(40), primary_key=True),
    Column("datasource", exact(100), nullable=False),
    Column("name", exact(255), nullable=False),
    Column("description", exact(200)),
    Column("server", exact(255)),
    Column("location", exact(200)),
    Column("parameters", LONG_TEXT),
    Column("status", Integer, nullable=False, server_default="0"),
    Column("message", LONG_TEXT),
    Column("collector_error", LONG_TEXT),
    Column("last_timestamp", DateTime),
    Column("poll_interval", Integer),
    Column("tag_name", String(200)),
    Column("model_params", LONG_TEXT),
    Column("last_rowid", Integer, nullable=False, server_default="0"),
    UniqueConstraint("name", "datasource", name="metric_name"),
    Index("metric_status", "status"),
)

metric_data = Table(
    "metric_data",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("rowid", Integer, primary_key=True, autoincrement=False),
    Column("timestamp", DateTime, nullable=False),
    Column("metric_value", Double, nullable=False),
    Column("raw_anomaly_score", Double),
    Column("anomaly_score", Double),
    Column("display_value", Double),
    Column("multi_step_best_predictions", LONG_TEXT),
)

#: HTM Engine's history of the states of servers: its applications write and read it, the engine does not.
instance_status_history = Table(
    "instance_status_history",
    metadata,
    Column("server", String(100), primary_key=True),
    Column("timestamp", DateTime, primary_key=True),
    Column("status", String(32), nullable=False, server_default="active"),
)

#: HTM Engine's named locks, for its applications: each row is one that they lock.
lock = Table("lock", metadata, Column("name", String(40), primary_key=True))

#: Messages of a transaction that are still to be published.
outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("queue", String(255), nullable=False),
    Column("body", LONG_BYTES, nullable=False),
    sqlite_autoincrement=True,  # an id is never used again: it may still stand in a client's list
)

#: States of models that are kept under version numbers; without a rowid: asked for, not there yet.
model_snapshot = Table(
    "model_snapshot",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("params", Text, nullable=False),
    Column("rowid", Integer),
    Column("scored", Integer),
    Column("model", LONG_BYTES),
    Column("likelihood", LONG_BYTES),
)

#: Batches of samples that were stored, so that a redelivered one is known.
processed_batch = Table(
    "processed_batch",
    metadata,
    Column("batch_id", exact(64), primary_key=True),
    Column("processed_at", BigInteger, nullable=False, index=True),
)

#: Each metric's detector after some row.
anomaly_state = Table(
    "anomaly_state",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("rowid", Integer, nullable=False),
    Column("state", LONG_BYTES, nullable=False),
)

#: Rejected samples by metric ("" while it is not known) and reason.
reject_count = Table(
    "reject_count",
    metadata,
    Column("uid", exact(40), primary_key=True),
    Column("reason", exact(40), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_at", BigInteger),  # when the last of them was counted, epoch seconds
)

#: The last rejected samples of each reason.
reject_sample = Table(
    "reject_sample",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("reason", exact(40), nullable=False, index=True),
    Column("sender", exact(100), nullable=False),
    Column("line", exact(400), nullable=False),
    Column("rejected_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

#: How far each metric's current model is: its newest scored row, and how many rows it has scored.
metric_score = Table(
    "metric_score",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("rowid", Integer, nullable=False),
    Column("scored", Integer, nullable=False),
    Column("timestamp", DateTime),
    Column("metric_value", Double),
    Column("raw_anomaly_score", Double),
    Column("anomaly_score", Double),
    Column("evidence_from", Integer),
    Column("digest", BigInteger),  # of the rows up to this one (`messages.digest`); NULL: not known
    Column("expected", Double),  # of the newest scored row; NULL: nothing was known
    Column("lower_bound", Double),
    Column("upper_bound", Double),
    Column("interval_s", Double),  # between rows; NULL: not known
    Column("interval_since", BigInteger),  # epoch seconds; NULL: from the start
)

#: The ledger's counters of the whole engine (`counts.RECEIVED`, `counts.DELETED`).
ledger_total = Table(
    "ledger_total",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

#: Rows whose anomaly score or height is great, of all metrics; why (JSON) and
#: height: None before there was evidence.
anomaly = Table(
    "anomaly",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("rowid", Integer, primary_key=True, autoincrement=False),
    Column("timestamp", DateTime, nullable=False),
    Column("metric_value", Double, nullable=False),
    Column("anomaly_score", Double, nullable=False),
    Column("why", LONG_TEXT),
    Column("height", Double),
    Index("anomaly_timestamp", "timestamp"),
)

#: Which rows each transaction scored; ``number`` counts all results up to its last one (`results`).
result_log = Table(
    "result_log",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("spans", LONG_BYTES, nullable=False),
)

#: Who reads the log of results: up to which it has them, and until when (epoch milliseconds) it is its process's turn.
result_reader = Table(
    "result_reader",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("turn_until", BigInteger, nullable=False),
)

#: A rule and a metric: what the alert service knows of them after some row.
alert_state = Table(
    "alert_state",
    metadata,
    Column("rule", String(60), primary_key=True),
    Column("uid", exact(40), primary_key=True),
    Column("phase", String(8), nullable=False),
    Column("open", Boolean, nullable=False, index=True),
    Column("rowid", Integer, nullable=False),
    Column("hits", Text, nullable=False),
    Column("alert_id", String(36), nullable=False),
    Column("fired_at", BigInteger),
    Column("changed_at", Double, nullable=False),
)

#: Every alert that fired.
alert = Table(
    "alert",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("rule", String(60), nullable=False),
    Column("uid", exact(40), nullable=False),
    Column("metric", exact(255), nullable=False),
    Column("rowid", Integer, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("metric_value", Double, nullable=False),
    Column("anomaly_score", Double, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    Column("resolved_at", Double),
    Column("reason", Text),
)

#: A message for a receiver: queued, tried again, delivered or given up.
alert_delivery = Table(
    "alert_delivery",
    metadata,
    Column("id", String(110), primary_key=True),
    Column("alert_id", String(36), nullable=False),
    Column("status", String(8), nullable=False),
    Column("receiver", String(60), nullable=False),
    Column("state", String(9), nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("answer", Text),
    UniqueConstraint("alert_id", "status", "receiver", name="alert_delivery_once"),
    Index("alert_delivery_due", "receiver", "state", "next_at"),
)

#: A rule with a budget: tokens and open incidents (JSON, as `htmengine.incidents` reads it).
rule_state = Table(
    "rule_state",
    metadata,
    Column("rule", String(60), primary_key=True),
    Column("state", LONG_TEXT, nullable=False),
    Column("changed_at", Double, nullable=False),
)

#: A rule with a budget and a metric: the newest row that was judged, the last alarm, and since when it is silent.
alarm_state = Table(
    "alarm_state",
    metadata,
    Column("rule", String(60), primary_key=True),
    Column("uid", exact(40), primary_key=True),
    Column("rowid", Integer, nullable=False),
    Column("timestamp", BigInteger),
    Column("height", Double),
    Column("hits", Text, nullable=False),
    Column("silent_since", BigInteger, index=True),
)

#: What a rule decided about a row that was high enough for a page, or about a metric that fell silent.
alarm_verdict = Table(
    "alarm_verdict",
    metadata,
    Column("rule", String(60), primary_key=True),
    Column("uid", exact(40), primary_key=True),
    Column("rowid", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(20), primary_key=True),
    Column("timestamp", BigInteger, nullable=False),
    Column("height", Double, nullable=False),
    Column("threshold", Double),
    Column("tokens", Double),
    Column("verdict", String(20), nullable=False),
    Column("incident_id", String(36)),
    Index("alarm_verdict_timestamp", "rule", "timestamp"),
)

#: Alarms of one rule that are near in time.  Columns ``timestamp`` and ``last_timestamp`` have the rows' times, those
#: that end in ``_at`` the wall clock's; ``held_back`` says why nobody was paged.
incident = Table(
    "incident",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("rule", String(60), nullable=False),
    Column("title", LONG_TEXT, nullable=False),
    Column("phase", String(8), nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("last_timestamp", BigInteger, nullable=False),
    Column("opened_at", Double, nullable=False, index=True),
    Column("last_at", Double, nullable=False),
    Column("mattered_at", Double),
    Column("over_at", Double),
    Column("reason", LONG_TEXT),
    Column("paged", Boolean, nullable=False),
    Column("held_back", String(20)),
    Column("height", Double, nullable=False),
    Column("threshold", Double),
    Column("tokens", Double),
    Column("members", Integer, nullable=False),
    Column("acknowledged_at", Double),
    Column("acknowledged_by", exact(100)),
    Index("incident_phase", "phase", "opened_at"),
)

#: The metrics of an incident, each with its first alarm and its greatest height.
incident_member = Table(
    "incident_member",
    metadata,
    Column("incident_id", String(36), ForeignKey("incident.id", ondelete="CASCADE"), primary_key=True),
    Column("uid", exact(40), primary_key=True),
    Column("metric", exact(255), nullable=False),
    Column("rowid", Integer, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("last_timestamp", BigInteger, nullable=False),
    Column("height", Double, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("direction", String(4)),
    Column("text", LONG_TEXT, nullable=False),
    Column("metric_value", Double),
    Column("expected", Double),
    Column("lower", Double),
    Column("upper", Double),
    Column("quiet", String(20)),  # why nobody is to be paged because of it; NULL: somebody may be
    Column("since", BigInteger),  # time of the first of the unusual rows that led up to its alarm
    Index("incident_member_uid", "uid"),
)

#: What people did: acknowledged, marked, silenced.  It outlasts the incident.
incident_event = Table(
    "incident_event",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("incident_id", String(36), index=True),
    Column("rule", String(60)),
    Column("at", Double, nullable=False),
    Column("who", exact(100), nullable=False),
    Column("what", String(20), nullable=False),
    Column("note", LONG_TEXT, nullable=False),
    sqlite_autoincrement=True,  # a number is never used again
)

#: Rules that were made through the API; ``options``: those of [alert:NAME] in JSON.
alert_rule = Table(
    "alert_rule",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("options", LONG_TEXT, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("changed_by", exact(100), nullable=False),
)

#: Maintenance that was made while the engine ran.
maintenance = Table(
    "maintenance",
    metadata,
    Column("name", exact(60), primary_key=True),
    Column("options", LONG_TEXT, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("changed_by", exact(100), nullable=False),
)

#: Who changed what.
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False, index=True),
    Column("who", exact(100), nullable=False),
    Column("what", String(40), nullable=False),
    Column("about", LONG_TEXT, nullable=False),
    Column("note", LONG_TEXT, nullable=False),
    sqlite_autoincrement=True,
)

#: Metrics, by globs, whose alarms page nobody for a time.
silence = Table(
    "silence",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("metrics", LONG_TEXT, nullable=False),
    Column("from_at", Double, nullable=False),
    Column("until_at", Double, nullable=False, index=True),
    Column("who", exact(100), nullable=False),
    Column("why", LONG_TEXT, nullable=False),
    sqlite_autoincrement=True,
)

#: Spans of rows that somebody called fine (`fine_spans`).
fine_span = Table(
    "fine_span",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("origin", exact(80), primary_key=True),
    Column("after", Integer, primary_key=True, autoincrement=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("until", Integer),
    Column("direction", String(4)),
    Column("height", Double),
)

#: Spans of rows that the models score without learning (`unlearnt_rows`).
unlearnt_span = Table(
    "unlearnt_span",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("last", Integer, nullable=False),
)

#: Spans of rows that fill gaps (`filled_rows`).
filled_span = Table(
    "filled_span",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("last", Integer, nullable=False),
)

#: The newest sample of each metric that is a counter; its rows are rates.
metric_counter = Table(
    "metric_counter",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("value", Double, nullable=False),
    Column("timestamp", Double, nullable=False),
    Column("started_at", Double, nullable=False),
)

#: The whole texts of metrics whose names are short identities (`htmengine.labels`).
metric_text = Table(
    "metric_text",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("text", LONG_TEXT, nullable=False),
)

#: How long each metric has had no new row (`idle`).
metric_idle = Table(
    "metric_idle",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("last_rowid", Integer, nullable=False),
    Column("idle_s", Double, nullable=False),
)

#: Samples that wait for earlier ones of their metric, until ``due_at`` (epoch seconds) at most.
held_sample = Table(
    "held_sample",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), nullable=False, index=True),
    Column("timestamp", BigInteger, nullable=False),
    Column("value", Double, nullable=False),
    Column("kind", String(1), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("due_at", Double, nullable=False, index=True),
    Column("moment", Double, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)

#: Samples older than their metric's newest row: the next rebuild makes rows of them.
late_sample = Table(
    "late_sample",
    metadata,
    Column("uid", exact(40), ForeignKey("metric.uid", ondelete="CASCADE"), primary_key=True),
    Column("timestamp", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double, nullable=False),
)

#: What is wrong now, by who says so.
trouble = Table(
    "trouble",
    metadata,
    Column("source", String(200), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("message", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
)
