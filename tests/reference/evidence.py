# SPDX-License-Identifier: MIT
"""The evidence of a metric in plain Python: says the same as htmengine/evidence/core, in other words, and slowly.

Every kind keeps the whole past and looks at it again for each row; only the rules of what is known, learnt and
forgotten are those of the compiled core.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_Vector = NDArray[np.float64]

CAP = 7.0
KEEP, EVENT, MEMORY = 32, 12, 16128


class Rarity:
    """The return period of a statistic's height, from the 32 highest events: (height, row), highest first."""

    def __init__(self) -> None:
        self.peaks: list[tuple[float, int]] = []
        self.rows = 0

    def update(self, z: float, rounding: float = 0.0) -> float:
        row, self.rows = self.rows, self.rows + 1
        if row % 288 == 0 and row >= MEMORY:
            self.peaks = [peak for peak in self.peaks if peak[1] >= row - MEMORY]
        evidence = self.decades([height for height, _ in self.peaks], z, rounding)
        self.learn(z, rounding, row)
        return min(evidence, CAP)

    def decades(self, heights: list[float], z: float, rounding: float) -> float:
        seen = min(self.rows, MEMORY)
        if len(heights) < 4 or z <= heights[-1] + rounding:
            return 0.0
        if z <= heights[0] + rounding:
            return math.log10(seen / (sum(height >= z - rounding for height in heights) + 1))
        excess = sum(height - heights[-1] for height in heights) / (len(heights) - 1)
        scale = max(0.5 * excess, 1e-9 * abs(heights[0]), rounding, 1e-300)
        return math.log10(seen) + (z - heights[0]) / scale / math.log(10)

    def learn(self, z: float, rounding: float, row: int) -> None:
        newest = max(self.peaks, key=lambda peak: peak[1], default=(0.0, -EVENT - 1))
        if row - newest[1] <= EVENT:
            if z <= newest[0] + rounding:
                return
            self.peaks.remove(newest)
        elif len(self.peaks) == KEEP:
            if z <= self.peaks[-1][0] + rounding:
                return
            self.peaks.pop()
        place = sum(height >= z for height, _ in self.peaks)
        self.peaks.insert(place, (z, row))


class TwoSided:
    def __init__(self) -> None:
        self.up, self.down = Rarity(), Rarity()

    def update(self, z: float, rounding: float = 0.0) -> float:
        return max(self.up.update(z, rounding), self.down.update(-z, rounding))


class Mean:
    """The mean of the last values; its running sum is made from them again once a round."""

    def __init__(self, size: int) -> None:
        self.size, self.total = size, 0.0
        self.values: list[float] = []

    def update(self, x: float) -> float:
        old = self.values[-self.size] if len(self.values) >= self.size else 0.0
        self.values.append(x)
        self.total += x - old
        if len(self.values) % self.size == 0:
            self.total = math.fsum(self.values[-self.size :])
        return self.total / min(len(self.values), self.size)

    def gap(self) -> None:
        self.values, self.total = [], 0.0


class Welford:
    def __init__(self) -> None:
        self.rows, self.mean, self.squares = 0, 0.0, 0.0

    def update(self, x: float) -> None:
        self.rows += 1
        distance = x - self.mean
        self.mean += distance / self.rows
        self.squares += distance * (x - self.mean)

    def variance(self) -> float:
        return self.squares / self.rows if self.rows else 0.0


class Kind(Protocol):
    """A kind of evidence of the value."""

    def update(self, timestamp: int, x: float, step: float, rounding: float, /) -> float: ...
    def gap(self) -> None: ...


class Level:
    def __init__(self, size: int) -> None:
        self.mean, self.rarity = Mean(size), TwoSided()
        self.after_gap = False

    def update(self, _timestamp: int, x: float, _step: float, rounding: float) -> float:
        mean = self.mean.update(x)
        if self.after_gap and len(self.mean.values) < self.mean.size:
            return 0.0
        return self.rarity.update(mean, rounding)

    def gap(self) -> None:
        self.mean.gap()
        self.after_gap = True


