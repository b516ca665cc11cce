# SPDX-License-Identifier: MIT
"""One text a metric: sorted tags, right dots, nothing lost; and short identities of long texts."""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from htmengine import labels
from htmengine.errors import InvalidSample
from htmengine.messages.samples import parse_sample

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
TEXTS_WITH_PERCENT_SIGNS = st.text(st.sampled_from('%;= ~!^.25aAbF"\\é\u3000\n'), min_size=1, max_size=12)
ANY_TEXTS = TEXTS | TEXTS_WITH_PERCENT_SIGNS


def named(name: str) -> bool:
    return bool(name.replace(".", ""))


class NormalizeTest(TestCase):
    def reason(self, text: str) -> str:
        with self.assertRaises(InvalidSample) as caught:
            labels.normalize(text)
        return str(caught.exception.reason)

    def test_tags_are_sorted_so_that_their_order_makes_no_second_metric(self) -> None:
        self.assertEqual(labels.normalize("m;b=2;a=1"), labels.normalize("m;a=1;b=2"))
        self.assertEqual(labels.normalize("m;b=2;a=1"), "m;a=1;b=2")

    def test_leading_double_and_trailing_dots_make_no_second_metric(self) -> None:
        for text in (".s.host.n", "s..host.n", "s.host.n.", "...s....host.n..", "s.host.n"):
            self.assertEqual(labels.normalize(text), "s.host.n")

    def test_dots_in_tags_stay(self) -> None:
        self.assertEqual(labels.normalize("m.;path=..a."), "m;path=..a.")

    def test_a_name_of_dots_alone_is_refused(self) -> None:
        for text in ("...", ".", "", ";a=1", "..;a=1"):
            self.assertEqual(self.reason(text), "name_empty")

    def test_a_tag_must_be_as_graphite_wants_it(self) -> None:
        for text in ("m;", "m;a", "m;a=", "m;=1", "m;a=~1", "m;a!=1", "m;a^b=1", "m;a=1;"):
            self.assertEqual(self.reason(text), "tag_form")

    def test_a_tag_given_twice_has_its_last_value(self) -> None:
        self.assertEqual(labels.normalize("m;a=1;a=2"), "m;a=2")

    def test_a_value_may_have_an_equals_sign(self) -> None:
        self.assertEqual(labels.split(labels.normalize("m;q=a=b")), ("m", {"q": "a=b"}))

    def test_4_kb_are_accepted_and_no_more(self) -> None:
        self.assertEqual(len(labels.normalize("m;a=" + "x" * 4092)), 4096)
        self.assertEqual(self.reason("m;a=" + "x" * 4093), "name_too_long")
        self.assertEqual(self.reason("m;a=" + "ü" * 2047), "name_too_long")

    def test_spaces_and_control_characters_are_refused(self) -> None:
        for text in ("a b", "a\tb", "a\x00b", "a\u3000b", "a\ud800b"):
            self.assertEqual(self.reason(text), "name_characters")

    @given(st.text(max_size=40))
    def test_what_is_normal_stays_as_it_is(self, text: str) -> None:
        try:
            once = labels.normalize(text)
        except InvalidSample:
            return
        self.assertEqual(labels.normalize(once), once)


