# SPDX-License-Identifier: MIT
"""The SDR classifier of the compiled core, step by step, on a case worked by hand; NuPIC's gives the same numbers."""

from __future__ import annotations

import math
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from htmengine.htm import Model, ModelParams, _core
from htmengine.htm.params import ClassifierParams

_MISSING = 0xFFFF


def _classifier(*, alpha: float = 0.5, steps: tuple[int, ...] = (1,)) -> _core.Classifier:
    params = _core.ClassifierParams()
    params.alpha, params.steps, params.act_value_alpha = alpha, list(steps), 0.3
    return _core.Classifier(params)


class ByHandTest(SynchronousTestCase):
    """Learning rate 0.5, one step ahead.  Weights start at 0; those of the cells of the row before move by 0.5 times
    (1 for the row's bucket, 0 for the others, less the probability that these cells gave it)."""

    def setUp(self) -> None:
        self.classifier = _classifier()

    def _row(self, cells: list[int], value: float, bucket: int) -> None:
        self.classifier.row(cells, value, bucket, True)

    def _expect(self, *expected: tuple[float, float]) -> None:
        predicted = self.classifier.predict(0)
        self.assertEqual([round(value, 9) for value, _ in predicted], [value for value, _ in expected])
        for (_, probability), (_, wanted) in zip(predicted, expected, strict=True):
            self.assertApproximates(probability, wanted, 1e-6)  # weights have four bytes
        self.assertApproximates(math.fsum(probability for _, probability in predicted), 1.0, 1e-12)

    def test_five_rows(self) -> None:
        # Nothing before the first row, so nothing is learnt; the only bucket seen has all the probability.
        self._row([1], 10.0, 0)
        self._expect((10.0, 1.0))
        # Cell 1 gave both buckets exp(0) = 1 of 2: its weights move by 0.5 (0 - 0.5) and 0.5 (1 - 0.5), to -0.25 and
        # 0.25.  Cell 2 has none yet.
        self._row([2], 20.0, 1)
        self._expect((10.0, 0.5), (20.0, 0.5))
        # Cell 2: 0.25 and -0.25.  Cell 1 gives exp(0.25) / (exp(0.25) + exp(-0.25)) = 0.622459 to the second bucket.
        self._row([1], 10.0, 0)
        self._expect((20.0, 0.622459), (10.0, 0.377541))
        # Cell 1 moves by 0.5 (0 - 0.377541) and 0.5 (1 - 0.622459): -0.438770 and 0.438770.
        # The second bucket stands for 20 + 0.3 (22 - 20).
        self._row([2], 22.0, 1)
        self._expect((10.0, 0.622459), (20.6, 0.377541))
        # A third bucket, whose weights are 0.  Cell 2 gave exp(0.25), exp(-0.25), exp(0) of 3.062826: 0.419229,
        # 0.254275, 0.326496.  It moves to 0.25 - 0.209614 = 0.040386, -0.25 - 0.127138 = -0.377138, 0.336752.
        # Cells 1 and 2 together: -0.398385, 0.061633, 0.336752; exp of these: 0.671404, 1.063572, 1.400392 of 3.135367.
        self._row([1, 2], 30.0, 2)
        self._expect((30.0, 0.446644), (20.6, 0.339218), (10.0, 0.214139))

    def test_the_number_of_a_bucket_means_nothing(self) -> None:
        for cells, value, bucket in (([1], 10.0, 998), ([2], 20.0, 3), ([1], 10.0, 998)):
            self._row(cells, value, bucket)
        self._expect((20.0, 0.622459), (10.0, 0.377541))

    def test_a_missing_value_or_a_row_without_learning_changes_no_weight(self) -> None:
        for cells, value, bucket in (([1], 10.0, 0), ([2], 20.0, 1), ([1], 10.0, 0)):
            self._row(cells, value, bucket)
        self._row([3], math.nan, _MISSING)
        self.classifier.row([4], 20.0, 1, False)
        self.classifier.row([1], 20.0, 1, False)
        self._expect((20.0, 0.622459), (10.0, 0.377541))

    def test_cells_that_never_learnt_leave_all_buckets_alike(self) -> None:
        for number in range(4):
            self._row([number], float(number), number)
        self.classifier.row([99], 0.0, 0, False)
        self._expect((0.0, 0.25), (1.0, 0.25), (2.0, 0.25), (3.0, 0.25))


class StepsTest(SynchronousTestCase):
    def test_each_step_learns_from_the_cells_that_many_rows_before(self) -> None:
        classifier = _classifier(steps=(0, 1, 3))
        for row in range(40):  # buckets 0, 1, 2, 3 in turn
            classifier.row([row % 4], 10.0 * (row % 4), row % 4, True)
        # The last row was bucket 3.
        self.assertEqual([classifier.predict(step)[0][0] for step in range(3)], [30.0, 0.0, 20.0])

    def test_a_higher_rate_is_surer_after_as_many_rows(self) -> None:
        sure = []
        for alpha in (0.01, 0.1, 1.0):
            classifier = _classifier(alpha=alpha)
            for row in range(20):
                classifier.row([row % 2], float(row % 2), row % 2, True)
            sure.append(classifier.predict(0)[0][1])
        self.assertEqual(sure, sorted(sure))
        self.assertTrue(0.5 < sure[0] < 0.55 and sure[2] > 0.9, sure)

    def test_at_most_eight_values_and_none_that_is_next_to_impossible(self) -> None:
        classifier = _classifier(alpha=0.001)
        for row in range(40):
            classifier.row([row % 20], float(row % 20), row % 20, True)
        self.assertEqual(len(classifier.predict(0)), 8)
        certain = _classifier(alpha=1.0)
        for row in range(400):
            certain.row(list(range(20 * (row % 3), 20 * (row % 3) + 20)), float(row % 3), row % 3, True)
        (best, probability), *others = certain.predict(0)
        self.assertEqual((best, others), (1.0, []))  # after the 0 of row 399
        self.assertGreater(probability, 0.9999)


class ModelTest(SynchronousTestCase):
    def test_a_model_predicts_the_next_values_of_what_it_has_learnt(self) -> None:
        params = replace(ModelParams.for_range(0.0, 100.0), classifier=ClassifierParams(alpha=0.1, steps=(1, 2)))
        model = Model(params)
        for row in range(600):
            model.learn(300 * row, 25.0 * (row % 4))
        predictions = model.predictions()  # the last value was 75
        assert predictions is not None
        for step, value in ((1, 0.0), (2, 25.0)):
            best, probability = predictions[step][0]
            self.assertApproximates(best, value, 1e-6)
            self.assertGreater(probability, 0.9)
            self.assertTrue(math.fsum(p for _, p in predictions[step]) <= 1.0 + 1e-9)