class Spread:
    def __init__(self, size: int) -> None:
        self.size, self.rarity = size, TwoSided()
        self.all: list[float] = []
        self.values: list[float] = []

    def update(self, _timestamp: int, x: float, _step: float, _rounding: float) -> float:
        self.all.append(x)
        self.values.append(x)
        if len(self.all) < 100 or len(self.values) < self.size:
            return 0.0
        change = abs(next((value for value in self.all if value != self.all[0]), self.all[0]) - self.all[0])
        if change == 0:
            return self.rarity.update(math.log(1e-6), 1e-12)
        floor = max(1e-3 * statistics.pstdev(self.all[:200]), 1e-6 * change)
        return self.rarity.update(math.log((statistics.pstdev(self.values[-self.size :]) + floor) / change), 1e-12)

    def gap(self) -> None:
        self.values = []


class Shape:
    """Every vector of the past with the row it was made at; a gap counts as `span` rows without any."""

    def __init__(self, block: int) -> None:
        self.block, self.span = block, 8 * block
        self.rows, self.slot = 0, 0
        self.values: list[float] = []
        self.vectors: list[tuple[int, _Vector]] = []
        self.rarity = Rarity()

    def update(self, _timestamp: int, x: float, _step: float, rounding: float) -> float:
        self.values.append(x)
        self.slot += 1
        self.rows += 1
        distance = 0.0
        if len(self.values) >= self.span:
            vector = np.array(self.values[-self.span :]).reshape(8, self.block).mean(axis=1)
            apart = self.slot - self.span
            found = [(slot, v) for slot, v in self.vectors if slot <= apart]
            if len(found) > 20:
                distance = self.nearest([v for slot, v in found if slot > apart - 256], vector)
            self.vectors.append((self.slot, vector))
        return self.rarity.update(distance, rounding) if self.rows > 100 else 0.0

    @staticmethod
    def nearest(vectors: list[_Vector], now: _Vector) -> float:
        if not vectors:
            return 0.0
        return math.sqrt(float(((np.array(vectors) - now) ** 2).mean(axis=1).min()))

    def gap(self) -> None:
        self.values = []
        self.slot += self.span


class Hours:
    """Highest and lowest value of every hour, unless an hour 16 days later took its place."""

    def __init__(self) -> None:
        self.hours: dict[int, tuple[int, float, float]] = {}
        self.hour: int | None = None
        self.bounds: tuple[float, float] | None = None
        self.usual: tuple[float, float] | None = None
        self.today: tuple[float, float] | None = None
        self.rarities = [Rarity() for _ in range(4)]

    def known(self, hours: Iterable[int]) -> list[tuple[float, float]]:
        cells = ((hour, self.hours.get(hour % 384)) for hour in hours)
        return [cell[1:] for hour, cell in cells if cell is not None and cell[0] == hour]

    def five_before(self, hour: int) -> tuple[float, float] | None:
        cells = self.known(range(hour - 5, hour))
        return (max(h for h, _ in cells), min(low for _, low in cells)) if len(cells) == 5 else None

    def enter(self, hour: int) -> None:
        self.hour = hour
        day, slot = hour - hour % 24, hour % 24
        near = self.known(day - 24 * ago + (slot + j) % 24 for ago in range(1, 15) for j in (-1, 0, 1))
        self.bounds = (max(h for h, _ in near), min(low for _, low in near)) if len(near) >= 6 else None
        self.today = self.five_before(hour)
        days = [five for ago in range(1, 14) if (five := self.five_before(hour - 24 * ago))]
        self.usual = None
        if self.today and len(days) >= 4:
            self.usual = min(h for h, _ in days), max(low for _, low in days)

    def update(self, timestamp: int, x: float, _step: float, rounding: float) -> float:
        hour = timestamp // 3600
        if hour != self.hour:
            self.enter(hour)
        above, below, no_peak, no_trough = self.rarities
        evidence, away = [0.0], [0.0]
        if self.bounds:
            evidence += [above.update(x - self.bounds[0], rounding), below.update(self.bounds[1] - x, rounding)]
        was, high, low = self.hours.get(hour % 384, (None, x, x))
        high, low = (max(high, x), min(low, x)) if was == hour else (x, x)
        self.hours[hour % 384] = hour, high, low
        if self.usual and self.today:
            away.append(no_peak.update(self.usual[0] - max(self.today[0], high), rounding))
            away.append(no_trough.update(min(self.today[1], low) - self.usual[1], rounding))
        self.away = max(away)
        return max(*evidence, *away)

    def gap(self) -> None:
        pass


