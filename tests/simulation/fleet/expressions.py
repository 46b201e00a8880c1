"""DynamoDB's expressions over plain items: conditions, key conditions, and updates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runner.aws.attributes import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(r"\s*(\(|\)|,|<>|<=|>=|=|<|>|\+|#\w+|:\w+|[A-Za-z_]\w*)")
_COMPARE = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class Expression:
    def __init__(self, text: str, asked: Mapping[str, Any], item: Mapping[str, Any]) -> None:
        self._tokens = _TOKEN.findall(text)
        self._names = asked.get("ExpressionAttributeNames") or {}
        self._values = asked.get("ExpressionAttributeValues") or {}
        self._item = item

    def holds(self) -> bool:
        found = self._both()
        while self._peek().upper() == "OR":
            self._take()
            also = self._both()
            found = found or also
        return found

    def updated(self) -> dict[str, Any]:
        new = dict(self._item)
        while self._peek():
            word = self._take().upper()
            while True:
                name = self._names[self._take()]
                if word == "SET":
                    self._expect("=")
                    new[name] = self._operand()
                else:
                    new.pop(name, None)
                if self._peek() != ",":
                    break
                self._take()
        return new

    def _both(self) -> bool:
        found = self._one()
        while self._peek().upper() == "AND":
            self._take()
            also = self._one()
            found = found and also
        return found

    def _one(self) -> bool:
        if self._peek() == "(":
            self._take()
            found = self.holds()
            self._expect(")")
            return found
        if self._peek() in ("attribute_exists", "attribute_not_exists", "begins_with"):
            return self._function(self._take())
        left, compare, right = self._operand(), self._take(), self._operand()
        # A comparison with what is not there is false, but for "is another one".
        return compare == "<>" if left is None or right is None else bool(_COMPARE[compare](left, right))

    def _function(self, name: str) -> bool:
        self._expect("(")
        there = self._operand()
        if name == "begins_with":
            self._expect(",")
            found = there is not None and there.startswith(self._operand())
        else:
            found = (there is not None) == (name == "attribute_exists")
        self._expect(")")
        return found

    def _operand(self) -> Any:
        token = self._take()
        found: Any
        if token == "if_not_exists":
            self._expect("(")
            found = self._operand()
            self._expect(",")
            other = self._operand()
            self._expect(")")
            found = other if found is None else found
        elif token.startswith("#"):
            found = self._item.get(self._names.get(token, token[1:]))
        else:
            found = plain(self._values[token])
        if self._peek() == "+":
            self._take()
            found += self._operand()
        return found

    def _peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _take(self) -> str:
        token: str = self._tokens.pop(0)
        return token

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise ValueError(f"expected {token}")
