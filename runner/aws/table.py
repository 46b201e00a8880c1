"""The fleet's DynamoDB table: the only place with its client. What lies in it is `runner.protocol.table`'s to say.

Every method raises `AwsUnavailable` where the call failed; none waits or retries but for the entries of a batch
that DynamoDB left over, a few times. A condition that does not hold is an answer and no failure.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from runner.aws.attributes import Item, expression, plain_item, wire_item
from runner.aws.direct import Direct
from runner.errors import AwsUnavailable
from runner.protocol.table import Key, definition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runner.aws.calls import Purpose
    from runner.aws.session import Session

T = TypeVar("T")

GET_AT_ONCE: Final = 100
WRITE_AT_ONCE: Final = 25
TRANSACT_AT_ONCE: Final = 100
_LOOKED_THROUGH: Final = 250  # items of a page of which some are kept: about 300 KB of runs
_ROUNDS: Final = 8  # for what a batch left over: about four seconds in all
_ROUND_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class When:
    """A condition: an expression with `#attribute` and `:value`, and the values by name."""

    text: str
    values: Mapping[str, object] = field(default_factory=dict)


ABSENT: Final = When("attribute_not_exists(#pk)")
PRESENT: Final = When("attribute_exists(#pk)")


@dataclass(frozen=True, slots=True)
class Refused:
    """The condition did not hold; ``item`` is what is there instead, None where there is nothing."""

    item: Item | None


@dataclass(frozen=True, slots=True)
class Put:
    """One item of a transaction."""

    item: Item
    when: When | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """One item that a transaction deletes; what is not there is well."""

    key: Key
    when: When | None = None


class Table:
    """One table by its name."""

    def __init__(self, session: Session, name: str, *, purpose: Purpose = "table") -> None:
        self.name = name
        self._session = session
        self._purpose: Purpose = purpose

    async def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        request = {"TableName": self.name, "Key": wire_item(key.attributes()), "ConsistentRead": consistent}
        return await self._call("GetItem", lambda client: client.get_item(**request), _item)

    async def get_many(self, keys: Iterable[Key], *, consistent: bool = False) -> dict[Key, Item]:
        """The items that exist, of any number of keys; eventually consistent reads are half the price."""
        wanted = [wire_item(key.attributes()) for key in dict.fromkeys(keys)]
        found: dict[Key, Item] = {}
        for start in range(0, len(wanted), GET_AT_ONCE):
            for item in await self._get_batch(wanted[start : start + GET_AT_ONCE], consistent=consistent):
                found[Key(item["pk"], item["sk"])] = item
        return found

    async def put(self, item: Mapping[str, object], when: When | None = None) -> Refused | None:
        """Write a whole item; None when it is written."""
        request: dict[str, Any] = {"TableName": self.name, "Item": wire_item(item)}
        _add_condition(request, when)
        return await self._conditional("PutItem", lambda client: client.put_item(**request), lambda _: None)

    async def update(
        self, key: Key, change: str, values: Mapping[str, object], when: When | None = None
    ) -> Item | Refused:
        """Change attributes (``SET #a = :a REMOVE #b``); the item as it is then."""
        request: dict[str, Any] = {
            "TableName": self.name,
            "Key": wire_item(key.attributes()),
            "ReturnValues": "ALL_NEW",
        }
        request["UpdateExpression"] = expression(change, values, into=request)
        _add_condition(request, when)
        return await self._conditional(
            "UpdateItem", lambda client: client.update_item(**request), lambda answer: plain_item(answer["Attributes"])
        )

    async def delete(self, key: Key, when: When | None = None) -> Refused | None:
        request: dict[str, Any] = {"TableName": self.name, "Key": wire_item(key.attributes())}
        _add_condition(request, when)
        return await self._conditional("DeleteItem", lambda client: client.delete_item(**request), lambda _: None)

    async def put_many(self, items: Sequence[Mapping[str, object]]) -> None:
        """Write any number of items without conditions, 25 to a call."""
        await self._write_many([{"PutRequest": {"Item": wire_item(item)}} for item in items])

    async def delete_many(self, keys: Iterable[Key]) -> None:
        """Delete any number of items, 25 to a call; what is not there is well. Allowed by BatchWriteItem."""
        await self._write_many([{"DeleteRequest": {"Key": wire_item(key.attributes())}} for key in dict.fromkeys(keys)])

    async def _write_many(self, entries: Sequence[dict[str, Any]]) -> None:
        for start in range(0, len(entries), WRITE_AT_ONCE):
            left = list(entries[start : start + WRITE_AT_ONCE])
            for turn in range(_ROUNDS):
                left = await self._call("BatchWriteItem", _batch_write(self.name, left), self._unprocessed)
                if not left:
                    break
                await _a_moment(turn)
            else:
                raise _left_over("BatchWriteItem", len(left))

    async def transact(self, writes: Sequence[Put | Delete]) -> bool:
        """Write up to 100 items, all or none; False where a condition did not hold or another write was under way."""
        entries = []
        for write in writes:
            entry: dict[str, Any] = {"TableName": self.name}
            if isinstance(write, Put):
                entry["Item"] = wire_item(write.item)
            else:
                entry["Key"] = wire_item(write.key.attributes())
            if write.when is not None:
                entry["ConditionExpression"] = expression(write.when.text, write.when.values, into=entry)
            entries.append({type(write).__name__: entry})
        refused = await self._conditional(
            "TransactWriteItems", lambda client: client.transact_write_items(TransactItems=entries), lambda _: None
        )
        return refused is None

    async def query(
        self,
        text: str,
        values: Mapping[str, object],
        *,
        index: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        consistent: bool = False,
        keep: Callable[[Item], bool] | None = None,
    ) -> list[Item]:
        """All items of a key condition, or the first ``limit``; a page of 1 MB to a call.

        With ``keep`` those that it is true of, and the limit counts these alone, however many others lie between.
        """
        request: dict[str, Any] = {"TableName": self.name, "ScanIndexForward": not newest_first}
        request["KeyConditionExpression"] = expression(text, values, into=request)
        if index is not None:
            request["IndexName"] = index
        if consistent:
            request["ConsistentRead"] = True
        found: list[Item] = []
        while True:
            if limit is not None:
                request["Limit"] = limit - len(found) if keep is None else max(limit, _LOOKED_THROUGH)
            page, request["ExclusiveStartKey"] = await self._call("Query", _query(request), _page)
            found += page if keep is None else [item for item in page if keep(item)]
            if not request["ExclusiveStartKey"] or (limit is not None and len(found) >= limit):
                return found[:limit]
            # DynamoDB has no order within a page that ends; the next one begins behind its last key.

    async def make(self) -> bool:
        """Create the table with its TTL, for a stand-in; False where it exists. Templates make the real one.

        Each step is made wherever it is lacking: one that was refused is made by the next call.
        """
        request, made = definition(self.name), True
        try:
            await self._call("CreateTable", lambda client: client.create_table(**request), lambda _: None)
        except AwsUnavailable as error:
            if error.code != "ResourceInUseException":
                raise
            made = False
        spec = {"Enabled": True, "AttributeName": "expires_at"}
        try:
            await self._call(
                "UpdateTimeToLive",
                lambda client: client.update_time_to_live(TableName=self.name, TimeToLiveSpecification=spec),
                lambda _: None,
            )
        except AwsUnavailable as error:
            if error.code != "ValidationException" or "already enabled" not in error.detail:
                raise
        return made

    async def _get_batch(self, keys: list[dict[str, Any]], *, consistent: bool) -> list[Item]:
        found: list[Item] = []
        for turn in range(_ROUNDS):
            items, keys = await self._call(
                "BatchGetItem", _batch_get(self.name, keys, consistent=consistent), self._batch
            )
            found += items
            if not keys:
                return found
            await _a_moment(turn)
        raise _left_over("BatchGetItem", len(keys))

    def _batch(self, answer: Mapping[str, Any]) -> tuple[list[Item], list[dict[str, Any]]]:
        items = [plain_item(item) for item in answer.get("Responses", {}).get(self.name, ())]
        return items, answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])

    def _unprocessed(self, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        left: list[dict[str, Any]] = answer.get("UnprocessedItems", {}).get(self.name, [])
        return left

    async def _conditional(
        self, action: str, do: Callable[[Any], Mapping[str, Any]], read: Callable[[Mapping[str, Any]], T]
    ) -> T | Refused:
        def held(client: Any) -> Any:
            if isinstance(client, Direct):
                return _held(do(client))
            try:
                return do(client)
            except client.exceptions.ConditionalCheckFailedException as error:
                return _refused(error)
            except client.exceptions.TransactionCanceledException as error:
                return _cancelled(error)

        def answer_of(answer: Mapping[str, Any]) -> T | Refused:
            refused: Refused | None = answer.get("_refused")
            return read(answer) if refused is None else refused

        return await self._call(action, held, answer_of)

    async def _call(
        self, action: str, do: Callable[[Any], Mapping[str, Any]], read: Callable[[Mapping[str, Any]], T]
    ) -> T:
        return await self._session.call(self._purpose, action, do, read)


async def _held(answer: Any) -> Mapping[str, Any]:
    """An answer that is awaited, or that a condition did not hold."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - loaded with the session

    try:
        said: Mapping[str, Any] = await answer
    except ClientError as error:
        match error.response["Error"]["Code"]:
            case "ConditionalCheckFailedException":
                return _refused(error)
            case "TransactionCanceledException":
                return _cancelled(error)
        raise
    return said


def _refused(error: Any) -> Mapping[str, Any]:
    there = error.response.get("Item")
    return {"_refused": Refused(plain_item(there) if there else None)}


def _cancelled(error: Any) -> Mapping[str, Any]:
    """Raises the error where it was cancelled for more than a condition or another write."""
    codes = {reason.get("Code") for reason in error.response.get("CancellationReasons", ())}
    if not codes & {"ConditionalCheckFailed", "TransactionConflict"}:
        raise error
    return {"_refused": Refused(None)}


def _add_condition(request: dict[str, Any], when: When | None) -> None:
    if when is not None:
        request["ConditionExpression"] = expression(when.text, when.values, into=request)
        request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"


def _item(answer: Mapping[str, Any]) -> Item | None:
    return plain_item(answer["Item"]) if "Item" in answer else None


def _page(answer: Mapping[str, Any]) -> tuple[list[Item], Any]:
    return [plain_item(item) for item in answer["Items"]], answer.get("LastEvaluatedKey")


def _query(request: Mapping[str, Any]) -> Callable[[Any], Mapping[str, Any]]:
    sent = {name: value for name, value in request.items() if value is not None}
    return lambda client: client.query(**sent)


def _batch_get(name: str, keys: list[dict[str, Any]], *, consistent: bool) -> Callable[[Any], Mapping[str, Any]]:
    asked: Any = {"Keys": keys, "ConsistentRead": True} if consistent else {"Keys": keys}
    return lambda client: client.batch_get_item(RequestItems={name: asked})


def _batch_write(name: str, entries: list[dict[str, Any]]) -> Callable[[Any], Mapping[str, Any]]:
    return lambda client: client.batch_write_item(RequestItems={name: entries})


async def _a_moment(turn: int) -> None:
    await asyncio.sleep(_ROUND_S * 2**turn * random.uniform(0.5, 1.0))  # noqa: S311 - jitter


def _left_over(call: str, count: int) -> AwsUnavailable:
    return AwsUnavailable(
        call, "ThrottlingException", f"{count} entries of a batch were left over {_ROUNDS} times", "throttled"
    )
