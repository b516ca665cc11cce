# SPDX-License-Identifier: MIT
"""Bodies on the bus: read back as written, and refused with a clear error when they are something else."""

from __future__ import annotations

import contextlib
import json
import math
import zlib
from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from twisted.trial.unittest import SynchronousTestCase

from htmengine import message_schemas
from htmengine import messages as m
from htmengine.errors import InvalidMessage, InvalidSample
from htmengine.labels import identity
from htmengine.messages import bounds, broadcast
from htmengine.repository import schema
from tools import message_schemas as schema_files

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
IDS = st.from_regex(r"[0-9A-Za-z_.-]{1,40}", fullmatch=True)


class ParseSampleTest(SynchronousTestCase):
    def refused(self, line: str) -> str:
        with self.assertRaises(InvalidSample) as caught:
            m.parse_sample(line, now=100.0)
        return str(caught.exception.reason)

    def test_three_fields_separated_by_any_white_space_are_a_sample(self) -> None:
        self.assertEqual(m.parse_sample("a.b\t 1e3  60.9\r", now=0), m.Sample("a.b", 1000.0, 60))

    def test_a_metric_has_one_name_however_it_is_written(self) -> None:
        for name in ("disk.free;dc=a;host=h1", ".disk..free.;host=h1;dc=a"):
            self.assertEqual(m.parse_sample(f"{name} 1 60", now=0).name, "disk.free;dc=a;host=h1")
        self.assertEqual(self.refused("... 1 60"), "name_empty")
        self.assertEqual(self.refused("disk;host 1 60"), "tag_form")

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
            "n" * 4097 + " 1 60": "name_too_long",
            "n" * 5000 + f";~{'d' * 32} 1 60": "name_too_long",
            "a\x00b 1 60": "name_characters",
            "a 1 " + "6" * 20_000: "line_too_long",
        }
        self.assertEqual({line: self.refused(line) for line in cases}, cases)

    def test_a_name_of_255_characters_is_accepted(self) -> None:
        self.assertEqual(len(m.parse_sample("n" * 255 + " 1 60", now=0).name), 255)

    def test_a_longer_one_becomes_its_identity_with_the_text_beside_it(self) -> None:
        sample = m.parse_sample(f"m;b={'n' * 300};a=1 0.5 60", now=0)
        text = f"m;a=1;b={'n' * 300}"
        self.assertEqual((sample.name, sample.text), (identity(text), text))
        self.assertEqual(m.parse_sample(sample.line, now=0), sample)

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
        batch = m.SampleBatch(["a 1 2"], "id", {"field_count": 3}, 1.5, [("::1", 1)], [m.Reject("field_count", "a:b")])
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


@pytest.mark.long
class ModelMessagesTest(SynchronousTestCase):
    @given(uid=IDS, value=FLOATS, generation=st.integers(0, 2**31 - 1))
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
        results = [m.ModelResult("m", 1, rows), m.ModelResult("n", 1, (), at=7)]
        self.assertEqual([(each.follows, each.last_rowid) for each in results], [(0, 2), (7, 7)])
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


