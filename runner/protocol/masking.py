"""What a rejected message's event shows of its body: its beginning as it was sent, without what may be a secret.

That is not decided by the right spelling, since what is wrong is what is rejected: every string below the top level is
masked, whatever its field is called, and at the top what stands behind the name of a secret.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from typing import Final

from runner.protocol.foreign import is_encoded
from runner.protocol.jsontext import utf8

SHOWN: Final = 1024  # bytes
MASK: Final = "***"
_FAR: Final = 16_384  # characters of a string with more in it, whose places are looked for; the rest is hidden
_DEEPEST: Final = 8  # JSON within strings of JSON, as envelopes have it
_ENVELOPES: Final = ("Message", "detail")  # fields that hold a message, whatever it is written in

# Where JSON cannot be parsed: everything after a key that may be env, escaped or quoted however often, also as a
# form, a command line or XML has it: env[A]=, env%5BA%5D=, env.A=, --env A=, <env>. The bounds keep the search linear.
_LETTERS: Final = r"(?:(?:e|\\{1,16}u00[46]5)(?:n|\\{1,16}u00[46]e)(?:v|\\{1,16}u00[57]6)|evn|nev)"
_ENV_KEY: Final = re.compile(
    rf"{_LETTERS}\w{{0,32}}(?:[\\\"'\s]{{0,64}}[:=\[({{<>.%]|\s{{1,64}}[\w.-]{{1,64}}\s{{0,16}}[:=])", re.IGNORECASE
)
# Names as people give them to secrets: PGPASSWORD, db_password, MYSQL_PWD, api-key, Token.
_WORDS: Final = (
    r"(?:passw(?:or)?d|passphrase|secret|token|credential|authorization|api-?key"
    r"|(?:^|[_.-])pwd(?![a-z])|[_.-]key(?![a-z]))"
)
_SECRET_NAME: Final = re.compile(_WORDS + r"|^key$", re.IGNORECASE)
_IN_TEXT: Final = _WORDS.replace("(?:^|[_.-])pwd", r"(?:\b|[_.-])pwd")
# NAME=value, NAME: value, --name value, and the password of a URL; a value may be quoted, also without an end.
_ASSIGNED: Final = re.compile(
    rf"(?:{_IN_TEXT}[\w.-]{{0,64}}[\"'\]]{{0,2}}\s{{0,16}}[=:]\s{{0,16}}(?:(?:bearer|basic)\s{{1,16}})?"
    rf"|(?<![\w-])--?[\w-]{{0,64}}{_IN_TEXT}[\w-]{{0,64}}\s{{1,16}}(?!-)|://[^/\s:@]{{0,256}}:(?=[^/\s@]{{1,256}}@))"
    r"""(?P<value>"[^"]*"?|'[^']*'?|[^\s"'&;,@}}]+)""",
    re.IGNORECASE,
)
# In what is no JSON: what stands behind a secret's name, and what looks like a level below the top.
_SECRET_KEY: Final = re.compile(
    rf"{_IN_TEXT}\w{{0,32}}(?:[\\\"'\]\s]{{0,64}}[:=>]|%5D|\s{{1,16}}(?=\S))", re.IGNORECASE
)
_BELOW: Final = re.compile(
    r"""\\["']\s{0,16}:"""  # JSON within JSON
    r"|:[ \t]{0,16}\r?\n(?:[ \t]{1,64}|-)"  # YAML
    r"|<[\w:-]{1,64}>\s{0,16}<[\w:-]{1,64}>\s{0,16}<[\w:-]{1,64}>"  # XML
    r"|\w(?:\[|%5B|\.)[\w.-]{0,64}(?:\]|%5D)?="  # a form
    r"|(?<![\w-])--?\w[\w-]{0,64}[ =][\w.-]{1,64}=",  # a command line
    re.IGNORECASE,
)
_OF_ENCODED: Final = 8  # characters of base64 that are shown: six bytes
_LEVEL: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{\]}]', re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
# The text of a JSON string: runs of characters, and escapes that stand for one character each.
_PIECE: Final = re.compile(r"[^\\]+|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.", re.DOTALL)

