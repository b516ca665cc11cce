# SPDX-License-Identifier: MIT
"""One text for a metric with labels: ``name;tag=value;tag2=value2``, Graphite's form with its tags sorted.

In: a name and labels of any protocol, or a Graphite sender's text.  Out: the text by which the engine knows the
metric, and for a long text a short identity.

What the form cannot carry is written as in a URL, as percent signs and the UTF-8 bytes in capital hexadecimal
digits: white space, what cannot be printed, and ``;``; in a tag's name also ``! ^ =``; ``~`` at a value's start, which
Graphite does not allow; a percent sign only where two hexadecimal digits follow.  So different labels never get
the same text, and `split` gives back what `compose` was given.  It leaves a Graphite sender's own percent signs: it
must not make one name of ``h%41`` and ``hA``.  A label without a value is none.

Dots in the name itself are put right as carbon-c-relay does: leading and trailing ones go, double ones become one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from urllib.parse import unquote

from htmengine.errors import InvalidSample

#: A metric's whole text, in UTF-8.
MAX_TEXT_BYTES = 4096
#: Tags that name a host, the best first.
HOST_TAGS = ("host", "instance", "server")
#: What names a metric in the database and in messages, in UTF-8.
MAX_IDENTITY_BYTES = 255
#: The same of Graphite lines, in characters.
MAX_NAME_LENGTH = 255

#: Names of samples that need not be put right again.
REMEMBERED_NAMES = 32_768

#: What an error shows of a text that came in.
SHOWN_CHARACTERS = 60

#: What comes before the digest of a long text; as a tag it has no "=", so no text has it.
DIGEST_MARK = ";~"
_DIGEST_BYTES = 20  # 32 letters; two of 2^64 texts would be likely to share one
_DIGEST_LETTERS = 32

_ESCAPED = re.compile(r"[; ]|%(?=[0-9A-Fa-f]{2})")
_ESCAPED_IN_TAG_NAMES = re.compile(r"[; !^=]|%(?=[0-9A-Fa-f]{2})")
_ANY_ESCAPED = re.compile(r"[; !^=~%]")
_DOTS = re.compile(r"\.{2,}")


def normalize(text: str) -> str:
    """The text of a metric that a Graphite sender named: dots put right, tags sorted, a repeated tag's last value kept.

    Raises `InvalidSample`.

    >>> normalize("disk..free;host=h1;dc=a")
    'disk.free;dc=a;host=h1'
    """
    if len(text) > MAX_TEXT_BYTES or not (text.isascii() or len(text.encode(errors="replace")) <= MAX_TEXT_BYTES):
        raise _too_long(text)
    if not text.isprintable() or " " in text:
        raise InvalidSample("name_characters", f"{shown(text)} has characters that cannot be printed, or spaces")
    if ";" not in text:
        return _with_dots_right(text)
    name, *tags = text.split(";")
    return ";".join((_with_dots_right(name), *(f"{k}={v}" for k, v in sorted(dict(map(_tag, tags)).items()))))


@lru_cache(maxsize=REMEMBERED_NAMES)
def sample_name(text: str) -> str:
    """The name of a sample's metric: as `normalize`, but an `identity` stays what it is.  Raises `InvalidSample`."""
    if is_short(text) and len(text) <= MAX_IDENTITY_BYTES and text.isprintable():
        return text
    return normalize(text)


def spellings(text: str) -> list[str]:
    """The names that a user may mean: the one that is stored, and the text itself, which an old metric may have.

    >>> spellings("disk;host=h1;dc=a"), spellings("a.b")
    (['disk;dc=a;host=h1', 'disk;host=h1;dc=a'], ['a.b'])
    """
    try:
        name = sample_name(text)
        return list(dict.fromkeys((stored_name(name), identity(name), text)))
    except InvalidSample:
        return [text]


def compose(name: str, labels: Mapping[str, str]) -> str:
    """The text of a metric with these labels.  Raises `InvalidSample`.

    >>> compose("http.requests", {"path": "/a b;c", "job": "api", "unused": ""})
    'http.requests;job=api;path=/a%20b%3Bc'
    """
    if "" in labels:
        raise InvalidSample("tag_form", f"{shown(name)} has a label without a name")
    tags = [(key, value) for key, value in labels.items() if value]
    if not _is_plain("".join((name, *labels, *labels.values()))):
        name = _escape_name(name)
        tags = [(_escape_key(key), _escape_value(value)) for key, value in tags]
    text = ";".join([_with_dots_right(name), *[f"{key}={value}" for key, value in sorted(tags)]])
    if len(text) > MAX_TEXT_BYTES or not (text.isascii() or len(text.encode()) <= MAX_TEXT_BYTES):
        raise _too_long(text)
    return text


