"""Secrets fetched: together, each once, for five minutes, and whose fault it is where one cannot be had."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.agent import secret_store
from runner.agent.secret_store import NoSecret, SecretStore
from runner.errors import AwsUnavailable
from runner.protocol.secret_reference import Reference, allowed, parse
from runner.supervisor.masking import Masking, Masks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from runner.aws.session import Session

ARN = "arn:aws:ssm:eu-west-1:123456789012:parameter/a/b"
DENIED = AwsUnavailable("GetParameters", "AccessDenied", "not authorized to perform: ssm:GetParameters", "denied")


class Stores:
    """Stands in the place of both, behind `runner.aws.secrets`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
        self.values = values
        self.calls: list[tuple[str, ...]] = []
        self.failing: Callable[[Sequence[str]], AwsUnavailable | None] = lambda _: None
        self.now = 0.0
        monkeypatch.setattr(secret_store.stores, "parameters", self.parameters)
        monkeypatch.setattr(secret_store.stores, "secret", self.secret)
        monkeypatch.setattr(secret_store, "keep_from_dumps", lambda: True)

    async def parameters(self, _: object, names: Sequence[str]) -> Mapping[str, str]:
        self.calls.append(tuple(names))
        await asyncio.sleep(0)
        if (error := self.failing(names)) is not None:
            raise error
        return {name: self.values[name] for name in names if name in self.values}

    async def secret(self, _: object, name: str) -> str | None:
        self.calls.append((name,))
        await asyncio.sleep(0)
        return self.values.get(name)

    def store(self) -> SecretStore:
        return SecretStore(cast("Session", None), lambda: self.now)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_ten_parameters_a_call_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores(monkeypatch, **{f"p{n}": f"value-{n}" for n in range(25)})

    async def all_of_them() -> None:
        store = stores.store()
        wanted = [f"ssm:p{n}" for n in range(25)]
        found = await asyncio.gather(store.values(wanted), store.values(wanted[5:7]), store.values(wanted))
        assert found[0] == {f"ssm:p{n}": f"value-{n}" for n in range(25)} == found[2]
        assert found[1] == {"ssm:p5": "value-5", "ssm:p6": "value-6"}

    run(all_of_them())
    assert [len(call) for call in stores.calls] == [10, 10, 5]


def test_kept_for_five_minutes_and_not_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores(monkeypatch, p="a-first-value")

    async def twice() -> None:
        store = stores.store()
        assert await store.values(["ssm:p"]) == {"ssm:p": "a-first-value"}
        stores.values["p"] = "another-value"
        stores.now = 299.0
        assert await store.values(["ssm:p"]) == {"ssm:p": "a-first-value"}
        stores.now = 300.0
        assert await store.values(["ssm:p"]) == {"ssm:p": "another-value"}

    run(twice())
    assert len(stores.calls) == 2


def test_what_is_old_is_dropped_without_being_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_store, "KEPT_S", 0.05)
    Stores(monkeypatch, p="dropped-value")

    async def once() -> None:
        store = SecretStore(cast("Session", None))
        await store.values(["ssm:p"])
        kept = vars(store)["_kept"]
        assert kept
        while kept:
            await asyncio.sleep(0.01)

    run(once())


def test_one_that_may_not_be_read_is_nobody_elses_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores(monkeypatch, a="value-of-a", b="value-of-b")
    stores.failing = lambda names: DENIED if "b" in names else None

    async def both() -> None:
        store = stores.store()
        good, bad = await asyncio.gather(store.values(["ssm:a"]), store.values(["ssm:b"]), return_exceptions=True)
        assert good == {"ssm:a": "value-of-a"}
        assert isinstance(bad, NoSecret)
        assert (str(bad), bad.passing) == (
            "secret ssm:b: no permission (ssm:GetParameters): not authorized to perform: ssm:GetParameters", False,
        )  # fmt: skip

    run(both())
    assert stores.calls == [("a", "b"), ("a",), ("b",)]


@pytest.mark.parametrize(
    ("kind", "passing"),
    [("throttled", True), ("timeout", True), ("unreachable", True), ("server", True), ("refused", False)],
)
def test_what_may_pass_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, kind: str, passing: bool) -> None:
    stores = Stores(monkeypatch, a="value-of-a")
    stores.failing = lambda _: AwsUnavailable("GetParameters", "Code", "why", kind)

    async def once() -> None:
        store = stores.store()
        with pytest.raises(NoSecret, match="secret ssm:a: ") as refused:
            await store.values(["ssm:a"])
        assert refused.value.passing is passing
        stores.failing = lambda _: None
        assert await store.values(["ssm:a"]) == {"ssm:a": "value-of-a"}

    run(once())


