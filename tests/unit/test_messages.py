# SPDX-License-Identifier: MIT
"""Bodies on the bus: read back as written, and refused with a clear error when they are something else."""

from __future__ import annotations

import contextlib
import json
import zlib

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from twisted.trial.unittest import SynchronousTestCase

from htmengine import message_schemas
from htmengine import messages as m
from htmengine.errors import InvalidMessage, InvalidSample

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


class ParseSampleTest(SynchronousTestCase):
    def refused(self, line: str) -> str:
        with self.assertRaises(InvalidSample) as caught:
            m.parse_sample(line, now=100.0)
        return str(caught.exception.reason)

    def test_three_fields_separated_by_any_white_space_are_a_sample(self) -> None:
        self.assertEqual(m.parse_sample("a.b\t 1e3  60.9\r", now=0), m.Sample("a.b", 1000.0, 60))

    def test_minus_one_means_now(self) -> None:
        self.assertEqual(m.parse_sample("a 1 -1", now=99.7).timestamp, 99)

    def test_usual_forms_of_numbers_are_read(self) -> None:
        for text, value in (("1", 1.0), ("-.5", -0.5), ("+1E-3", 0.001), ("7.", 7.0)):
            self.assertEqual(m.parse_sample(f"a {text} 60", now=0).value, value)

    def test_each_kind_of_bad_line_has_its_own_reason(self) -> None:
        cases = {
            "a 1": "field_count",
            "a 1 60 x": "field_count",
            "a one 60": "value_not_a_number",
            "a 1_000 60": "value_not_a_number",
            "a nan 60": "value_not_finite",
            "a -inf 60": "value_not_finite",
            "a 1e999 60": "value_not_finite",
            "a 1 noon": "timestamp_not_a_number",
            "a 1 nan": "timestamp_out_of_range",
            "a 1 inf": "timestamp_out_of_range",
            "a 1 -2": "timestamp_out_of_range",
            "a 1 1400000000000": "timestamp_out_of_range",
            "n" * 256 + " 1 60": "name_too_long",
            "a\x00b 1 60": "name_characters",
            "a 1 " + "6" * 20_000: "line_too_long",
        }
        self.assertEqual({line: self.refused(line) for line in cases}, cases)

    def test_a_name_of_255_characters_is_accepted(self) -> None:
        self.assertEqual(len(m.parse_sample("n" * 255 + " 1 60", now=0).name), 255)

    def test_an_error_shows_a_long_line_cut_short(self) -> None:
        with self.assertRaises(InvalidSample) as caught:
            m.parse_sample("x " * 4000, now=0)
        self.assertLess(len(str(caught.exception)), 200)

    @given(st.text(max_size=100))
    def test_any_text_is_a_sample_or_refused(self, text: str) -> None:
        with contextlib.suppress(InvalidSample):
            m.parse_sample(text, now=0)

    @given(value=FLOATS)
    def test_a_value_written_by_repr_is_read_to_the_last_bit(self, value: float) -> None:
        self.assertEqual(m.parse_sample(f"a {value!r} 60", now=0).value, value)


class SamplesTest(SynchronousTestCase):
    def test_a_message_of_another_program_is_read(self) -> None:
        batch = m.decode_samples(b'{"protocol": "plain", "data": ["a 1 2"]}')
        self.assertEqual(batch, m.SampleBatch(["a 1 2"]))

    def test_a_line_that_is_no_text_does_not_take_the_others_with_it(self) -> None:
        batch = m.decode_samples(b'{"protocol": "plain", "data": ["a 1 2", 7, {"x": 1}]}')
        self.assertEqual(batch.lines, ["a 1 2", "7", '{"x": 1}'])

    def test_id_and_rejects_survive(self) -> None:
        batch = m.SampleBatch(["a 1 2"], "id", {"field_count": 3})
        self.assertEqual(m.decode_samples(m.encode_samples(batch)), batch)

    def test_what_is_no_samples_message_is_refused(self) -> None:
        for body in (
            b"",
            b"[]",
            b"\xff",
            b"{}",
            b'{"protocol":"x","data":[]}',
            b'{"protocol":"plain"}',
            b"[" * 9999,
        ):
            with self.assertRaises(InvalidMessage):
                m.decode_samples(body)