class RefusedTest(SynchronousTestCase):
    """What no database, model or file could hold is refused where it is decoded, with its place and the reason."""

    RESULT = '{"results":[{"modelId":"m","generation":1,"rows":[[1,60,0.5,0.5,null]]}]}'
    INPUT = '{"models":[{"modelId":"m","generation":1,"after":0,"rows":[[1,60,0.5],[2,120,0.5]]}]}'
    COMMAND = '{"command":{"method":"snapshotModel","modelId":"m","generation":1,"commandId":"c","args":{"version":1}}}'
    SAMPLES = '{"protocol":"plain","data":["a 1 60"],"batchId":"b","rejected":{"field_count":1}}'

    def check(self, decode: Callable[[bytes], Any], body: str, cases: dict[tuple[str, str], str]) -> None:
        decode(body.encode())
        for (old, new), error in cases.items():
            self.assertIn(old, body)
            with self.assertRaises(InvalidMessage, msg=new) as caught:
                decode(body.replace(old, new, 1).encode("utf-8", "surrogatepass"))
            self.assertIn(error, str(caught.exception), new)

    def test_results(self) -> None:
        cases = {
            ("[1,60", f"[{2**31},60"): "$.results[0].rows[0][0]: Expected `int` <= 2147483647",
            ("[1,60", f"[{2**70},60"): "$.results[0].rows[0][0]",
            ("[1,60", "[0,60"): "$.results[0].rows[0][0]",
            ("[1,60", "[1.0,60"): "$.results[0].rows[0][0]: Expected `int`, got `float`",
            ("[1,60", "[true,60"): "$.results[0].rows[0][0]: Expected `int`, got `bool`",
            (",60,", ",253402300800,"): "$.results[0].rows[0][1]",
            ("0.5,0.5", "1e400,0.5"): "$.results[0].rows[0][2]: Number out of range",
            ("0.5,0.5", "NaN,0.5"): "not JSON",
            ("0.5,0.5", "-Infinity,0.5"): "not JSON",
            ("0.5,0.5", "1" + "0" * 400 + ",0.5"): "$.results[0].rows[0][2]: Number out of range",
            ("0.5,0.5", "0.5,7"): "$.results[0].rows[0][3]: Expected `float` <= 1.0",
            ("0.5,0.5", "0.5,-0.1"): "$.results[0].rows[0][3]",
            ("null", '{"1":[[1e999,0.5]]}'): "$.results[0].rows[0][4]",
            ("null", '{"1":[[0.5]]}'): "$.results[0].rows[0][4]",
            ("null", "[" * 5000 + "]" * 5000): "$.results[0].rows[0][4]",
            ("[1,60,0.5,0.5,null]", "[2,60,0.5,0.5],[1,60,0.5,0.5]"): "$.results[0].rows: the rowids do not ascend",
            ('"generation":1', f'"generation":{2**70}'): "$.results[0].generation",
            ('"generation":1', '"generation":1,"generation":2'): "'generation' comes twice",
            ('"generation":1', '"generation":1,"gener\\u0061tion":2'): "'generation' comes twice",
            ('"generation":1,', ""): "$.results[0]: Object missing required field `generation`",
            ('"modelId":"m"', '"modelId":"../m"'): "$.results[0].modelId",
            ('"modelId":"m"', '"modelId":"m\\n"'): "$.results[0].modelId",
            ('"modelId":"m"', '"modelId":"\\u0000"'): "$.results[0].modelId",
            ('"modelId":"m"', '"modelId":"\\ud800"'): "not JSON",
            ('"modelId":"m"', '"modelId":"\ud800"'): "not JSON",
            ('"modelId":"m"', '"x":' + "[" * 5000 + "]" * 5000 + ',"modelId":"m"'): "nested too deep",
            ("]}", ']},"modelError":{"modelId":"m","generation":1,"message":""}'): "",
            ('{"results"', '{"other"'): "$: needs one of results, commandResult, modelSnapshot, modelError",
        }
        self.check(m.decode_result_message, self.RESULT, cases)

    def test_model_inputs(self) -> None:
        cases = {
            ("[2,120", "[3,120"): "$.models[0].rows: the rows after 0 do not follow each other",
            ('"after":0', '"after":5'): "$.models[0].rows",
            ('"after":0', f'"after":{2**63}'): "$.models[0].after",
            ("[2,120,0.5]", "[2,120]"): "$.models[0].rows[1]: Expected `array` of at least length 3",
            ("[2,120", "[2,-99999999999999"): "$.models[0].rows[1][1]",
        }
        self.check(m.decode_model_message, self.INPUT, cases)

    def test_commands(self) -> None:
        cases = {
            ("snapshotModel", "fly"): "$.command.method: Invalid enum value 'fly'",
            ('{"version":1}', '{"version":"1"}'): "$.command.args.version: Expected `int`, got `str`",
            ('{"version":1}', "{}"): "$.command.args: snapshotModel needs a version",
            ('{"version":1}', "[]"): "$.command.args: Expected `object`",
            ('{"version":1}', '{"version":1,"upTo":1e3}'): "Expected `int`, got `float`",
            ('{"version":1}', '{"version":1,"params":7}'): "Expected `object`, got `int`",
            ('{"version":1}', '{"version":1,"params":{"x":' + "[" * 40 + "]" * 40 + "}}"): "params: nested deeper",
        }
        self.check(m.decode_model_message, self.COMMAND, cases)

    def test_samples(self) -> None:
        cases = {
            ('"plain"', '"pickle"'): "$.protocol: Invalid enum value 'pickle'",
            ('"protocol":"plain",', ""): "missing required field `protocol`",
            ('["a 1 60"]', '{"a":1}'): "$.data: Expected `array`, got `object`",
            ('["a 1 60"]', '["a 1 60"],"data":[]'): "'data' comes twice",
            ('["a 1 60"]', '["\\udfff 1 60"]'): "not JSON",
            ('"b"', '"b "'): "$.batchId: 'b ' has a space at its end",
            ('"b"', '"' + "b" * 65 + '"'): "$.batchId: Expected `str` of length <= 64",
            ('"field_count"', '"field_count "'): "$.rejected: reason 'field_count '",
            ('"field_count":1', f'"field_count":{2**31}'): "$.rejected[...]",
        }
        self.check(m.decode_samples, self.SAMPLES, cases)

    def test_a_line_that_no_json_can_be_made_of_again_is_kept_as_it_came(self) -> None:
        deep = "[" * 900 + "]" * 900
        batch = m.decode_samples(f'{{"protocol":"plain","data":["a 1 60",{deep},1e999]}}'.encode())
        self.assertEqual(batch.lines, ["a 1 60", deep, "1e999"])

    def test_colons_in_names_are_no_properties(self) -> None:
        batch = m.SampleBatch(['a:b"c":d 1 60'], "id:1")
        self.assertEqual(m.decode_samples(m.encode_samples(batch)), batch)

    def test_inference_results(self) -> None:
        metric = m.MetricInfo("u", "a.b", None, None, None, "custom", {"x": "{}"})
        body = zlib.decompress(m.encode_inference(metric, [m.ScoredRow(1, 60, 0.5, 0.25, 0.75)])).decode()
        cases = {
            ('"a.b"', '""'): "$.metric.name",
            ('"a.b"', '"a\\u0000"'): "$.metric.name",
            ('"u"', '"' + "u" * 41 + '"'): "$.metric.uid",
            ("0.75", "1.5"): "$.results[0].anomaly: Expected `float` <= 1.0",
            ('"ts":60', '"ts":60,"ts":61'): "'ts' comes twice",
        }
        self.check(lambda text: m.decode_inference(zlib.compress(text)), body, cases)
        for broken in (zlib.compress(body.encode())[:-1], zlib.compress(body.encode()) + b"x"):
            with self.assertRaisesRegex(InvalidMessage, "zlib"):
                m.decode_inference(broken)

    def test_bounds_are_what_the_columns_hold(self) -> None:
        for table, column in (("metric_data", "rowid"), ("metric_score", "generation"), ("model_snapshot", "version")):
            self.assertEqual(str(schema.metadata.tables[table].c[column].type), "INTEGER")
        self.assertEqual(bounds.MAX_INTEGER, 2**31 - 1)

    def test_an_error_of_a_model_is_made_to_fit(self) -> None:
        error = m.ModelError("m", 1, "\0\ud800" + "x" * 100_000)
        self.assertEqual(len(m.decode_result_message(m.encode_model_error(error)).message), bounds.MAX_TEXT_LENGTH)


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

    def test_a_message_is_read_once_whatever_its_metrics_spec_has(self) -> None:
        metric = m.MetricInfo("u", "a.b", None, None, None, "custom", {"metricSpec": {"metric": "a.b"}, "tags": [{}]})
        body = m.encode_inference(metric, [m.ScoredRow(1, 60, 0.5, 0.25, 0.75)])
        self.patch(json, "loads", None)
        self.assertEqual(m.decode_inference(body)[2][0].anomaly, 0.75)

    def test_what_is_no_number_is_in_no_message(self) -> None:
        for value in (math.nan, math.inf):
            with self.assertRaises(ValueError):
                m.encode_inference(self.METRIC, [m.ScoredRow(1, 60, value, 0.25, 0.75)])
        huge = m.ScoredRow(1, 60, 1.7e308, 0.25, 0.75)
        self.assertEqual(m.decode_inference(m.encode_inference(self.METRIC, [huge]))[2], (huge,))

    def test_the_bytes_are_those_that_applications_have_always_seen(self) -> None:
        metric = m.MetricInfo("u", "größe", None, "web1", None, "custom", {"metricSpec": {"metric": "größe"}})
        rows = [
            m.ScoredRow(1, 60, 1e16, 0.0, 1e-05, None),
            m.ScoredRow(2, 120, -1.5e300, 0.025, 0.9999999999, {"1": [[5e-324, 0.5]]}),
        ]
        results = (
            '{"metric":{"uid":"u","name":"größe","description":null,"resource":"web1","location":null,'
            '"datasource":"custom","spec":{"metricSpec":{"metric":"größe"}}},"results":['
            '{"rowid":1,"ts":60,"value":1e+16,"rawAnomaly":0.0,"anomaly":1e-05,"multiStepBestPredictions":null},'
            '{"rowid":2,"ts":120,"value":-1.5e+300,"rawAnomaly":0.025,"anomaly":0.9999999999,'
            '"multiStepBestPredictions":{"1":[[5e-324,0.5]]}}]}'
        )
        self.assertEqual(m.encode_inference(metric, rows), zlib.compress(results.encode(), 1))
        outcome = (
            '{"method":"defineModel","modelId":"u","commandId":"c","status":0,"errorMessage":null,'
            '"modelInfo":{"metricName":"größe","resource":"web1","modelSpec":{"metricSpec":{"metric":"größe"}}}}'
        )
        command = m.CommandResult(m.DEFINE_MODEL, "u", 1, "c")
        self.assertEqual(m.encode_command_outcome(command, metric), zlib.compress(outcome.encode(), 1))
        samples = m.encode_samples(m.SampleBatch(['é \x01" 1 2'], "id", {"not_utf8": 1}, 1.5))
        self.assertEqual(
            samples.decode(),
            '{"protocol":"plain","data":["é \\u0001\\" 1 2"],'
            '"batchId":"id","rejected":{"not_utf8":1},"receivedAt":1.5}',
        )

    def test_what_inflates_without_end_is_refused(self) -> None:
        self.patch(broadcast, "MAX_INFLATED_BYTES", 1000)
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
            path = resources.files("htmengine.message_schemas") / f"{name}.json"
            self.assertEqual(path.read_text(), schema_files.text(name), "make pages")
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
