"""DynamoDB in memory, as much of it as the fleet's table needs; moto takes seconds for a page of a large index.

Expressions are evaluated, conditions hold or refuse, transactions are all or nothing, pages end at 1 MB, batches at
their limits. One action at a time, so each is atomic.
"""

from __future__ import annotations

import operator as operator_of
import re
from bisect import insort
from dataclasses import dataclass, field
from typing import Any

from table_units import Units, size_of

from standin_sqs import Refused

_TOKEN = re.compile(r"\s*(<>|<=|>=|[=<>(),+]|[#:]?\w+)")
_PAGE_BYTES = 1_048_576
Item = dict[str, dict[str, Any]]


class ConditionFailed(Refused):
    """An item's condition did not hold; ``there`` is the item."""

    def __init__(self, there: Item | None) -> None:
        super().__init__("ConditionalCheckFailedException", "The conditional request failed")
        self.more: dict[str, Any] = {"Item": there} if there else {}


class TransactionCancelled(Refused):
    def __init__(self, codes: list[str]) -> None:
        super().__init__("TransactionCanceledException", f"Transaction cancelled {codes}")
        self.more: dict[str, Any] = {"CancellationReasons": [{"Code": code} for code in codes]}


@dataclass(slots=True)
class Table:
    definition: dict[str, Any]
    items: dict[tuple[str, str], Item] = field(default_factory=dict)

    def keys_of(self, index: str | None) -> tuple[str, str]:
        schema = self.definition["KeySchema"]
        if index is not None:
            indexes = {one["IndexName"]: one for one in self.definition["GlobalSecondaryIndexes"]}
            schema = indexes[index]["KeySchema"]
        return schema[0]["AttributeName"], schema[1]["AttributeName"]