class ModelMessagesTest(SynchronousTestCase):
    @given(uid=IDS, value=FLOATS, generation=st.integers(1, 2**31))
    def test_inputs_are_read_back(self, uid: str, value: float, generation: int) -> None:
        inputs = [m.ModelInput(uid, generation, 4, (m.InputRow(5, 60, value), m.InputRow(6, 120, -value)))]
        self.assertEqual(m.decode_model_message(m.encode_model_inputs(inputs)), inputs)

    def test_commands_are_read_back(self) -> None:
        command = m.ModelCommand(m.DEFINE_MODEL, "m", 2, "c", {"params": {}})
        self.assertEqual(m.decode_model_message(m.encode_model_command(command)), command)

    def test_an_unknown_command_is_refused_by_name(self) -> None:
        body = b'{"command": {"method": "fly", "modelId": "m", "generation": 1, "commandId": "c"}}'
        with self.assertRaisesRegex(InvalidMessage, "fly"):
            m.decode_model_message(body)

    @given(raw=st.floats(0, 1), value=FLOATS)
    def test_results_are_read_back(self, raw: float, value: float) -> None:
        rows = (m.ResultRow(1, 60, value, raw), m.ResultRow(2, 120, value, raw, {"1": [[1.5, 0.25]]}))
        results = [m.ModelResult("m", 1, rows)]
        self.assertEqual(m.decode_result_message(m.encode_results(results)), results)

    def test_notices_are_read_back(self) -> None:
        result = m.CommandResult(m.DELETE_MODEL, "m", 1, "c", 1, "no")
        error = m.ModelError("m", 1, "bad")
        self.assertEqual(m.decode_result_message(m.encode_command_result(result)), result)
        self.assertEqual(m.decode_result_message(m.encode_model_error(error)), error)

    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["models", "results", "command", "commandResult", "modelError", "rows", "modelId"]),
                    inner,
                )
            ),
        )
    )
    def test_any_json_is_a_message_or_refused(self, value: object) -> None:
        body = json.dumps(value).encode()
        for decode in (m.decode_samples, m.decode_model_message, m.decode_result_message):
            with contextlib.suppress(InvalidMessage):
                decode(body)


class BroadcastTest(SynchronousTestCase):
    METRIC = m.MetricInfo("u", "a.b", None, None, None, "custom", {"datasource": "custom"})

    def test_an_inference_message_is_zlib_compressed_json_with_the_documented_keys(self) -> None:
        body = m.encode_inference(self.METRIC, [m.ScoredRow(1, 60, 0.5, 0.25, 0.75)])
        message = json.loads(zlib.decompress(body))
        self.assertEqual(
            set(message["metric"]), {"uid", "name", "description", "resource", "location", "datasource", "spec"}
        )
        self.assertEqual(
            message["results"],
            [
                {
                    "rowid": 1,
                    "ts": 60,
                    "value": 0.5,
                    "rawAnomaly": 0.25,
                    "anomaly": 0.75,
                    "multiStepBestPredictions": None,
                }
            ],
        )
        self.assertEqual(m.decode_broadcast(body), message)

    def test_what_inflates_without_end_is_refused(self) -> None:
        self.patch(m, "MAX_INFLATED_BYTES", 1000)
        with self.assertRaisesRegex(InvalidMessage, "more than 1000"):
            m.decode_broadcast(zlib.compress(b" " * 10_000))

    def test_what_is_not_compressed_is_refused(self) -> None:
        with self.assertRaisesRegex(InvalidMessage, "zlib"):
            m.decode_broadcast(b"{}")


class SchemasTest(SynchronousTestCase):
    """Every message that is sent is valid against the published JSON Schema, and the schemas do refuse."""

    METRIC = m.MetricInfo("u1", "cpu", None, None, None, "custom", {"metricSpec": {"metric": "cpu"}})

    def test_schemas_are_schemas(self) -> None:
        for name in message_schemas.NAMES:
            Draft202012Validator.check_schema(message_schemas.schema(name))

    def test_samples(self) -> None:
        for batch in (m.SampleBatch([]), m.SampleBatch(["a 1 2"], "id", {"not_utf8": 1})):
            message_schemas.validate("samples", json.loads(m.encode_samples(batch)))

    def test_inference_results(self) -> None:
        rows = [m.ScoredRow(1, 60, 0.5, 0.25, 0.75), m.ScoredRow(2, 120, 1e300, 1.0, 0.0, {"1": [[0.5, 1.0]]})]
        message = m.decode_broadcast(m.encode_inference(self.METRIC, rows))
        message_schemas.validate("model_inference_results", message)
        message["results"][0]["anomaly"] = 2
        with self.assertRaises(ValidationError):
            message_schemas.validate("model_inference_results", message)

    def test_command_results(self) -> None:
        for method in m.COMMANDS:
            for status, text in ((0, None), (1, "no such model")):
                outcome = m.CommandResult(method, "u1", 1, "c1", status, text)
                message = m.decode_broadcast(m.encode_command_outcome(outcome, self.METRIC))
                message_schemas.validate("model_command_result", message)
        del message["modelInfo"]
        with self.assertRaises(ValidationError):
            message_schemas.validate("model_command_result", message)

    def test_samples_whose_batch_could_not_be_stored_are_refused(self) -> None:
        for batch_id in ("a\0b", "\ud800", "x" * 65):
            with self.assertRaises(InvalidMessage):
                m.decode_samples(json.dumps({"protocol": "plain", "data": [], "batchId": batch_id}).encode())
        for rejected in ({"x" * 41: 1}, {"a": -1}, {"a": True}, {"a\0": 1}, {"a": 2**63}):
            with self.assertRaises(InvalidMessage):
                m.decode_samples(json.dumps({"protocol": "plain", "data": [], "rejected": rejected}).encode())
