# SPDX-License-Identifier: MIT
"""The Alert Service: tells people when metrics are anomalous, by the rules of alerts.conf and the stored ones.

In: scored rows, from a durable queue of its own on the results exchange.  Out: messages to the receivers.  Rules with a
threshold are evaluated by `htmengine.alerts.evaluation`, those with a budget judged by
`htmengine.incidents.budget_rules`; what follows, the states and the messages to be sent, is stored in one transaction
before the rows are acknowledged.  So a crash at any moment repeats work and loses nothing: rows that a state knows
change nothing, and a message that was sent but not noted is sent again, with the same id.

The queue makes room by dropping its oldest messages: an alert service that is away must not hold up the engine.  A
queue that is full has dropped some, so it is made again, and the rows since the alerts' states come from the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from htmengine.alerts import evaluation, maintenance_queries, rule_queries
from htmengine.alerts import queries as alert_queries
from htmengine.alerts.configuration import AlertConfig, AlertOptions, Rule
from htmengine.alerts.courier import Courier, Sends
from htmengine.alerts.evaluation import Change, Fire, Resolve, Scored
from htmengine.alerts.formats import RESEND_S
from htmengine.alerts.notifications import Notification, metric_page
from htmengine.alerts.receivers import Alertmanager, described
from htmengine.alerts.rule_index import RuleIndex
from htmengine.alerts.rules import known_rules
from htmengine.bus.interface import Bus, Delivery, QueueLimits
from htmengine.bus.queue_consumer import QueueConsumer
from htmengine.errors import DeliveryFailed, InvalidAlertRule, InvalidMessage
from htmengine.full_texts import FULL_TEXTS
from htmengine.messages import COMMAND_RESULT_TYPE, DATA_TYPE_HEADER, decode_inference
from htmengine.process import crash_points
from htmengine.process.figures import Figure, counter
from htmengine.process.probes import Probe, runs
from htmengine.process.tasks import repeated
from htmengine.process.twisted_types import Clock
from htmengine.repository import audit, counters, queries, troubles
from htmengine.repository.engine import Database
from htmengine.repository.quarantine import Quarantine

#: Messages that may be unacknowledged, and are evaluated at once.
PREFETCH = 200
#: Messages alone are the bound, for they can be counted; the bytes are out of their reach.
QUEUE_LIMITS = QueueLimits(max_messages=100_000, max_bytes=2 << 30, overflow="drop-head")
#: Anomalies that are caught up with are no older than this, whatever their rule says.
CATCH_UP_S = 7 * 86_400.0
#: Metrics whose missed rows are read at once, and rows of each.
METRICS_AT_ONCE = 50
ROWS_AT_ONCE = 500
#: Whose trouble it is in the table of troubles; it stands there until the missed rows are evaluated.
TROUBLE = "alert service"
#: Alerts in one request that keeps them alive in an Alertmanager.
RESEND_AT_ONCE = 1000
DAY_S = 86_400
#: A threshold that no row reaches.
ABOVE_ALL_SCORES = 2.0
#: How often the stored rules are looked at.
RELOAD_S = 5.0
#: Whose trouble a stored rule is that cannot be read.
RULES_TROUBLE = "alert rules"
#: The same of maintenance; then that which was read before counts.
MAINTENANCE_TROUBLE = "maintenance"


class JudgesRows(Protocol):
    """The rules with a budget: `htmengine.incidents.budget_rules`."""

    def use(self, rules: Iterable[Rule]) -> None:
        """Go on with these rules, as far as they have a budget."""
        ...

    async def begin(self) -> None:
        """Called before any rows come."""
        ...

    async def take(self, scored: Sequence[Scored]) -> None:
        """Judge rows; those that come twice change nothing."""
        ...

    async def review(self) -> None:
        """What no row brings about: called once a minute."""
        ...

    def figures(self) -> Iterable[Figure]:
        """What was paged, and what was not."""
        ...


class AlertService(QueueConsumer):
    """Evaluates batch after batch; a courier for each receiver delivers beside that."""

    log = Logger()

    def __init__(
        self,
        *,
        clock: Clock,
        bus: Bus,
        database: Database,
        sender: Sends,
        options: AlertOptions,
        budget_rules: JudgesRows,
        on_failure: Callable[[Failure], None],
    ) -> None:
        super().__init__(bus=bus, on_failure=on_failure)
        self._clock = clock
        self._database = database
        self._sender = sender
        self._options = options
        self._config = options.config
        self.couriers = [
            Courier(
                receiver=receiver,
                sender=sender,
                database=database,
                clock=clock,
                give_up_s=self._config.general.give_up_s,
            )
            for receiver in self._config.receivers
        ]
        self._rules = RuleIndex()
        self._thresholds = RuleIndex()
        self._rules_version: tuple[int, float] | None = None
        self._unreadable_maintenance: list[str] | None = None  #: None: not known yet
        self._rules_wanted: Deferred[None] = Deferred()  #: fires when there are rules, or at the stop
        self._budget_rules = budget_rules
        self._quarantine = Quarantine(database, self._config.general.queue_name, clock.seconds)
        self._timer = repeated(self._look_after, self._tasks, clock)
        self._reload_timer = repeated(self._reload, self._tasks, clock)
        self.rejected = 0  #: messages that are not results
        self.overflows = 0  #: times that the queue was found full
        self.fired = 0
        self.resolved = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is asked for."""
        return not self._rules.rules and not self._config.receivers

    def startService(self) -> None:
        super().startService()
        for courier in self.couriers:
            self._tasks.start(courier.run())
        self._timer.start(RESEND_S, now=False)
        self._reload_timer.start(RELOAD_S, now=False)

    def stopService(self) -> Deferred[None]:
        self._timer.stop()
        self._reload_timer.stop()
        for courier in self.couriers:
            courier.stop()
        stopped = super().stopService()
        self._go_on()
        return stopped

    def figures(self) -> Iterable[Figure]:
        """What fired, and what became of the messages."""
        yield from self._budget_rules.figures()
        yield counter("htmengine_alerts_fired", "Alerts that fired", self.fired)
        yield counter("htmengine_alerts_resolved", "Alerts that are over", self.resolved)
        yield counter("htmengine_alerts_overflows", "Times that the alerts' queue was full", self.overflows)
        yield counter("htmengine_alerts_rejected", "Messages that are not results", self.rejected)
        delivered = {courier.name: courier.delivered for courier in self.couriers}
        failed = {courier.name: courier.failed for courier in self.couriers}
        given_up = {courier.name: courier.given_up for courier in self.couriers}
        name, by = "htmengine_alert_messages", "receiver"
        yield counter(f"{name}_delivered", "Alert messages that were delivered", delivered, by=by)
        yield counter(f"{name}_failed", "Attempts to deliver that failed", failed, by=by)
        yield counter(f"{name}_given_up", "Alert messages that were given up", given_up, by=by)

    def checks(self) -> Mapping[str, Probe]:
        """Whether it runs."""
        return {"AlertService": runs(self)}

    # --- rows ------------------------------------------------------------------------------------------

    async def consume(self) -> None:
        await self._reload()
        if self.idle:
            # What an earlier configuration had bound would fill up.
            await self._bus.delete_queue(self._config.general.queue_name)
            await self._rules_wanted
            if not self.running:
                return
        await self._bind_queue()
        await self._budget_rules.begin()
        while self.running:
            if await self._missed_some():
                await self._begin_anew()
            await self._read_on()

    async def _reload(self) -> None:
        """Go on with the rules as they are now, and tell what cannot be read of the maintenance."""
        await self._tell_of_maintenance()
        version = await self._database.read(rule_queries.rules_version)
        if version == self._rules_version:
            return
        unreadable: list[InvalidAlertRule] = []
        stored = await self._database.read(rule_queries.stored_rules, unreadable.append)
        messages = [str(each) for each in unreadable]
        await self._database.run(troubles.replace, RULES_TROUBLE, messages, int(self._clock.seconds()))
        self._use([each.rule for each in known_rules(self._config, stored)])
        self._rules_version = version

    async def _tell_of_maintenance(self) -> None:
        found = await self._database.read(maintenance_queries.problems, self._config)
        if found != self._unreadable_maintenance:
            await self._database.run(troubles.replace, MAINTENANCE_TROUBLE, found, int(self._clock.seconds()))
            self._unreadable_maintenance = found

    def _use(self, rules: Sequence[Rule]) -> None:
        names = ", ".join(each.name for each in rules)
        if self._rules_version is not None:
            self.log.info("the rules have changed: {names}", names=names or "none")
        elif rules:
            self.log.info("the rules: {names}", names=names)
        self._rules = RuleIndex(rules)
        self._thresholds = RuleIndex(rule for rule in rules if not rule.has_budget)
        self._budget_rules.use(rules)
        if not self.idle:
            self._go_on()

    def _go_on(self) -> None:
        if not self._rules_wanted.called:
            self._rules_wanted.callback(None)

    async def _bind_queue(self) -> None:
        queue = self._config.general.queue_name
        await self._bus.declare_queue(queue, limits=QUEUE_LIMITS)
        await self._bus.declare_fanout(self._options.results_exchange)
        await self._bus.bind(queue, self._options.results_exchange)

    async def _read_on(self) -> None:
        """Evaluate what comes, until the queue is full."""
        self._subscription = subscription = await self._bus.subscribe(
            self._config.general.queue_name, prefetch=PREFETCH
        )
        while self.running:
            deliveries = await subscription.get(PREFETCH)
            crash_points.reached("alerts.received")
            with self._bus.progress.doing("evaluating alerts"):
                await self._quarantine.each(await self._decode(deliveries), self._evaluate)
                await subscription.ack(deliveries)
            if len(deliveries) == PREFETCH and await self._queue_is_full():
                break
        self._subscription = None
        await subscription.close()

    async def _decode(self, deliveries: Sequence[Delivery]) -> list[Scored]:
        scored = []
        refused = []
        for delivery in deliveries:
            if delivery.headers.get(DATA_TYPE_HEADER) == COMMAND_RESULT_TYPE:
                continue
            try:
                scored.append(Scored(*decode_inference(delivery.body)))
            except InvalidMessage as error:
                self.rejected += 1
                refused.append(error)
        await self._quarantine.note(refused)
        return scored

    # --- rows that the queue has dropped ---------------------------------------------------------------

    async def _queue_is_full(self) -> bool:
        return await self._bus.depth(self._config.general.queue_name) >= QUEUE_LIMITS.max_messages

    async def _missed_some(self) -> bool:
        """Whether messages were dropped, or a process that knew of some ended before it had caught up."""
        return await self._queue_is_full() or any(
            each.source == TROUBLE for each in await self._database.read(troubles.list_of)
        )

    async def _begin_anew(self) -> None:
        """Empty the queue, then evaluate what was in it and what was not, as far as it may fire: it is all stored."""
        self.overflows += 1
        self.log.warn("the alerts' queue was full; the rows that it dropped are read from the database")
        message = "its queue was full; the rows that it dropped are read from the database"
        await self._database.run(troubles.replace, TROUBLE, [message], int(self._clock.seconds()))
        await self._bus.delete_queue(self._config.general.queue_name)
        await self._bind_queue()
        await self._catch_up()
        if self.running:  # else the rest is for the next start
            await self._database.run(troubles.replace, TROUBLE, [], int(self._clock.seconds()))

    async def _catch_up(self) -> None:
        index, rules = self._rules, self._rules.rules
        if not rules:
            return
        oldest = max(min(rule.max_age_s or CATCH_UP_S, CATCH_UP_S) for rule in rules)
        since = int(self._clock.seconds() - oldest)
        threshold = min((rule.threshold for rule in rules if not rule.has_budget), default=ABOVE_ALL_SCORES)
        after: str | None = ""
        while self.running and after is not None:
            spans = await self._database.read(alert_queries.anomalous_spans, after, since, threshold, METRICS_AT_ONCE)
            after = spans[-1].uid if spans else None
            spans = [span for span in spans if index.of(span.name)]
            while self.running and spans:
                scored, spans = await self._database.read(alert_queries.scored_rows, spans, ROWS_AT_ONCE)
                await self._evaluate(scored)

    # --- what follows ----------------------------------------------------------------------------------

    async def _evaluate(self, scored: Sequence[Scored]) -> None:
        names = FULL_TEXTS.lacking(each.name for each in scored)
        if names:
            await self._database.read(counters.learn_texts, names)
        rules = self._thresholds
        maintenance = await self._database.read(maintenance_queries.in_force, self._config)
        loud = evaluation.outside_maintenance(maintenance, scored)
        wanted = evaluation.keys_of_interest(rules, loud)
        states, young = await self._database.read(_known, wanted)
        loud = evaluation.with_young(loud, young)
        await self._perform(evaluation.decide(rules, states, loud, self._clock.seconds()))
        await self._budget_rules.take(scored)
        self._wake()

    async def _perform(self, changes: Sequence[Change]) -> None:
        """Store what changed, and see to what follows."""
        if not changes:
            return
        await self._database.run(store_changes, changes, self._options, self._clock.seconds())
        for change in changes:
            for instruction in change.instructions:
                self._count(change, instruction)
        self._wake()

    def _wake(self) -> None:
        for courier in self.couriers:
            courier.wake()

    def _count(self, change: Change, instruction: evaluation.Instruction) -> None:
        if isinstance(instruction, Fire):
            self.fired += 1
        else:
            self.resolved += 1
        self.log.info(
            "alert {rule} for {metric}: {phase}",
            rule=change.state.rule,
            metric=change.metric,
            phase="firing" if isinstance(instruction, Fire) else f"resolved ({instruction.reason})",
        )

    # --- once a minute ---------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        """End alerts that no row will end, keep the others alive at Alertmanagers, forget what is long over."""
        if self._rules_version is None:  # rules that are not known yet are not gone
            return
        now = self._clock.seconds()
        rules = {rule.name: rule for rule in self._thresholds.rules}
        changes = []
        for state, metric, facts in await self._database.read(alert_queries.firing_states):
            rule = rules.get(state.rule)
            if rule is not None and facts is not None and not evaluation.matches(rule, metric):
                rule = None
            changed, instructions = evaluation.review(rule, state, facts)
            if instructions:
                changes.append(Change(rules.get(state.rule), metric, changed, tuple(instructions)))
        await self._quarantine.each(changes, self._perform)
        await self._budget_rules.review()
        self._wake()
        await self._database.run(_forget, self._config, now)
        for receiver in self._config.receivers:
            if isinstance(receiver, Alertmanager):
                await self._resend(receiver)

    async def _resend(self, receiver: Alertmanager) -> None:
        firing = await self._database.read(alert_queries.still_firing, receiver.name, RESEND_AT_ONCE)
        if firing:
            try:
                await self._sender.send_all(receiver, firing)
            except DeliveryFailed as failure:
                self.log.warn("{receiver}: {failure}", receiver=described(receiver), failure=failure)


