# SPDX-License-Identifier: MIT
"""The encoders of the compiled core, bit by bit, on cases worked by hand."""

from __future__ import annotations

import math
from unittest import TestCase

from htmengine.htm import _core

_MIDNIGHT = 1_500_076_800  # 2017-07-15 00:00:00 UTC, a Saturday
_HOUR = 3600


def _value_encoder(**fields: object) -> _core.Encoders:
    params = _core.EncoderParams()
    for name, value in fields.items():
        setattr(params, name, value)
    return _core.Encoders(params)


def _date_encoder(
    aspect: _core.Aspect,
    bits: int,
    span: float,
    *,
    width: int = 21,
    step: float = 1.0,
    periodic: bool = True,
    holidays: tuple[tuple[int, int, int], ...] = (),
) -> _core.Encoders:
    params = _core.EncoderParams()
    params.add_date(aspect, bits, width, span, step, periodic)
    for holiday in holidays:
        params.add_holiday(*holiday)
    return _core.Encoders(params)


def _bucket(encoder: _core.Encoders, value: float) -> int:
    return encoder.encode(0, value)[0]


def _date_bits(encoder: _core.Encoders, timestamp: int) -> list[int]:
    """The bits of the date alone: a missing value sets none."""
    return sorted(encoder.encode(timestamp, math.nan)[1])


def _shared(one: int, other: int) -> int:
    return len(set(_core.bucket_bits(400, 21, 42, one)) & set(_core.bucket_bits(400, 21, 42, other)))


class RandomDistributedScalarTest(TestCase):
    def test_the_first_value_is_the_centre_and_halves_round_away_from_zero(self) -> None:
        encoder = _value_encoder(resolution=0.5)
        values = (10.0, 10.24, 10.25, 9.75, 9.76, 12.0)
        self.assertEqual([_bucket(encoder, value) for value in values], [500, 500, 501, 499, 500, 504])

    def test_far_values_are_in_the_outermost_buckets(self) -> None:
        encoder = _value_encoder(resolution=0.5, offset=10.0)
        self.assertEqual([_bucket(encoder, value) for value in (1e9, math.inf, -1e9, -math.inf)], [999, 999, 0, 0])

    def test_a_given_offset_is_the_centre(self) -> None:
        self.assertEqual(_bucket(_value_encoder(resolution=2.0, offset=100.0), 94.0), 497)

    def test_a_missing_value_sets_no_bit_and_is_no_centre(self) -> None:
        encoder = _value_encoder(resolution=1.0)
        self.assertEqual(encoder.encode(0, math.nan), (0xFFFF, []))
        self.assertEqual(_bucket(encoder, 7.0), 500)

    def test_the_bits_are_the_buckets(self) -> None:
        bucket, bits = _value_encoder(resolution=1.0).encode(0, 3.0)
        self.assertEqual((bucket, bits), (500, _core.bucket_bits(400, 21, 42, 500)))

    def test_overlaps_fall_with_the_distance(self) -> None:
        self.assertEqual([_shared(500, 501), _shared(499, 504), _shared(500, 520)], [20, 16, 1])
        self.assertLessEqual(_shared(500, 521), 2)

    def test_every_pair_of_buckets_keeps_its_distance(self) -> None:
        buckets = [set(_core.bucket_bits(400, 21, 42, bucket)) for bucket in range(1000)]
        self.assertTrue(all(len(bits) == 21 and max(bits) < 400 for bits in buckets))
        for one in range(0, 1000, 7):
            for other in range(one + 1, 1000):
                shared, distance = len(buckets[one] & buckets[other]), other - one
                self.assertTrue(shared == 21 - distance if distance < 21 else shared <= 2, (one, other, shared))

    def test_a_neighbour_differs_in_the_position_that_its_number_says(self) -> None:
        for width in (3, 21):
            for bucket in range(500, 540):
                here, next_one = (_core.bucket_bits(400, width, 42, number) for number in (bucket, bucket + 1))
                differing = [place for place in range(width) if here[place] != next_one[place]]
                self.assertEqual(differing, [(bucket + 1) % width])
            for bucket in range(500, 460, -1):
                here, next_one = (_core.bucket_bits(400, width, 42, number) for number in (bucket, bucket - 1))
                differing = [place for place in range(width) if here[place] != next_one[place]]
                self.assertEqual(differing, [(bucket - 1) % width])

    def test_another_seed_gives_other_bits(self) -> None:
        self.assertNotEqual(_core.bucket_bits(400, 21, 42, 500), _core.bucket_bits(400, 21, 43, 500))