class ComposeTest(TestCase):
    @given(name=ANY_TEXTS.filter(named), tags=st.dictionaries(ANY_TEXTS, ANY_TEXTS, max_size=5))
    def test_what_was_composed_is_split_again_but_for_the_dots_of_the_name(
        self, name: str, tags: dict[str, str]
    ) -> None:
        found_name, found_tags = labels.split(labels.compose(name, tags))
        self.assertEqual(found_tags, tags)
        self.assertEqual(found_name.replace(".", ""), name.replace(".", ""))

    @given(name=ANY_TEXTS.filter(named), tags=st.dictionaries(ANY_TEXTS, ANY_TEXTS, max_size=5))
    def test_what_was_composed_is_the_text_that_a_graphite_line_gives(self, name: str, tags: dict[str, str]) -> None:
        text = labels.compose(name, tags)
        self.assertEqual(labels.normalize(text), text)
        self.assertEqual(len(f"{text} 1 60".split()), 3)

    @given(
        first=st.dictionaries(ANY_TEXTS, ANY_TEXTS, max_size=3),
        second=st.dictionaries(ANY_TEXTS, ANY_TEXTS, max_size=3),
    )
    def test_different_labels_have_different_texts(self, first: dict[str, str], second: dict[str, str]) -> None:
        self.assertEqual(labels.compose("m", first) == labels.compose("m", second), first == second)

    def test_percent_signs_of_a_graphite_sender_stay(self) -> None:
        """Two metrics that were split alike were one series of a scrape, and one of their values was lost."""
        for text in ("h%41", "GET_%2Fusers", "a%20b%41", "%FF", "100%", "m;path=%2Fa", "m;path=a~%7e"):
            name, tags = labels.split(text)
            self.assertEqual(";".join((name, *(f"{key}={value}" for key, value in tags.items()))), text)

    def test_what_the_form_cannot_carry_is_escaped(self) -> None:
        self.assertEqual(
            labels.compose("a b", {"k=!": "~x;y\n", "p": "100% of %20"}),
            "a%20b;k%3D%21=%7Ex%3By%0A;p=100%%20of%20%2520",
        )

    def test_a_label_without_a_value_is_none(self) -> None:
        self.assertEqual(labels.compose("m", {"a": "", "b": "1"}), "m;b=1")

    def test_a_label_without_a_name_and_a_metric_without_one_are_refused(self) -> None:
        for name, tags, reason in (("m", {"": "1"}, "tag_form"), ("", {}, "name_empty"), ("..", {}, "name_empty")):
            with self.assertRaises(InvalidSample) as caught:
                labels.compose(name, tags)
            self.assertEqual(caught.exception.reason, reason)

    def test_escaped_labels_count_with_their_escapes(self) -> None:
        with self.assertRaises(InvalidSample) as caught:
            labels.compose("m", {"a": ";" * 1400})
        self.assertEqual(caught.exception.reason, "name_too_long")


class IdentityTest(TestCase):
    def test_a_text_of_255_bytes_is_its_own_identity(self) -> None:
        for text in ("m;a=" + "x" * 251, "ü" * 127):
            self.assertEqual(labels.identity(text), text)
            self.assertFalse(labels.is_short(text))

    def test_a_longer_text_has_a_stable_identity_with_its_beginning(self) -> None:
        text = "http.requests;instance=" + "x" * 4000
        identity = labels.identity(text)
        self.assertEqual(identity, labels.identity(text))
        self.assertTrue(identity.startswith("http.requests;instance=xxx"))
        self.assertTrue(identity.endswith(";~oncko6qe4xgqobyn3n5fjtvrtlxi6t5f"), identity)
        self.assertTrue(labels.is_short(identity))

    def test_no_identity_of_a_long_text_is_the_text_of_another_metric(self) -> None:
        with self.assertRaises(InvalidSample):
            labels.normalize(labels.identity("m;a=" + "x" * 400))

    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=200, max_size=600))
    def test_an_identity_is_never_longer_than_255_bytes(self, text: str) -> None:
        self.assertLessEqual(len(labels.identity(text).encode()), 255)

    def test_texts_that_differ_in_their_end_alone_have_different_identities(self) -> None:
        found = {labels.identity(f"m;a={'x' * 300};b={number}") for number in range(10_000)}
        self.assertEqual(len(found), 10_000)

    def test_an_identity_may_be_the_name_of_a_sample(self) -> None:
        identity = labels.identity("m;a=" + "x" * 1000)
        self.assertEqual(parse_sample(f"{identity} 1 60", now=0).name, identity)