# --- transactions ---------------------------------------------------------------------------------------


def _known(
    conn: Connection, wanted: Sequence[tuple[str, str]]
) -> tuple[dict[tuple[str, str], evaluation.AlertState], dict[str, int]]:
    """The states of these (rule, uid) pairs and of all that are open, and the last rows that tell a range."""
    uids = sorted({uid for _, uid in wanted})
    return alert_queries.load_alert_states(conn, wanted), queries.young_rows(conn, uids)


def store_changes(conn: Connection, changes: Sequence[Change], options: AlertOptions, now: float) -> None:
    """Store states, alerts and the messages that are to be sent, once each."""
    alert_queries.save_alert_states(conn, [change.state for change in changes], now)
    for change in changes:
        for instruction in change.instructions:
            if isinstance(instruction, Fire):
                _fire(conn, change, instruction, options, now)
            else:
                _resolve(conn, change, instruction, options, now)


def _fire(conn: Connection, change: Change, fire: Fire, options: AlertOptions, now: float) -> None:
    rule, row = change.rule, fire.row
    assert rule is not None
    notification = Notification(
        alert_id=fire.alert_id,
        status="firing",
        rule=rule.name,
        metric=change.metric,
        uid=change.state.uid,
        threshold=rule.threshold,
        rowid=row.rowid,
        timestamp=row.timestamp,
        value=row.value,
        score=row.anomaly,
        started=row.timestamp,
        created=now,
        labels=rule.labels,
        metric_labels=tuple(sorted(options.config.labels_of(change.metric).items())),
        link=metric_page(options.public_url, change.state.uid),
        recent=alert_queries.recent_rows(conn, change.state.uid, row.rowid),
    )
    if alert_queries.add_alert(conn, notification):
        alert_queries.add_deliveries(conn, notification, _names(options, rule.receivers))