Span = tuple[int, int, str]
"""Where something begins and ends in a text, and what is shown instead."""


def rejected_body(body: str | bytes) -> tuple[str, str]:
    """The first 1 KiB of a body without what may be a secret, and the SHA-256 (hex) of the whole original.

    Also inside envelopes. All but the values is shown as it came; what is no JSON is cut off after the first
    key that looks like env or like a secret's, and where a second level begins.
    """
    digest = hashlib.sha256()
    for piece in (body,) if isinstance(body, bytes) else utf8(body):
        digest.update(piece)
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    beginning = _replaced(text, _spans(text, 0)).encode("utf-8", "replace")[:SHOWN].decode("utf-8", "ignore")
    return beginning, digest.hexdigest()


def _replaced(text: str, spans: list[Span]) -> str:
    """As much of it as may be shown."""
    parts: list[str] = []
    at = 0
    for start, end, instead in spans:
        parts += (text[at : min(start, at + SHOWN)], instead)
        at = end
    return "".join((*parts, text[at : at + SHOWN]))


def _spans(text: str, depth: int, *, top: bool = True) -> list[Span]:
    """What to replace in a text, in order, as far as it is shown."""
    if depth > _DEEPEST:
        return [(0, len(text), MASK)]
    scan = _Scan(text, depth)
    try:
        scan.whole(top=top)
    except _Enough:
        pass
    except (ValueError, RecursionError):
        return _cut(text)
    return scan.spans


def _cut(text: str) -> list[Span]:
    """Of a text that is no JSON, all behind the first sign of a secret."""
    # One that begins after what is shown hides nothing of it.
    beginning = text[: SHOWN * 4]
    ends = [found.end() for sign in (_ENV_KEY, _SECRET_KEY, _BELOW) if (found := sign.search(beginning))]
    if is_encoded(beginning):
        ends.append(_OF_ENCODED)
    depth = 0
    if beginning.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        for found in _LEVEL.finditer(beginning):
            depth += (found[0] in "[{") - (found[0] in "]}")
            if depth > 1:
                ends.append(found.end())
                break
    if not ends:
        return _assigned(text)
    return [*_assigned(text[: min(ends)]), (min(ends), len(text), f" {MASK}")]


def _assigned(text: str) -> list[Span]:
    """The values that stand behind the names of secrets in a text that is shown."""
    found = _ASSIGNED.finditer(text[: SHOWN * 4])
    return [(*match.span("value"), MASK) for match in found if match["value"] != MASK]


class _Enough(Exception):
    """The rest of the text is not shown."""