def split(text: str) -> tuple[str, dict[str, str]]:
    """Name and labels of a metric's text.  Percent signs that `compose` would not have written are a Graphite sender's.

    >>> split("http.requests;job=api;path=/a%20b%3Bc")
    ('http.requests', {'job': 'api', 'path': '/a b;c'})
    >>> split("GET_%2Fusers;host=h%41")
    ('GET_%2Fusers', {'host': 'h%41'})
    """
    name, *tags = text.split(";")
    pairs = (tag.partition("=") for tag in tags)
    return _unescape(name, _escape_name), {
        _unescape(key, _escape_key): _unescape(value, _escape_value) for key, _, value in pairs
    }


def identity(text: str) -> str:
    """A text of at most 255 bytes by itself; a longer one by its beginning and a digest of all of it.

    >>> identity("cpu;host=a")
    'cpu;host=a'
    >>> len(identity("cpu;host=" + "a" * 1000))
    255
    """
    if len(text) <= MAX_IDENTITY_BYTES and (text.isascii() or len(text.encode()) <= MAX_IDENTITY_BYTES):
        return text
    encoded = text.encode()
    digest = base64.b32encode(hashlib.blake2b(encoded, digest_size=_DIGEST_BYTES).digest()).decode().lower()
    room = MAX_IDENTITY_BYTES - len(DIGEST_MARK) - _DIGEST_LETTERS
    return encoded[:room].decode(errors="ignore") + DIGEST_MARK + digest


def stored_name(text: str) -> str:
    """What a Graphite line's metric is stored under: a text of at most 255 characters by itself, or its identity.

    >>> len(stored_name("é" * 255)), len(stored_name("é" * 256))
    (255, 144)
    """
    return text if len(text) <= MAX_NAME_LENGTH else identity(text)


def is_short(identity: str) -> bool:
    """Whether this identity stands for a longer text."""
    return identity[-_DIGEST_LETTERS - len(DIGEST_MARK) : -_DIGEST_LETTERS] == DIGEST_MARK


def shown(text: str) -> str:
    """What an error shows of a text that came in: short, printable.

    >>> shown("a" * 100)[-3:]
    "a…'"
    """
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")


def _tag(tag: str) -> tuple[str, str]:
    """A Graphite sender's tag, by Graphite's rules."""
    key, _, value = tag.partition("=")
    if not key or not value or value[0] == "~" or "!" in key or "^" in key:
        raise InvalidSample(
            "tag_form",
            f"tag {shown(tag)}; write name=value, with no ! or ^ in the name and no ~ at the value's start",
        )
    return key, value


def _with_dots_right(name: str) -> str:
    if ".." in name or name[:1] == "." or name[-1:] == ".":
        name = _DOTS.sub(".", name).strip(".")
    if not name:
        raise InvalidSample("name_empty", "the metric has no name, or a name of dots alone")
    return name


def _is_plain(text: str) -> bool:
    """Whether nothing in it needs to be escaped, wherever it stands."""
    return text.isprintable() and not _ANY_ESCAPED.search(text)


def _escape_name(name: str) -> str:
    return _escape(name, _ESCAPED)


def _escape_key(key: str) -> str:
    return _escape(key, _ESCAPED_IN_TAG_NAMES)


def _escape_value(value: str) -> str:
    return "%7E" + _escape(value[1:], _ESCAPED) if value[:1] == "~" else _escape(value, _ESCAPED)


def _unescape(part: str, escape: Callable[[str], str]) -> str:
    """What was escaped; the part itself if that would be written in another way."""
    if "%" not in part:
        return part
    found = unquote(part)
    return found if escape(found) == part else part


def _escape(text: str, special: re.Pattern[str]) -> str:
    text = special.sub(_percent, text)
    return text if text.isprintable() else "".join(c if c.isprintable() else _percent(c) for c in text)


def _percent(found: re.Match[str] | str) -> str:
    character = found if isinstance(found, str) else found[0]
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="replace"))


def _too_long(text: str) -> InvalidSample:
    return InvalidSample("name_too_long", f"{shown(text)}; at most {MAX_TEXT_BYTES} bytes are allowed")