def test_what_json_has_under_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.dumps({"text": "the value", "number": 543210, "none": None, "list": [1], "nul": "a\0b", "yes": True})
    stores = Stores(monkeypatch, api=whole, plain="no json at all", array="[1, 2]")
    wanted = {
        "api": whole,
        "api#text": "the value",
        "api#number": "543210",
        "api#yes": "true",
        "api#missing": NoSecret("secretsmanager:api#missing", 'its JSON has no key "missing"'),
        "api#none": NoSecret("secretsmanager:api#none", 'what its JSON has as "none" is no text'),
        "api#list": NoSecret("secretsmanager:api#list", 'what its JSON has as "list" is no text'),
        "api#nul": NoSecret("secretsmanager:api#nul", "it holds a NUL byte"),
        "plain#a": NoSecret("secretsmanager:plain#a", "it is no JSON object"),
        "array#a": NoSecret("secretsmanager:array#a", "it is no JSON object"),
        "binary": NoSecret("secretsmanager:binary", "it is binary"),
    }

    async def each() -> None:
        store = stores.store()
        for name, expected in wanted.items():
            reference = f"secretsmanager:{name}"
            if isinstance(expected, str):
                assert await store.values([reference]) == {reference: expected}
            else:
                with pytest.raises(NoSecret) as refused:
                    await store.values([reference])
                assert str(refused.value).startswith(str(expected))
                assert "the value" not in str(refused.value)

    run(each())
    assert stores.calls.count(("api",)) == 1, "one secret, however many of its keys are wanted"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssm:/prod/db", ("ssm", "/prod/db", None)),
        ("ssm:db:3", ("ssm", "db:3", None)),
        (f"ssm:{ARN}", ("ssm", ARN, None)),
        ("secretsmanager:prod/api#key", ("secretsmanager", "prod/api", "key")),
        ("secretsmanager:prod/api#a key # more", ("secretsmanager", "prod/api", "a key # more")),
        ("secretsmanager:prod/api", ("secretsmanager", "prod/api", None)),
    ],
)  # fmt: skip
def test_references(text: str, expected: tuple[str, str, str | None]) -> None:
    assert parse(text) == Reference(text, *expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "db",
        "vault:/a",
        "ssm:",
        "ssm:/a b",
        "ssm:/a#key",
        "secretsmanager:",
        "secretsmanager:a#",
        "ssm:" + "a" * 3000,
    ],
)
def test_no_references(text: str) -> None:
    with pytest.raises(ValueError, match=r"reference|key"):
        parse(text)


def test_globs_of_references() -> None:
    assert allowed("ssm:/web/a/b", ["ssm:/web/*"])
    assert allowed("secretsmanager:web/api#key", ["ssm:/x", "secretsmanager:web/*"])
    assert not allowed("ssm:/webb", ["ssm:/web/*", "secretsmanager:*"])
    assert not allowed("ssm:/a", [])


HIDDEN = ("secret-one", "secret-one-and-more", "aaaaaa", "first line\nsecond line", "ünïcödé")
PIECES = ("secret-one", "secret-one-and", "aaaa", "first line\n", "second line", "ün")


@given(
    st.lists(st.sampled_from(HIDDEN), min_size=1),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text("aefilnorst- \nüï", max_size=9))),
    st.data(),
)
def test_a_stream_is_masked_wherever_it_is_cut(secrets: list[str], pieces: list[str], data: st.DataObject) -> None:
    whole = "".join(pieces).encode()
    masking, out, at = Masking(secrets), b"", 0
    while at < len(whole):
        size = data.draw(st.integers(1, len(whole) - at))
        out += masking.feed(whole[at : at + size])
        at += size
        masking = Masking.restored(json.loads(json.dumps(masking.state())))  # as over self-replacement
    out += masking.rest()
    masks = Masks(secrets)
    assert out == masks.mask(whole)
    assert not masks.spans(out)


def test_a_long_row_of_a_value_that_overlaps_itself_is_not_held_for_ever() -> None:
    masking = Masking(["000000"])
    out = b"".join(masking.feed(b"0" * 65536) for _ in range(64))
    assert len(masking.state()["held"]) < 2 * (400 << 10)
    out += masking.feed(b"1") + masking.rest()
    assert b"0" not in out
    assert out.endswith(b"1")