class ScalarTest(TestCase):
    def test_a_row_has_a_bucket_a_step(self) -> None:
        encoder = _value_encoder(kind=_core.ValueKind.scalar, bits=12, width=3, minimum=0.0, maximum=9.0, step=1.0)
        cases = {0.0: (0, [0, 1, 2]), 0.49: (0, [0, 1, 2]), 0.5: (1, [1, 2, 3]), 9.0: (9, [9, 10, 11])}
        for value, expected in cases.items():
            self.assertEqual(encoder.encode(0, value), expected, value)

    def test_a_value_outside_is_refused_or_clipped(self) -> None:
        fields: dict[str, object] = {"bits": 12, "width": 3, "minimum": 0.0, "maximum": 9.0, "step": 1.0}
        refusing = _value_encoder(kind=_core.ValueKind.scalar, **fields)
        clipping = _value_encoder(kind=_core.ValueKind.scalar, clip=True, **fields)
        for value, bucket in ((-0.1, 0), (9.1, 9)):
            with self.assertRaisesRegex(ValueError, "outside the range of the scalar encoder"):
                refusing.encode(0, value)
            self.assertEqual(_bucket(clipping, value), bucket)

    def test_a_ring_has_no_ends(self) -> None:
        encoder = _value_encoder(
            kind=_core.ValueKind.scalar, bits=10, width=3, minimum=0.0, maximum=10.0, periodic=True
        )
        self.assertEqual(encoder.encode(0, 0.0), (0, [9, 0, 1]))
        self.assertEqual(encoder.encode(0, 9.9), (9, [8, 9, 0]))
        with self.assertRaises(ValueError):
            encoder.encode(0, 10.0)


class LogTest(TestCase):
    def test_equal_factors_are_equal_distances(self) -> None:
        encoder = _value_encoder(kind=_core.ValueKind.log, bits=43, width=3, minimum=0.0, maximum=4.0, step=0.1)
        self.assertEqual([_bucket(encoder, value) for value in (1.0, 10.0, 100.0, 1000.0)], [0, 10, 20, 30])

    def test_what_has_no_logarithm_is_in_the_first_bucket(self) -> None:
        encoder = _value_encoder(kind=_core.ValueKind.log, bits=43, width=3, minimum=0.0, maximum=4.0, step=0.1)
        self.assertEqual([_bucket(encoder, value) for value in (0.0, -5.0)], [0, 0])


class DeltaTest(TestCase):
    def test_the_difference_to_the_previous_value_counts(self) -> None:
        encoder = _value_encoder(kind=_core.ValueKind.delta, bits=24, width=3, minimum=-10.0, maximum=10.0)
        # 22 buckets, a step of 20 / 21: the first difference is 0.
        self.assertEqual([_bucket(encoder, value) for value in (100.0, 110.0, 100.0, 100.0)], [11, 21, 0, 11])

    def test_the_range_widens(self) -> None:
        encoder = _value_encoder(kind=_core.ValueKind.delta, bits=24, width=3, minimum=-10.0, maximum=10.0)
        self.assertEqual([_bucket(encoder, value) for value in (0.0, 1000.0)], [11, 21])
        self.assertEqual(_bucket(encoder, 1010.0), 0)  # of -10 .. 1000, a step of 48, where 10 is near the lower end

    def test_a_range_too_small_to_be_divided_has_one_bucket(self) -> None:
        encoder = _value_encoder(kind=_core.ValueKind.delta, bits=400, width=21, minimum=0.0, maximum=5e-324)
        self.assertEqual([_bucket(encoder, value) for value in (7.0, 7.0)], [0, 0])


