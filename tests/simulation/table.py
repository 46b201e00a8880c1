"""The stub of the fleet's table: items, and the expressions that the real one would be asked to evaluate."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from runner.aws.table import Refused, When
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.protocol.table import Key
    from tests.simulation.world import World

Items = dict[tuple[str, str], dict[str, Any]]
_WORDS = ((" OR ", " or "), (" AND ", " and "), (" = ", " == "), (" <> ", " != "))


class Absent:
    """An attribute that is not there: no comparison with it holds."""

    def _no(self, _other: object) -> bool:
        return False

    __eq__ = __ne__ = __lt__ = __gt__ = _no  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class FakeTable:
    """Stands in for runner.aws.table.Table, for leases and directives. Answers late, fails, or loses its answer."""

    name = "fleet"

    def __init__(self, world: World) -> None:
        self._world = world

    async def _call(self, action: str) -> None:
        await asyncio.sleep(self._world.one_of((0.001, 0.01, 0.2)))
        if self._world.goes_wrong(0.05):
            raise AwsUnavailable(action, "ServiceUnavailable", "simulated")

    async def _answer(self, action: str) -> None:
        await asyncio.sleep(0.005)
        if self._world.goes_wrong(0.03):
            raise AwsUnavailable(action, "ConnectionReset", "the answer was lost")

    async def update(
        self, key: Key, change: str, values: Mapping[str, object], when: When | None = None
    ) -> dict[str, Any] | Refused:
        await self._call("UpdateItem")
        place = (key.pk, key.sk)
        there = self._world.table.get(place)
        if when is not None and not holds(when.text, there or {}, {**values, **when.values}):
            await self._answer("UpdateItem")
            return Refused(dict(there) if there else None)
        item = changed(change, dict(there or key.attributes()), values)
        if there and key.sk == "CLAIM" and _taken_from(there.get("holder"), item.get("holder")):
            self._world.lapsed.add(key.pk.partition("#RUN#")[2])
        self._world.table[place] = item
        self._world.note("table", key.sk, {name: item[name] for name in item if name not in ("pk", "sk")})
        await self._answer("UpdateItem")
        return dict(item)

    async def put_many(self, items: Sequence[Mapping[str, Any]]) -> None:
        await self._call("BatchWriteItem")
        for item in items:
            self._world.table[item["pk"], item["sk"]] = dict(item)
        await self._answer("BatchWriteItem")

    async def put(self, item: Mapping[str, Any]) -> None:
        await self.put_many([item])

    async def delete_many(self, places: Iterable[Key]) -> None:
        await self._call("BatchWriteItem")
        for key in places:
            self._world.table.pop((key.pk, key.sk), None)
        await self._answer("BatchWriteItem")

    async def query(self, _text: str, values: Mapping[str, object], *, consistent: bool = False) -> list[Any]:
        # Only the number of the newest directive is looked at without: what an old one hides the next look finds.
        assert consistent or "sk" in values
        await self._call("Query")
        found = sorted(self._world.table.items())
        return [dict(item) for (pk, sk), item in found if pk == values["pk"] and sk == values.get("sk", sk)]


def _taken_from(before: str | None, after: str | None) -> bool:
    return before is not None and after is not None and before != after


def holds(text: str, item: Mapping[str, Any], values: Mapping[str, object]) -> bool:
    """Whether a condition holds for an item."""
    for word, python in _WORDS:
        text = text.replace(word, python)
    text = re.sub(r"attribute_not_exists\(#(\w+)\)", r"('\1' not in item)", text)
    text = re.sub(r"#(\w+)", r"item.get('\1', absent)", text)
    text = re.sub(r":(\w+)", r"values['\1']", text)
    return bool(eval(text, {}, {"item": item, "values": values, "absent": Absent()}))  # noqa: S307 - our own conditions


def changed(change: str, item: dict[str, Any], values: Mapping[str, object]) -> dict[str, Any]:
    """The item after `SET … REMOVE …`."""
    sets, _, removes = change.partition("REMOVE ")
    for name, first, more in re.findall(r"#(\w+) = (if_not_exists\(#\w+, :\w+\)|:\w+)(?: \+ :(\w+))?", sets):
        if first.startswith(":"):
            value = values[first[1:]]
        else:
            value = item.get(name, values[first.rpartition(":")[2].rstrip(")")])
        item[name] = value + values[more] if more else value  # type: ignore[operator]
    for name in re.findall(r"#(\w+)", removes):
        item.pop(name, None)
    return item
