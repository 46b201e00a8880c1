"""What a sender writes costs bounded work and memory, in sum and not only item by item, and none before permission."""

from __future__ import annotations

import base64
import difflib
import gc
import json
import re
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.agent.output.success_rules import Watch
from runner.agent.runs.output import Rules
from runner.protocol import jsontext, patterns
from runner.protocol.invalid import MOST_TOLD
from runner.protocol.job import Defaults
from runner.protocol.message import InvalidMessage, parse_declaration, parse_message, read_job, rejected_body

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
# 56 characters, and 430,000 instructions.
LARGE = r"[\p{L}\p{N}\p{P}]{1,300}0"
SUCCESS: dict[str, dict[str, list[str]]] = {
    "many large ones": {"fail_on": [LARGE] * 30, "require": [LARGE] * 30},
    "one large one": {"require": [LARGE]},
    "many that are large together": {"fail_on": [rf"\pL{{3}}{n}" for n in range(40)]},
    "many in two lists": {"fail_on": ["a"] * 33, "require": ["b"] * 32},
    "long together": {"fail_on": ["x" * 300] * 30, "require": ["y" * 300] * 30},
    "long in bytes": {"fail_on": ["é" * 300] * 30},
    "classes that are built for each place": {"fail_on": [r"\pL" * 5000]},
    "classes of other names": {"fail_on": [r"[\P{Greek}\PN]" * 200]},
    "repetitions that are written out": {"fail_on": ["a{1000}" * 2000]},
    "repetitions of repetitions": {"fail_on": ["(((a{9}){9}){9})" * 900]},
}


def said(**fields: Any) -> str:
    return json.dumps({"job": "x", "command": "a", **fields})