class SeasonDeviation:
    def __init__(self) -> None:
        self.slots = [(0, 0.0, 0.0)] * 24
        self.all, self.rarity, self.level_rarity = Welford(), TwoSided(), TwoSided()
        self.distances: list[float] = []
        self.first: int | None = None
        self.after_gap = False

    def update(self, timestamp: int, x: float, step: float, rounding: float) -> float:
        hour = timestamp // 3600
        slot = hour % 24
        self.first = hour if self.first is None else self.first
        rows, mean, variance = self.slots[slot]
        self.all.update(x)
        whole, evidence = self.all.variance(), 0.0
        distance = x - mean if rows else 0.0
        if rows >= 3 and self.all.rows > 50 and hour - self.first >= 24:
            deviation = math.sqrt((variance * rows + 2 * whole) / (rows + 2))
            unit = deviation + 1e-3 * math.sqrt(whole) + rounding
            z = distance / unit if unit else 0.0
            evidence = self.rarity.update(z, 1e-12)
            self.distances.append(min(max(z, -20.0), 20.0))
            six = self.distances[-6:]
            whole_six = len(six) == 6 or not self.after_gap
            self.level = self.level_rarity.update(sum(six) / len(six), 1e-12) if whole_six else 0.0
        else:
            self.distances.append(0.0)
            self.level = 0.0
        share = max(min(0.2, 24 * step / (14 * 86400)), 1 / (rows + 1))
        if rows:
            mean, variance = mean + share * distance, variance + share * (distance**2 * (1 - share) - variance)
        else:
            mean = x
        self.slots[slot] = rows + 1, mean, variance
        return evidence

    def gap(self) -> None:
        self.distances = []
        self.after_gap = True


class Run:
    def __init__(self) -> None:
        self.values: list[float] = []
        self.seen, self.repeats = 0, 0
        self.rarity = Rarity()

    def update(self, _timestamp: int, x: float, _step: float, _rounding: float) -> float:
        self.values.append(x)
        length = next((n for n, value in enumerate(reversed(self.values)) if value != x), len(self.values)) - 1
        share = (self.repeats + 1) / (self.seen + 2)
        self.seen, self.repeats = self.seen + 1, self.repeats + (length > 0)
        return min(self.rarity.update(math.log1p(length)), -length * math.log10(share))

    def gap(self) -> None:
        self.values = []


class Jump:
    def __init__(self) -> None:
        self.values: list[float] = []
        self.rarity = TwoSided()

    def update(self, _timestamp: int, x: float, _step: float, rounding: float) -> float:
        self.values.append(x)
        if len(self.values) < 12:
            return 0.0
        return self.rarity.update((math.fsum(self.values[-6:]) - math.fsum(self.values[-12:-6])) / 6, rounding)

    def gap(self) -> None:
        self.values = []


class Sequence:
    """The normal tail of the mean of the last 10 raw scores among those of the window."""

    def __init__(self, window: int = 8640, skip: int = 288) -> None:
        self.window, self.skip = window, skip
        self.raws: list[float] = []
        self.means: list[float] = []

    def update(self, raw: float) -> float:
        self.raws.append(raw)
        last = self.raws[-10:]
        mean = math.fsum(last) / len(last)
        known = self.means[max(self.skip, len(self.means) - self.window) :]
        self.means.append(mean)
        if len(known) < 100:
            return 0.3
        deviation = math.sqrt(max(float(np.var(known)), 0.0003))
        tail = 0.5 * math.erfc((mean - max(float(np.mean(known)), 0.03)) / deviation / math.sqrt(2))
        return min(-math.log10(max(tail, 1e-30)), CAP)