class Dynamo:
    """The actions, each from its parameters to its answer."""

    def __init__(self) -> None:
        self._tables: dict[str, Table] = {}
        # (table, index, partition) → sorted [(sort key, key)]: what makes a query as fast as its answer is short.
        self._sorted: dict[tuple[str, str | None, str], list[tuple[str, tuple[str, str]]]] = {}
        self.units = Units()

    def reset(self) -> None:
        """Forget everything."""
        self._tables.clear()
        self._sorted.clear()
        self.units = Units()

    async def call(self, action: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Do one action; raises Refused."""
        does = getattr(self, f"_do_{action}", None)
        if does is None:
            raise Refused("UnknownOperationException", f"the stand-in does not know {action}")
        answer: dict[str, Any] = does(asked)
        return answer

    def _do_CreateTable(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's name
        if asked["TableName"] in self._tables:
            raise Refused("ResourceInUseException", "Table already exists")
        self._tables[asked["TableName"]] = Table(asked)
        return {"TableDescription": {}}

    def _do_UpdateTimeToLive(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"TimeToLiveSpecification": asked["TimeToLiveSpecification"]}

    def _do_GetItem(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        item = self._table(asked).items.get(_key(asked["Key"]))
        self.units.read([item], consistent=asked.get("ConsistentRead", False), together=False)
        return {"Item": item} if item else {}

    def _do_BatchGetItem(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        ((name, wanted),) = asked["RequestItems"].items()
        keys = [_key(key) for key in wanted["Keys"]]
        if len(keys) > 100 or len(set(keys)) < len(keys):
            raise Refused("ValidationException", "too many or repeated keys")
        items = self._table({"TableName": name}).items
        read = [items.get(key) for key in keys]
        self.units.read(read, consistent=wanted.get("ConsistentRead", False), together=False)
        return {"Responses": {name: [items[key] for key in keys if key in items]}, "UnprocessedKeys": {}}

    def _do_PutItem(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._check(asked, _key(asked["Item"]))
        self._write(asked["TableName"], _key(asked["Item"]), asked["Item"])
        return {}

    def _do_DeleteItem(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._check(asked, _key(asked["Key"]))
        self._write(asked["TableName"], _key(asked["Key"]), None)
        return {}

    def _do_UpdateItem(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        key = _key(asked["Key"])
        old = self._check(asked, key)
        item = _updated(dict(old) if old else dict(asked["Key"]), asked)
        self._write(asked["TableName"], key, item)
        return {"Attributes": item}

    def _do_BatchWriteItem(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        ((name, entries),) = asked["RequestItems"].items()
        if len(entries) > 25:
            raise Refused("ValidationException", "too many entries")
        for entry in entries:
            if "DeleteRequest" in entry:
                self._write(name, _key(entry["DeleteRequest"]["Key"]), None)
            else:
                item = entry["PutRequest"]["Item"]
                self._write(name, _key(item), item)
        return {"UnprocessedItems": {}}

    def _do_TransactWriteItems(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        puts = [entry["Put"] for entry in asked["TransactItems"]]
        if len(puts) > 100 or len({_key(put["Item"]) for put in puts}) < len(puts):
            raise Refused("ValidationException", "too many or repeated items")
        codes = []
        for put in puts:
            try:
                self._check(put, _key(put["Item"]), checked_only=True)
                codes.append("None")
            except ConditionFailed:
                codes.append("ConditionalCheckFailed")
        if set(codes) != {"None"}:
            for put in puts:
                self.units.refused(put["Item"], twice=True)
            raise TransactionCancelled(codes)
        for put in puts:
            self._write(put["TableName"], _key(put["Item"]), put["Item"], twice=True)
        return {}

    def _do_Query(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        table = self._table(asked)
        index = asked.get("IndexName")
        partition_key, sort_key = table.keys_of(index)
        condition = _parsed(asked["KeyConditionExpression"], asked)
        partition = _partition(asked["KeyConditionExpression"], asked, partition_key)
        entries = self._sorted.get((asked["TableName"], index, partition), [])
        ordered = [key for _, key in (entries if asked.get("ScanIndexForward", True) else reversed(entries))]
        start = asked.get("ExclusiveStartKey")
        if start is not None:
            ordered = ordered[ordered.index(_key(start)) + 1 :]
        found: list[Item] = []
        size = 0
        more: dict[str, Any] = {}
        for key in ordered:
            item = table.items[key]
            if not condition(item):
                continue
            if len(found) == asked.get("Limit", -1) or size > _PAGE_BYTES:
                more = {"LastEvaluatedKey": {"pk": found[-1]["pk"], "sk": found[-1]["sk"]}}
                break
            found.append(item)
            size += size_of(item)
        assert sort_key
        self.units.read(found, consistent=asked.get("ConsistentRead", False), together=True)
        return {"Items": found, **more}

    def _table(self, asked: dict[str, Any]) -> Table:
        try:
            return self._tables[asked["TableName"]]
        except KeyError:
            raise Refused("ResourceNotFoundException", "Requested resource not found") from None

    def _check(self, asked: dict[str, Any], key: tuple[str, str], *, checked_only: bool = False) -> Item | None:
        """The item at the key, where the request's condition holds for it."""
        item = self._table(asked).items.get(key)
        if "ConditionExpression" in asked and not _parsed(asked["ConditionExpression"], asked)(item or {}):
            if not checked_only:
                self.units.refused(item)
            raise ConditionFailed(item)
        return item

    def _write(self, name: str, key: tuple[str, str], item: Item | None, *, twice: bool = False) -> None:
        table = self._table({"TableName": name})
        old = table.items.pop(key, None)
        indexes = [table.keys_of(one["IndexName"]) for one in table.definition["GlobalSecondaryIndexes"]]
        self.units.wrote(old, item, indexes, twice=twice)
        for index in (None, *(one["IndexName"] for one in table.definition["GlobalSecondaryIndexes"])):
            partition, sort = table.keys_of(index)
            if old and partition in old and sort in old:
                self._sorted[name, index, old[partition]["S"]].remove((old[sort]["S"], key))
            if item and partition in item and sort in item:
                if "S" not in item[partition] or "S" not in item[sort]:
                    raise Refused("ValidationException", f"a key of {index} is no string")
                insort(self._sorted.setdefault((name, index, item[partition]["S"]), []), (item[sort]["S"], key))
        if item:
            table.items[key] = item


def _key(item: Item) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _plain(value: dict[str, Any] | None) -> Any:
    if value is None:
        return None
    ((kind, said),) = value.items()
    return float(said) if kind == "N" else said


def _partition(text: str, asked: dict[str, Any], attribute: str) -> str:
    names = asked.get("ExpressionAttributeNames", {})
    for name, value in re.findall(r"(#\w+)\s*=\s*(:\w+)", text):
        if names[name] == attribute:
            return str(asked["ExpressionAttributeValues"][value]["S"])
    raise Refused("ValidationException", "the partition key is not given")


def _parsed(text: str, asked: dict[str, Any]) -> Any:
    """A condition as a function of an item."""
    return _Condition(text, asked).either()


class _Condition:
    """OR, AND, brackets, comparisons and the three functions that are used."""

    def __init__(self, text: str, asked: dict[str, Any]) -> None:
        self._tokens = _TOKEN.findall(text)
        self._names = asked.get("ExpressionAttributeNames", {})
        self._values = asked.get("ExpressionAttributeValues", {})

    def either(self) -> Any:
        terms = [self._both()]
        while self._tokens and self._tokens[0] == "OR":
            self._tokens.pop(0)
            terms.append(self._both())
        return lambda item: any(term(item) for term in terms)

    def _both(self) -> Any:
        terms = [self._one()]
        while self._tokens and self._tokens[0] == "AND":
            self._tokens.pop(0)
            terms.append(self._one())
        return lambda item: all(term(item) for term in terms)

    def _one(self) -> Any:
        token = self._tokens.pop(0)
        if token == "(":
            inner = self.either()
            self._tokens.pop(0)
            return inner
        if token in ("attribute_exists", "attribute_not_exists", "begins_with"):
            return self._function(token)
        name, operator, value = self._names[token], self._tokens.pop(0), self._values[self._tokens.pop(0)]
        if operator == "BETWEEN":
            self._tokens.pop(0)  # AND
            most = self._values[self._tokens.pop(0)]
            return lambda item: _compare(item.get(name), ">=", value) and _compare(item.get(name), "<=", most)
        return lambda item: _compare(item.get(name), operator, value)

    def _function(self, name: str) -> Any:
        self._tokens.pop(0)
        attribute = self._names[self._tokens.pop(0)]
        if name == "begins_with":
            self._tokens.pop(0)
            start = _plain(self._values[self._tokens.pop(0)])
            self._tokens.pop(0)
            return lambda item: str(_plain(item.get(attribute)) or "").startswith(start)
        self._tokens.pop(0)
        return lambda item: (attribute in item) == (name == "attribute_exists")


def _compare(here: dict[str, Any] | None, operator: str, there: dict[str, Any]) -> bool:
    if operator == "<>":
        return here != there
    if here is None or here.keys() != there.keys():
        return False
    does = {"=": operator_of.eq, "<": operator_of.lt, ">": operator_of.gt, "<=": operator_of.le, ">=": operator_of.ge}
    return bool(does[operator](_plain(here), _plain(there)))


def _updated(item: Item, asked: dict[str, Any]) -> Item:
    """SET of values, `if_not_exists(#a, :v)` and sums of them; REMOVE."""
    names, values = asked.get("ExpressionAttributeNames", {}), asked.get("ExpressionAttributeValues", {})
    text = asked["UpdateExpression"]
    sets, _, removes = text.partition("REMOVE")
    changes: Item = {}

    def value_of(word: str) -> dict[str, Any]:
        if match := re.fullmatch(r"if_not_exists\((#\w+),\s*(:\w+)\)", word):
            return item.get(names[match[1]], values[match[2]])
        return dict(values[word])

    for part in re.split(r",\s*(?![^(]*\))", sets.strip().removeprefix("SET").strip()) if sets.strip() else []:
        name, _, right = part.strip().partition(" = ")
        terms = [value_of(term.strip()) for term in right.split("+")]
        changes[names[name]] = terms[0] if len(terms) == 1 else {"N": str(sum(int(term["N"]) for term in terms))}
    item = {**item, **changes}
    for name in removes.replace(" ", "").split(",") if removes else []:
        item.pop(names[name], None)
    return item
