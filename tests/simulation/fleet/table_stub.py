"""DynamoDB as its documentation promises it, in memory: conditions, transactions, stale reads, pages, TTL.

What the network makes of a call (late, lost, refused) is `cloud.Session`'s.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runner.aws.attributes import plain_item, wire_item
from runner.protocol import table as keys

from .expressions import Expression
from .virtual import Clock, now

if TYPE_CHECKING:
    from .cloud import World

Wire = dict[str, Any]
At = tuple[str, str]
STALE_S = (0, 0, 0.02, 0.3, 1.5)


class ConditionFailed(Exception):
    def __init__(self, there: dict[str, Any] | None = None) -> None:
        self.response = {"Item": wire_item(there)} if there else {}


class TransactionCanceled(Exception):
    def __init__(self, code: str) -> None:
        self.response = {"CancellationReasons": [{"Code": code}]}


class Dynamo:
    """`items` is the truth; `changed` is told each write: key, item before, item after."""

    class exceptions:  # noqa: N801 - boto3's name
        ConditionalCheckFailedException = ConditionFailed
        TransactionCanceledException = TransactionCanceled

    def __init__(self, world: World) -> None:
        self._world = world
        self.items: dict[At, dict[str, Any]] = {}
        self._old: dict[At, dict[str, Any]] = {}
        self._late: list[tuple[float, At, dict[str, Any] | None]] = []
        self.changed: list[Any] = []

    def forget(self) -> None:
        """TTL: everything that has expired goes at once."""
        for key, item in list(self.items.items()):
            if item.get("expires_at", float("inf")) < now():
                self._put(key, None)

    def _put(self, key: At, item: dict[str, Any] | None) -> None:
        before = self.items.get(key)
        if item is None:
            self.items.pop(key, None)
        else:
            self.items[key] = item
        if self._world.stale:
            self._late.append((Clock.mono + self._world.random.choice(STALE_S), key, item))
        for told in self.changed:
            told(key, before, item)

    def _view(self, *, consistent: bool) -> dict[At, dict[str, Any]]:
        if consistent or not self._world.stale:
            return self.items
        keep = []
        for at, key, item in self._late:
            if at > Clock.mono:
                keep.append((at, key, item))
            elif item is None:
                self._old.pop(key, None)
            else:
                self._old[key] = item
        self._late = keep
        return self._old

    def _check(self, asked: Wire, key: At) -> None:
        there = self.items.get(key)
        if "ConditionExpression" in asked and not Expression(asked["ConditionExpression"], asked, there or {}).holds():
            raise ConditionFailed(there)

    # -- boto3's methods

    def get_item(self, **asked: Any) -> Wire:
        item = self._view(consistent=asked.get("ConsistentRead", False)).get(_at(asked["Key"]))
        return {"Item": wire_item(item)} if item else {}

    def put_item(self, **asked: Any) -> Wire:
        key = _at(asked["Item"])
        self._check(asked, key)
        self._put(key, plain_item(asked["Item"]))
        return {}

    def update_item(self, **asked: Any) -> Wire:
        key = _at(asked["Key"])
        self._check(asked, key)
        there = self.items.get(key) or plain_item(asked["Key"])
        new = Expression(asked["UpdateExpression"], asked, there).updated()
        self._put(key, new)
        return {"Attributes": wire_item(new)}

    def delete_item(self, **asked: Any) -> Wire:
        key = _at(asked["Key"])
        self._check(asked, key)
        self._put(key, None)
        return {}

    def batch_write_item(self, RequestItems: Wire) -> Wire:  # noqa: N803 - boto3's name
        for entries in RequestItems.values():
            for entry in entries:
                if "PutRequest" in entry:
                    item = entry["PutRequest"]["Item"]
                    self._put(_at(item), plain_item(item))
                else:
                    self._put(_at(entry["DeleteRequest"]["Key"]), None)
        return {}

    def batch_get_item(self, RequestItems: Wire) -> Wire:  # noqa: N803 - boto3's name
        ((name, asked),) = RequestItems.items()
        view = self._view(consistent=asked.get("ConsistentRead", False))
        return {"Responses": {name: [wire_item(view[_at(key)]) for key in asked["Keys"] if _at(key) in view]}}

    def transact_write_items(self, TransactItems: list[Wire]) -> Wire:  # noqa: N803 - boto3's name
        writes = [next(iter(entry.items())) for entry in TransactItems]
        targets = [_at(asked["Item"] if kind == "Put" else asked["Key"]) for kind, asked in writes]
        if len(set(targets)) < len(targets) or len(targets) > 100:
            raise ValueError("ValidationException: two operations on one item, or too many")
        for (_, asked), key in zip(writes, targets, strict=True):
            try:
                self._check(asked, key)
            except ConditionFailed:
                raise TransactionCanceled("ConditionalCheckFailed") from None
        for (kind, asked), key in zip(writes, targets, strict=True):
            if kind == "Put":
                self._put(key, plain_item(asked["Item"]))
            elif kind == "Delete":
                self._put(key, None)
            elif kind == "Update":
                there = self.items.get(key) or plain_item(asked["Key"])
                self._put(key, Expression(asked["UpdateExpression"], asked, there).updated())
        return {}

    def query(self, **asked: Any) -> Wire:
        hash_key, range_key = {
            None: ("pk", "sk"),
            keys.BY_JOB: ("job_key", "at"),
            keys.BY_STATE: ("state_key", "state_at"),
        }[asked.get("IndexName")]
        view = self._view(consistent=asked.get("ConsistentRead", False))
        condition = asked["KeyConditionExpression"]
        partition = _partition(condition, asked, hash_key)
        hit = [
            item
            for item in view.values()
            if item.get(hash_key) == partition and range_key in item and Expression(condition, asked, item).holds()
        ]
        backwards = not asked.get("ScanIndexForward", True)
        hit.sort(key=lambda item: (item[range_key], item["pk"], item["sk"]), reverse=backwards)
        # The start key counts items here: nothing is written between the pages of one answer that would shift them.
        start = asked.get("ExclusiveStartKey") or 0
        size = min(asked.get("Limit") or self._world.page, self._world.page)
        self._world.pages += 1
        found = hit[start : start + size]
        if "FilterExpression" in asked:
            kept = [item for item in found if Expression(asked["FilterExpression"], asked, item).holds()]
        else:
            kept = found
        answer: Wire = {"Items": [wire_item(item) for item in kept]}
        if len(hit) > start + size:
            answer["LastEvaluatedKey"] = start + size
        return answer


def _at(key: Wire) -> At:
    return key["pk"]["S"], key["sk"]["S"]


def _partition(condition: str, asked: Wire, hash_key: str) -> str:
    """The one that is asked for: most items are not looked at any further."""
    for name, value in re.findall(r"(#\w+)\s*=\s*(:\w+)", condition):
        if asked["ExpressionAttributeNames"][name] == hash_key:
            return str(asked["ExpressionAttributeValues"][value]["S"])
    raise ValueError("ValidationException: the partition key is not given")