class Detector:
    """``update`` gives the score S; it leaves the decades of the ten kinds and of the three that may page alone in
    ``evidence``, and the height of a page in ``height``."""

    def __init__(self, gap_steps: float = 12.0) -> None:
        self.hours, self.season = Hours(), SeasonDeviation()
        self.sequence = Sequence()
        self.gap_steps = gap_steps
        self.timestamps: list[int] = []
        self.others: list[int] = []
        self.changed_at: int | None = None
        self.start()
        self.farthest = 0.0

    def start(self) -> None:
        """Everything but what the times of day show."""
        self.run, self.jump, self.values = Run(), Jump(), 0
        self.kinds: tuple[Kind, ...] = (
            *(Level(size) for size in (1, 6, 36, 144)),
            Spread(12),
            Shape(3),
            self.hours,
            self.season,
        )
        self.bin: list[tuple[int, float, float]] = []
        self.last_value: int | None = None
        self.magnitude = 0.0

    def watch(self, timestamp: int) -> None:
        """Twelve intervals like each other but unlike the step, of which each that is not takes two away, change it."""
        if len(self.timestamps) < 32:
            self.timestamps.append(timestamp)
            self.last = timestamp
            return
        interval, self.last = timestamp - self.last, timestamp
        step = self.step()
        other = self.others[0] if self.others else interval
        if not 0.5 * step < interval < 1.5 * step and (not self.others or 0.5 * other < interval < 1.5 * other):
            self.others.append(interval)
        else:
            del self.others[-2:]
        if len(self.others) == 12:
            self.others, self.timestamps, self.changed_at = [], [timestamp - interval, timestamp], timestamp
            self.hours.rarities = [Rarity() for _ in range(4)]
            self.season.rarity, self.season.level_rarity, self.season.distances = TwoSided(), TwoSided(), []
            self.season.after_gap = False
            self.start()

    def settling(self, timestamp: int) -> bool:
        settled = self.changed_at is None or (timestamp - self.changed_at >= 2 * 86400 and self.values >= 100)
        return len(self.others) >= 3 or not settled

    def step(self) -> float:
        intervals = [b - a for a, b in zip(self.timestamps, self.timestamps[1:], strict=False)]
        return max(1.0, statistics.median(intervals)) if intervals else 300.0

    def update(self, timestamp: int, value: float, raw: float) -> float:
        self.watch(timestamp)
        self.evidence = [0.0] * 13
        step = self.step()
        self.evidence[9] = self.sequence.update(raw)
        x = self.within_reach(value) if math.isfinite(value) else math.nan
        if step < 300:
            if self.bin and self.bin[0][0] // 300 != timestamp // 300:
                own = self.evidence[9]
                self.close_bin()
                self.bin = [(timestamp, x, own)]
            else:
                self.bin.append((timestamp, x, self.evidence[9]))
            if timestamp % 300 + step >= 300:
                self.close_bin()
        else:
            self.close_bin()
            if math.isfinite(x):
                self.judge(timestamp, x, step)
        if self.settling(timestamp):
            self.evidence = [0.0] * 13
        shift = 0.5 * math.log10(max(step, 300.0) / 300.0)
        paced = [min(max(e + shift, 0.0), CAP) if e > 1.5 else e for e in self.evidence]
        score = math.sqrt(sum(e * e for e in paced[:10]) / 10)
        self.height = math.hypot(score, 0.6 * max(paced[10:]))
        return score

    def close_bin(self) -> None:
        rows, self.bin = self.bin, []
        if not rows:
            return
        self.evidence[9] = max(self.evidence[9], *(e for _, _, e in rows))
        values = [x for _, x, _ in rows if math.isfinite(x)]
        if values:
            total = 0.0
            for x in values:
                total += x
            self.judge(rows[0][0] // 300 * 300, total / len(values), 300.0)

    def judge(self, timestamp: int, x: float, step: float) -> None:
        alone: tuple[Kind, ...] = (self.run, self.jump)
        if self.last_value is not None and timestamp - self.last_value > self.gap_steps * step:
            for kind in (*self.kinds, *alone):
                kind.gap()
        self.last_value = timestamp
        self.values += 1
        self.magnitude = max(abs(x), 31 / 32 * self.magnitude)
        row = timestamp, x, step, 1e-12 * self.magnitude
        found = [kind.update(*row) for kind in self.kinds]
        run, jump = (kind.update(*row) for kind in alone)
        judged = [*found, self.season.level, 0.0, run, self.hours.away, jump]
        self.evidence = [max(pair) for pair in zip(self.evidence, judged, strict=True)]

    def within_reach(self, value: float) -> float:
        reach = min(1e140, 1e9 * self.farthest) if self.farthest > 0 else 1e140
        value = min(max(value, -reach), reach)
        self.farthest = max(self.farthest, abs(value))
        return value