def _resolve(conn: Connection, change: Change, resolve: Resolve, options: AlertOptions, now: float) -> None:
    """Tell those who were told that it fires, as far as they are still there."""
    alert_queries.resolve_alert(conn, resolve.alert_id, now, resolve.reason)
    told = alert_queries.told_of(conn, resolve.alert_id)
    if not told or (change.rule is not None and not change.rule.resolved):
        return
    fired = next(iter(told.values()))
    assert isinstance(fired, Notification)
    notification = replace(fired, status="resolved", reason=resolve.reason, created=now)
    row = resolve.row
    if row is not None:
        recent = alert_queries.recent_rows(conn, change.state.uid, row.rowid)
        notification = replace(
            notification,
            rowid=row.rowid,
            timestamp=row.timestamp,
            value=row.value,
            score=row.anomaly,
            recent=recent,
        )
    alert_queries.add_deliveries(conn, notification, _names(options, told))


def _names(options: AlertOptions, wanted: Sequence[str] | Mapping[str, Any]) -> list[str]:
    return [receiver.name for receiver in options.config.receivers if receiver.name in wanted]


def _forget(conn: Connection, config: AlertConfig, now: float) -> None:
    alert_queries.give_up_unknown(conn, [receiver.name for receiver in config.receivers], now)
    alert_queries.forget_deleted_metrics(conn)
    alert_queries.prune_alerts(conn, now - config.general.keep_days * DAY_S)
    audit.forget(conn, now - config.general.audit_days * DAY_S)