def refused(body: str, defaults: Defaults | None = None, **declared: dict[str, object]) -> InvalidMessage:
    declarations = {name: parse_declaration(name, table) for name, table in declared.items()}
    with pytest.raises(InvalidMessage) as caught:
        read_job(body, message_id="m-1", defaults=defaults or Defaults(), declarations=declarations)
    return caught.value


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many instructions re2 has made of each pattern since, those that it gave up included at their bound."""
    sizes: list[int] = []
    real = patterns._compiled  # noqa: SLF001 - what is counted is the work, not what comes of it

    def counted(pattern: str | bytes, most_bytes: int) -> Any:
        sizes.append(patterns.MOST_COMPILED)
        done = real(pattern, most_bytes)
        sizes[-1] = done.programsize
        return done

    patterns._size.cache_clear()  # noqa: SLF001 - as above
    monkeypatch.setattr(patterns, "_compiled", counted)
    return sizes


@pytest.mark.parametrize("success", SUCCESS.values(), ids=SUCCESS)
def test_patterns_have_a_bound_in_sum(success: dict[str, list[str]], compiled: list[int]) -> None:
    fault = refused(said(success=success))
    assert (fault.reason, fault.detail.partition("[")[0].partition(":")[0]) in {
        ("invalid", "success.fail_on"),
        ("invalid", "success.require"),
    }
    assert sum(compiled) <= 2 * patterns.MOST_COMPILED  # the last of them may go beyond


def test_patterns_within_the_bounds_are_taken() -> None:
    rules = {"fail_on": ["e" * 256] * 32, "require": [rf"(?i)\bword {n:03} [^a-z]{{1,5}}$" for n in range(32)]}
    job = read_job(said(success=rules), message_id="m-1", defaults=Defaults(), declarations={})
    assert list(job.success.fail_on) == rules["fail_on"]
    longest = {"fail_on": ["e" * (16 << 10)]}
    assert read_job(said(success=longest), message_id="m-1", defaults=Defaults(), declarations={}).success.fail_on


def test_nothing_compiled_is_kept_for_a_message_that_is_over() -> None:
    kind = type(patterns.to_match("a", ("a",)))

    def there() -> int:
        return sum(isinstance(thing, kind) for thing in gc.get_objects())

    before = there()
    for n in range(100):
        parse_message(said(success={"fail_on": [f"{n} [a-z]"]}))
    assert there() <= before


def test_a_run_of_an_older_version_has_its_larger_rules() -> None:
    watch = Watch(Rules(fail_on=(r"(?:\pL{20}){2}0",)))
    watch.feed(b"a" * 40 + b"0\n")
    assert watch.failed_on


@pytest.mark.parametrize(
    ("fields", "defaults", "declared", "named"),
    [
        ({}, Defaults(commands="declared"), {}, "job"),
        ({}, Defaults(), {"x": {"command": "a"}}, "command"),
        ({"command": None}, Defaults(), {"x": {"command": "a"}}, "command"),
        ({"user": "root"}, Defaults(), {}, "user"),
        ({"env": {"A": 1}}, Defaults(commands="declared"), {}, "job"),
        ({"timeout": "never"}, Defaults(commands="declared"), {}, "job"),
    ],
)
def test_what_a_message_may_not_say_is_not_looked_at(
    fields: dict[str, Any], defaults: Defaults, declared: dict[str, Any], named: str, compiled: list[int]
) -> None:
    fault = refused(said(**fields, success=SUCCESS["many large ones"]), defaults, **declared)
    assert (fault.reason, fault.detail.partition(":")[0]) == ("not_allowed", named)
    assert fault.job == "x"
    assert compiled == []


def test_env_and_args_of_a_declared_job_are_asked_for_before_they_are_read() -> None:
    body = json.dumps({"job": "x", "env": {"A": 1}})
    assert refused(body, x={"command": "a"}).reason == "not_allowed"
    assert refused(json.dumps({"job": "x", "args": "y"}), x={"command": "a"}).reason == "not_allowed"
    assert refused(body, x={"command": "a", "allow_env": ["A"]}).reason == "invalid"


def _nested_in_envelopes(times: int) -> str:
    body = said(stdin="x" * 900_000)
    for _ in range(times):
        body = json.dumps({"Type": "Notification", "Message": body})
    return body


BODIES = {
    "base64": base64.b64encode(b"{" + b'"a": "x"' * 96_000).decode(),
    "base64 of values": base64.b64encode(b"[" + b"[]," * 250_000 + b"[]]").decode(),
    "base64 of text": base64.b64encode(said(stdin="x" * 780_000).encode()).decode(),
    "base64 in lines": base64.encodebytes(b"{" + b"x" * 700_000).decode(),
    "records": json.dumps({"Records": [{"a": 1}] * 3_000}),
    "arrays": "[" + "[]," * 340_000 + "[]]",
    "objects": "[" + "{}," * 340_000 + "{}]",
    "numbers": "[" + "1," * 500_000 + "1]",
    "depth": "[" * MIB,
    "args": said(args=["1"] * 200_000),
    "env": said(env={f"A{n}": "" for n in range(80_000)}),
    "labels": said(labels={f"A{n}": "" for n in range(80_000)}),
    "fields": json.dumps({f"f{n}": 1 for n in range(80_000)}),
    "a string without an end": '"' + '\\"' * 500_000,
    "text": said(stdin="x" * (MIB - 100)),
    "text with commas": said(stdin="[{," * (MIB // 3 - 100)),
    "text with escapes": said(stdin="\n" * (MIB // 2 - 100)),
    "wide text": json.dumps(
        {"job": "x", "command": "a", "stdin": "x" * (MIB - 100) + "\U0001f600"}, ensure_ascii=False
    ),
    "envelopes": _nested_in_envelopes(4),
    "values in an envelope": json.dumps({"Type": "Notification", "Message": "[" + "[]," * 340_000 + "[]]"}),
    "env that is no JSON": "env" * 340_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_reading_a_body_takes_at_most_eight_mib(body: str) -> None:
    tracemalloc.start()
    try:
        try:
            job = read_job(body, message_id="m-1", defaults=Defaults(), declarations={})
            del job
        except InvalidMessage:
            rejected_body(body)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_text_that_looks_like_many_values_is_one() -> None:
    table = {"job": "x", "command": "a", "stdin": '1,2,[{\\"\n' * 40_000}
    assert parse_message(json.dumps(table)).stdin == table["stdin"]


MANY = {
    "unknown fields": {f"timeou{n}": 1 for n in range(9_000)},
    "unknown fields in a field": {"retries": {f"backof{n}": 1 for n in range(9_000)}},
    "fields that are near to all": {"".join(sorted("timeoutgracelabels"))[n:] + f"{n}": 1 for n in range(18)},
    "variables": {"env": {f"A{n}": 1 for n in range(9_000)}},
    "labels": {"labels": {f"A{n}": 1 for n in range(9_000)}},
    "arguments": {"command": [1] * 9_000},
    "resources": {"resources": {f"memor{n}": "1" for n in range(9_000)}},
    "all of them": {
        "env": {f"A{n}": 1 for n in range(2_000)},
        "labels": {f"A{n}": 1 for n in range(2_000)},
        "command": [1] * 2_000,
        "resources": {f"memor{n}": "1" for n in range(2_000)},
        "success": {"exit_codes": [999] * 500},
    },
}


@pytest.mark.parametrize("fields", MANY.values(), ids=MANY)
def test_the_faults_that_are_told_have_a_bound_in_sum(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = difflib.get_close_matches

    def counted(word: str, *args: Any, **named: Any) -> list[str]:
        asked.append(word)
        return real(word, *args, **named)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    for declared in (False, True):
        body = json.dumps({"job": "x", **fields}) if declared else said(**fields)
        fault = refused(body, **({"x": {"command": "a"}} if declared else {}))
        assert len(fault.faults) <= MOST_TOLD
        assert len(fault.detail) < 2000
        assert "other" in fault.detail or len(fault.faults) < MOST_TOLD
    assert len(asked) <= 2 * MOST_TOLD


class Counting:
    """A pattern that counts what is found."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern, self.steps = pattern, 0

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        for found in self._pattern.finditer(text):
            self.steps += 1
            yield found


@pytest.mark.parametrize(
    "text",
    [
        "]" * 900_000 + "[" * 101,
        '""' * 400_000 + "," * 10_001 + "[" * 101,
        '","' * 340_000,
        '["' + ',\\"' * 330_000 + '"]',
        '["' + '",",[{' * 150_000 + '"]',
        '["' + "\\" * 900_000 + "," * 10_001 + "[" * 101,
        "[1]" * 300_000,
        '{"a":"' + "[],{}" * 200_000 + '"}',
    ],
    ids=lambda text: text[:12],
)
def test_how_many_values_a_text_has_is_found_out_in_bounded_steps(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = [Counting(jsontext._VALUE), Counting(jsontext._LEVEL)]  # noqa: SLF001 - each match is a step of Python's
    monkeypatch.setattr(jsontext, "_VALUE", patterns[0])
    monkeypatch.setattr(jsontext, "_LEVEL", patterns[1])
    with suppress(InvalidMessage):
        jsontext.decode(text)
    assert sum(pattern.steps for pattern in patterns) <= 10 * jsontext.MOST_VALUES


@given(
    st.recursive(
        st.text(alphabet='a\\",[{]}\n', max_size=6) | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='a\\"{,', max_size=3), inner),
        max_leaves=20,
    )
)
def test_the_values_of_a_text_are_those_outside_of_its_strings(value: object) -> None:
    text = json.dumps(value)
    marks = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    values = sum(marks.count(mark) for mark in "[{,")
    assert jsontext.few_values(text, values)
    assert values == 0 or not jsontext.few_values(text, values - 1)