class DateTest(TestCase):
    def test_time_of_day_is_a_ring(self) -> None:
        encoder = _date_encoder(_core.Aspect.time_of_day, 54, 24.0)
        self.assertEqual(_date_bits(encoder, _MIDNIGHT), [*range(11), *range(44, 54)])
        self.assertEqual(_date_bits(encoder, _MIDNIGHT + 4 * _HOUR), [*range(20), 53])
        self.assertEqual(_date_bits(encoder, _MIDNIGHT + 12 * _HOUR), [*range(17, 38)])
        self.assertEqual(_date_bits(encoder, _MIDNIGHT + 24 * _HOUR - 60), [*range(10), *range(43, 54)])

    def test_midnight_and_four_share_twelve_bits(self) -> None:
        encoder = _date_encoder(_core.Aspect.time_of_day, 54, 24.0)
        shared = set(_date_bits(encoder, _MIDNIGHT)) & set(_date_bits(encoder, _MIDNIGHT + 4 * _HOUR))
        self.assertEqual(len(shared), 12)

    def test_seconds_do_not_count(self) -> None:
        encoder = _date_encoder(_core.Aspect.time_of_day, 54, 24.0)
        step = 26 * 60 + 40  # one bucket
        self.assertEqual(_date_bits(encoder, _MIDNIGHT + step), _date_bits(encoder, _MIDNIGHT))
        self.assertNotEqual(_date_bits(encoder, _MIDNIGHT + step + 20), _date_bits(encoder, _MIDNIGHT))

    def test_times_before_1970_are_times(self) -> None:
        encoder = _date_encoder(_core.Aspect.time_of_day, 54, 24.0)
        self.assertEqual(_date_bits(encoder, -12 * _HOUR), [*range(17, 38)])

    def test_the_week_begins_on_monday(self) -> None:
        encoder = _date_encoder(_core.Aspect.day_of_week, 7, 7.0, width=1)
        self.assertEqual([_date_bits(encoder, _MIDNIGHT + day * 24 * _HOUR) for day in range(3)], [[5], [6], [0]])

    def test_the_weekend_begins_on_friday_after_six(self) -> None:
        encoder = _date_encoder(_core.Aspect.weekend, 2, 1.0, width=1, periodic=False)
        friday = _MIDNIGHT - 24 * _HOUR
        cases = {friday + 18 * _HOUR + 59: [0], friday + 18 * _HOUR + 60: [1], _MIDNIGHT + 47 * _HOUR: [1]}
        for timestamp, bits in {**cases, _MIDNIGHT + 48 * _HOUR: [0]}.items():
            self.assertEqual(_date_bits(encoder, timestamp), bits)

    def test_the_season_counts_the_days_of_the_year(self) -> None:
        encoder = _date_encoder(_core.Aspect.season, 366, 366.0, width=1)
        days = {946_684_800: 0, 951_782_400: 59, 978_220_800: 365, 978_307_200: 0}  # 2000-01-01, 02-29, 12-31; 2001
        for timestamp, day in days.items():
            self.assertEqual(_date_bits(encoder, timestamp), [day])

    def test_a_holiday_rises_the_day_before_and_falls_the_day_after(self) -> None:
        christmas = 1_514_160_000  # 2017-12-25 00:00:00
        for holidays in (((0, 12, 25),), ((2017, 12, 25),)):
            encoder = _date_encoder(_core.Aspect.holiday, 11, 1.0, width=1, step=0.1, periodic=False, holidays=holidays)
            places = {-36: 0, -12: 5, 0: 10, 23: 10, 36: 5, 47: 0, 60: 0}
            for hours, place in places.items():
                self.assertEqual(_date_bits(encoder, christmas + hours * _HOUR), [place], hours)
