"""What a rejected message's event shows of its body: its beginning, without the values of `env`."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

SHOWN: Final = 1024  # bytes
MASK: Final = "***"
_DEEPEST: Final = 8  # JSON within strings of JSON, as envelopes have it

# Where JSON cannot be parsed: everything after a key that may be env, escaped or quoted however often.
# The bounds keep the search linear.
_LETTERS: Final = r"(?:e|\\{1,16}u00[46]5)(?:n|\\{1,16}u00[46]e)(?:v|\\{1,16}u00[57]6)"
_ENV_KEY: Final = re.compile(rf"{_LETTERS}\w{{0,32}}[\\\"'\s]{{0,64}}[:=]", re.IGNORECASE)


def rejected_body(body: str | bytes) -> tuple[str, str]:
    """The first 1 KiB of a body with every env value masked, and the SHA-256 (hex) of the whole original.

    Also inside envelopes. A body in which nothing is masked is shown as it came; what is no JSON is cut
    off after the first key that looks like env.
    """
    raw = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    text = raw.decode("utf-8", "replace")
    beginning = _masked(text).encode("utf-8", "replace")[:SHOWN].decode("utf-8", "ignore")
    return beginning, hashlib.sha256(raw).hexdigest()


def _masked(text: str, depth: int = 0) -> str:
    reader = _Reader()
    try:
        value = _in_strings(reader.decoder.decode(text.removeprefix("\ufeff")), reader, depth)
    except (ValueError, RecursionError):
        return _cut_off(text)
    if not reader.changed:
        return text
    return json.dumps(value, ensure_ascii=False)


def _cut_off(text: str) -> str:
    # A key that begins after what is shown hides nothing of it.
    beginning = text[: SHOWN * 4]
    found = _ENV_KEY.search(beginning)
    return f"{beginning[: found.end()]} {MASK}" if found else beginning


class _Reader:
    """A JSON decoder that masks env where it meets it, and remembers whether it changed anything."""

    def __init__(self) -> None:
        self.changed = False
        self.decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        table: dict[str, object] = {}
        for name, value in pairs:
            # A key given twice would still be in the original text, so that is not shown either.
            self.changed = self.changed or name in table
            table[name] = self._mask(value) if _may_be_env(name) else value
        return table

    def _mask(self, value: object) -> object:
        self.changed = True
        return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK


def _may_be_env(name: str) -> bool:
    """Also what was meant as env: a misspelt field is the commonest reason of a rejection."""
    folded = name.strip().casefold()
    return folded.startswith(("env", "evn", "nev"))


def _in_strings(value: object, reader: _Reader, depth: int) -> object:
    """`value` with the strings masked that hold JSON themselves, as an SNS notification's Message does."""
    if isinstance(value, dict):
        return {name: _in_strings(entry, reader, depth) for name, entry in value.items()}
    if isinstance(value, list):
        return [_in_strings(entry, reader, depth) for entry in value]
    if not isinstance(value, str) or not value.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')):
        return value
    masked = MASK if depth >= _DEEPEST else _masked(value, depth + 1)
    reader.changed = reader.changed or masked != value
    return masked