class _Scan:
    """Finds the values of env in a JSON text, at their places there. Raises ValueError where it is no JSON."""

    # Numbers stay text: Python refuses to make one of thousands of digits.
    _DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str)

    def __init__(self, text: str, depth: int) -> None:
        self.spans: list[Span] = []
        self._text = text
        self._depth = depth
        self._removed = 0

    def whole(self, *, top: bool) -> None:
        """`top`: it may be a message."""
        at = self._after_space(1 if self._text.startswith("\ufeff") else 0)
        end = self._value(at, top=top, may_be_message=top)
        if self._after_space(end) != len(self._text):
            raise ValueError("more than one value")

    def _value(self, at: int, *, top: bool, may_be_message: bool = False) -> int:
        """Where the value that begins at `at` ends; `top`: it is a message, or directly in one."""
        if at - self._removed > SHOWN:
            raise _Enough
        match self._text[at : at + 1]:
            case "{":
                return self._object(at, top=top)
            case "[":
                return self._array(at)
            case '"':
                return self._string(at, may_be_message) if top else self._hide(at)
        return self._DECODER.raw_decode(self._text, at)[1]

    def _object(self, at: int, *, top: bool = False, is_env: bool = False) -> int:
        at = self._after_space(at + 1)
        if self._text[at : at + 1] == "}":
            return at + 1
        while True:
            self._expect(at, '"')
            name, at = self._DECODER.raw_decode(self._text, at)
            at = self._after_space(at)
            at = self._after_space(self._expect(at, ":"))
            at = self._after_space(self._member(name, at, top=top, is_env=is_env))
            if self._expect(at, ",}") and self._text[at] == "}":
                return at + 1
            at = self._after_space(at + 1)

    def _member(self, name: str, at: int, *, top: bool, is_env: bool) -> int:
        first = self._text[at : at + 1]
        if is_env or _SECRET_NAME.search(name):
            return self._hide(at)
        if _may_be_env(name):
            return self._object(at, is_env=True) if first == "{" else self._hide(at)
        if name == "payload" and top and first == '"':
            return self._payload(at)
        # What is directly in a message is at the top, and so is the message in an envelope.
        envelope = name in _ENVELOPES
        return self._value(at, top=top and (first == '"' or envelope), may_be_message=envelope)

    def _array(self, at: int) -> int:
        at = self._after_space(at + 1)
        if self._text[at : at + 1] == "]":
            return at + 1
        while True:
            at = self._after_space(self._value(at, top=False))
            if self._expect(at, ",]") and self._text[at] == "]":
                return at + 1
            at = self._after_space(at + 1)

    def _string(self, at: int, may_be_message: bool) -> int:
        """A string may hold JSON itself, as an SNS notification's Message does."""
        value, end = self._DECODER.raw_decode(self._text, at)
        if may_be_message or value.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')):
            spans = _spans(value, self._depth + 1, top=may_be_message)
        else:
            spans = [(_OF_ENCODED, len(value), MASK)] if is_encoded(value[: SHOWN * 4]) else _assigned(value)
        places = self._places([place for span in spans for place in span[:2]], at + 1, end - 1)
        for (_, _, instead), start, stop in zip(spans, places[::2], places[1::2], strict=True):
            self._replace(start, stop, json.dumps(instead)[1:-1])
        return int(end)

    def _payload(self, at: int) -> int:
        """Of a signed message: what the base64 holds, masked as a message is."""
        value, end = self._DECODER.raw_decode(self._text, at)
        try:
            inner = binascii.a2b_base64(value).decode("utf-8")
        except ValueError:
            return self._hide(at)
        self._replace(at, end, json.dumps(_replaced(inner, _spans(inner, self._depth + 1))[:SHOWN]))
        return int(end)

    def _places(self, wanted: list[int], at: int, end: int) -> list[int]:
        """Where the characters with these indices of a string's value stand in the text between its quotes."""
        places: list[int] = []
        index = 0
        for piece in _PIECE.finditer(self._text, at, end):
            if len(places) == len(wanted) or index > _FAR:
                break
            size = 1 if piece[0][0] == "\\" else len(piece[0])
            while len(places) < len(wanted) and wanted[len(places)] < index + size:
                places.append(piece.start() + wanted[len(places)] - index)
            index += size
        return places + [end] * (len(wanted) - len(places))

    def _hide(self, at: int) -> int:
        if at - self._removed > SHOWN:
            raise _Enough
        end = self._DECODER.raw_decode(self._text, at)[1]
        self._replace(at, end, json.dumps(MASK))
        return end

    def _replace(self, start: int, end: int, instead: str) -> None:
        self.spans.append((start, end, instead))
        self._removed += end - start - len(instead)

    def _expect(self, at: int, characters: str) -> int:
        if self._text[at : at + 1] not in tuple(characters):
            raise ValueError("not JSON")
        return at + 1

    def _after_space(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        return space.end() if space else at


def _may_be_env(name: str) -> bool:
    """Also what was meant as env: a misspelt field is the commonest reason of a rejection."""
    folded = name.strip().casefold()
    return folded.startswith(("env", "evn", "nev"))
