# SPDX-License-Identifier: MIT
"""The Alert Service's part for rules with a budget: rows judged as they come, the fleet looked at once a minute.

In: scored rows.  Out: what `htmengine.incidents.judging` stores; figures.  The fleet's cadences are kept in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from twisted.logger import Logger

from htmengine.alerts.configuration import AlertOptions, Rule
from htmengine.alerts.evaluation import Scored, matches
from htmengine.alerts.rule_index import RuleIndex
from htmengine.incidents import judging, queries
from htmengine.incidents.candidates import Candidate, candidates
from htmengine.incidents.fleet import Fleet, Newest
from htmengine.incidents.grouping import GAPS, Instruction
from htmengine.incidents.judging import Judging, Silent
from htmengine.process import crash_points
from htmengine.process.figures import Figure, counter, gauge
from htmengine.process.twisted_types import Clock
from htmengine.repository.engine import Database

DAY_S = 86_400
#: Metrics that may have stopped, whose rows are read in one look, and how many rows of each.
STUDIED_AT_ONCE = 200
STUDIED_ROWS = 5000


class BudgetRules:
    """The rules that have a budget."""

    log = Logger()

    def __init__(self, *, clock: Clock, database: Database, options: AlertOptions) -> None:
        self._clock = clock
        self._database = database
        self._options = options
        self._rules: dict[str, Rule] = {}
        self._index = RuleIndex()
        self._fleet = Fleet()
        self._metrics: Counter[str] = Counter()  #: that a rule is for
        self._silent: dict[float, list[Newest]] = {}  #: at the last look, by `Rule.silence`
        self.use(options.config.rules)
        self.pages: Counter[str] = Counter()  #: by rule
        self.held_back: Counter[str] = Counter()
        self.tokens: dict[str, float] = {}

    def use(self, rules: Iterable[Rule]) -> None:
        """Go on with these rules, as far as they have a budget."""
        self._rules = {rule.name: rule for rule in rules if rule.has_budget}
        self._index = RuleIndex(self._rules.values())
        self._count_metrics()

    def figures(self) -> Iterable[Figure]:
        """What was paged, and what was not."""
        yield counter("htmengine_pages", "Incidents that people were told of", self.pages, by="rule")
        yield counter("htmengine_pages_held_back", "Alarms that paged nobody", self.held_back, by="rule")
        yield gauge("htmengine_budget_tokens", "Pages that may be spent at once", self.tokens, by="rule")

    async def begin(self) -> None:
        """Look at the metrics as the engine left them."""
        if self._rules:
            await self._look()

    async def take(self, scored: Sequence[Scored]) -> None:
        """Judge rows.  Rows that come twice change nothing."""
        rules = self._rules
        for name, found in candidates(self._index, scored, self._clock.seconds()).items():
            await self._judge(rules[name], found)

    async def review(self) -> None:
        """Metrics that have stopped or are back, incidents that are over, rules that are gone."""
        rules, states = self._rules, await self._database.read(queries.rule_states)
        if rules:
            await self._look()
        for rule in rules.values():
            state = states.get(rule.name, {})
            await self._review(rule, has_open=bool(state.get("open")))
            self.tokens[rule.name] = judging.tokens(state, self._judging(rule))
        for name in (name for name, state in states.items() if state.get("open") and name not in rules):
            gone = self._judging(Rule(name, pages_per_week=1.0))
            await self._database.run(judging.review_rule, gone, ended="the rule was removed")
        kept_s = self._options.config.general.keep_days * DAY_S
        await self._database.run(queries.forget, self._clock.seconds() - kept_s)

    async def _judge(self, rule: Rule, found: Sequence[Candidate], silent: Sequence[Silent] = ()) -> None:
        if not self._fleet.newest:
            await self._look()
        decision = await self._database.run(judging.judge, self._judging(rule), found, silent)
        crash_points.reached("alerts.judged")
        self.pages[rule.name] += judging.paged(decision.instructions)
        self.held_back[rule.name] += judging.held_back(decision.judgements)
        self._log_instructions(rule, decision.instructions)

    def _judging(self, rule: Rule) -> Judging:
        return Judging(rule, self._metrics[rule.name], self._options, self._clock.seconds())

    def _log_instructions(self, rule: Rule, instructions: Iterable[Instruction]) -> None:
        for each in instructions:
            self.log.info(
                "incident {id} of rule {rule}: {what}, {members} metrics",
                id=each.incident.id,
                rule=rule.name,
                what=type(each).__name__.lower(),
                members=each.incident.members,
            )

    async def _look(self) -> None:
        self._fleet.watches_gaps = any(rule.gaps for rule in self._rules.values())
        self._fleet.look(self._clock.seconds(), await self._database.read(queries.newest_rows))
        for each in list(islice(self._fleet.unstudied(), STUDIED_AT_ONCE)):
            self._fleet.study(each.uid, await self._database.read(queries.row_times, each.uid, STUDIED_ROWS))
        self._count_metrics()
        given = {rule.silence for rule in self._rules.values() if rule.silence is not None}
        self._silent = {seconds: self._fleet.silent(seconds) for seconds in given}

    def _count_metrics(self) -> None:
        newest = self._fleet.newest.values()
        self._metrics = Counter(rule.name for each in newest for rule in self._index.of(each.name))

    async def _review(self, rule: Rule, *, has_open: bool) -> None:
        known, newest = await self._database.read(queries.silent_since, rule.name), self._fleet.newest
        back = {uid for uid, since in known.items() if uid not in newest or newest[uid].timestamp > since}
        stopped = [*self._new_silences(rule, known), *await self._quiet_silences(rule, known.keys() - back)]
        stopped += self._gaps(rule)
        if stopped:
            await self._judge(rule, (), stopped)
        if has_open or back:
            closed = await self._database.run(judging.review_rule, self._judging(rule), back)
            self._log_instructions(rule, closed)

    def _new_silences(self, rule: Rule, known: Collection[str]) -> list[Silent]:
        silent = [] if rule.silence is None else self._silent.get(rule.silence, [])
        new = [each for each in silent if each.uid not in known and matches(rule, each.name)]
        return [Silent(each, self._fleet.silence_in_words(each.uid)) for each in new]

    def _gaps(self, rule: Rule) -> list[Silent]:
        faults = self._fleet.faults.items() if rule.gaps else ()
        newest = self._fleet.newest
        return [Silent(newest[uid], text, kind=GAPS) for uid, text in faults if matches(rule, newest[uid].name)]

    async def _quiet_silences(self, rule: Rule, still: Collection[str]) -> list[Silent]:
        """Those that are to page somebody once they are no longer silenced or in maintenance."""
        quiet = await self._database.read(queries.quiet_silences, rule.name) if still else []
        words = self._fleet.silence_in_words
        return [Silent(self._fleet.newest[uid], words(uid), quiet_before=True) for uid in quiet if uid in still]
