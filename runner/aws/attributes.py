"""Python values as DynamoDB's typed attributes, and back. Pure.

boto3 has the same in its resources, which are not imported here. Numbers come back as int where they are whole,
else as float: nothing in the table needs more digits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Item = dict[str, Any]
"""An item as plain values: str, int, float, bool, None, and lists and dicts of them."""

_NAME = re.compile(r"#(\w+)")
_WHOLE = re.compile(r"-?\d+")


def wire(value: object) -> dict[str, Any]:
    """One typed attribute value; TypeError for what the table never holds."""
    # By their frequency: a run has 25 attributes, most of them text.
    if isinstance(value, str):
        return {"S": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float):
        return {"N": repr(value)}
    if isinstance(value, dict):
        return {"M": wire_item(value)}
    if isinstance(value, list | tuple):
        return {"L": [wire(entry) for entry in value]}
    msg = f"a {type(value).__name__} is no attribute value"
    raise TypeError(msg)


def wire_item(item: Mapping[str, object]) -> dict[str, Any]:
    return {name: wire(value) for name, value in item.items()}


def plain(value: Mapping[str, Any]) -> Any:
    """The Python value of one typed attribute value."""
    ((kind, said),) = value.items()
    if kind == "S":
        return said
    if kind == "N":
        return int(said) if _WHOLE.fullmatch(said) else float(said)
    if kind == "M":
        return plain_item(said)
    if kind == "L":
        return [plain(entry) for entry in said]
    return None if kind == "NULL" else said


def plain_item(item: Mapping[str, Any]) -> Item:
    return {name: plain(value) for name, value in item.items()}


def expression(text: str, values: Mapping[str, object], *, into: dict[str, Any]) -> str:
    """Add the names (`#name` stands for the attribute `name`) and values (`:name`) of an expression to a request.

    Every attribute is written as `#name`: DynamoDB reserves several hundred words, `state` and `group` among them.
    """
    if names := {f"#{name}": name for name in _NAME.findall(text)}:
        into.setdefault("ExpressionAttributeNames", {}).update(names)
    if values:
        into.setdefault("ExpressionAttributeValues", {}).update(
            {f":{name}": wire(value) for name, value in values.items()}
        )
    return text
