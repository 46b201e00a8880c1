"""The infrastructure templates as values: what CloudFormation and Terraform would make of them, to be compared.

Both are read under a choice of conditions (FIFO or not, a key or not…), and references are written alike:
``<Group>`` for a parameter, ``<Jobs>`` and ``<Jobs.Arn>`` for a resource and its attribute. Names follow one
rule: ``max_receive_count`` of Terraform is ``MaxReceiveCount`` of CloudFormation.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGING = Path(__file__).parents[2] / "packaging"


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms (!Ref, !GetAtt, !Sub…)."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {name: value}


_Loader.add_multi_constructor("!", _short_form)


@cache
def cloudformation(path: Path) -> dict[str, Any]:
    """A template as it is written, its short forms spelt out."""
    loaded = yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader with CloudFormation's tags
    assert isinstance(loaded, dict)
    return loaded


def camel(name: str) -> str:
    """``max_receive_count`` as ``MaxReceiveCount``."""
    return "".join(part.capitalize() for part in name.split("_"))


@dataclass(frozen=True, slots=True)
class CloudFormation:
    """A template's resources where ``true`` are the conditions that hold."""

    template: Mapping[str, Any]
    true: frozenset[str] = frozenset()

    def resources(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Type and properties by logical id."""
        return {
            name: (resource["Type"], self.value(resource.get("Properties", {})))
            for name, resource in self.template["Resources"].items()
            if resource.get("Condition") is None or resource["Condition"] in self.true
        }

    def value(self, value: Any) -> Any:
        """A value with its conditions decided and its references as ``<Name>``; None where it has none."""
        if isinstance(value, list):
            return [known for known in map(self.value, value) if known is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, of), *_ = value.items()
            if name in ("Ref", "Fn::GetAtt"):
                return None if of == "AWS::NoValue" else f"<{of}>"
            if name == "Fn::Sub":
                return re.sub(r"\$\{([^}]+)\}", r"<\1>", of)
            if name == "Fn::If":
                return self.value(of[1] if of[0] in self.true else of[2])
        return {key: known for key, raw in value.items() if (known := self.value(raw)) is not None}


@dataclass(slots=True)
class Terraform:
    """A module's blocks where ``conditions`` says of each condition, as it is written, whether it holds.

    ``names`` gives the logical id of each resource by its address.
    """

    directory: Path
    conditions: Mapping[str, bool]
    names: Mapping[str, str]
    refs: Mapping[str, str] = field(default_factory=dict)
    blocks: dict[str, list[Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = _blocks(self.directory)

    def named(self, kind: str) -> dict[str, dict[str, Any]]:
        """Blocks with one label: variables, outputs."""
        return {label.strip('"'): body for block in self.blocks.get(kind, []) for label, body in block.items()}

    def addressed(self, kind: str) -> dict[str, dict[str, Any]]:
        """Blocks with two labels, resources and data, by their address; those whose count is not 0."""
        found = {
            f"{one.strip(chr(34))}.{two.strip(chr(34))}": body
            for block in self.blocks.get(kind, [])
            for one, inner in block.items()
            for two, body in inner.items()
        }
        return {address: body for address, body in found.items() if self._exists(body)}

    def _exists(self, body: Mapping[str, Any]) -> bool:
        count = str(body.get("count", ""))
        decided = re.fullmatch(r"\$\{(.+) \? 1 : 0\}", count)
        return self.conditions[decided.group(1)] if decided else True

    def value(self, raw: Any) -> Any:
        """A value with its conditions decided and its references as ``<Name>``; None where it has none."""
        if isinstance(raw, list):
            return [self.value(item) for item in raw]
        if isinstance(raw, dict):
            return {key.strip('"'): self.value(item) for key, item in raw.items()}
        if not isinstance(raw, str) or raw.startswith('"<<'):  # a heredoc's indentation is the reader's to take off
            return raw
        if raw.startswith('"'):
            return self._text(str(json.loads(raw)))
        if raw.startswith("${"):
            return self._expression(raw[2:-1])
        return raw

    def _text(self, text: str) -> str:
        return re.sub(r"\$\{([^}]+)\}", lambda found: str(self._expression(found.group(1))), text)

    def _expression(self, text: str) -> Any:
        text = text.strip()
        if decided := re.fullmatch(r"(.+?) \? (.+) : (.+)", text, re.DOTALL):
            return self._expression(decided.group(2 if self.conditions[decided.group(1)] else 3))
        if encoded := re.fullmatch(r"jsonencode\((.*)\)", text, re.DOTALL):
            return self.value(_parsed(encoded.group(1)))
        if text in ("null", "true", "false"):
            return {"null": None, "true": True, "false": False}[text]
        if text.isdigit():
            return int(text)
        if text.startswith(('"', "[")):
            return self.value(_parsed(text))
        return self._reference(text)

    def _reference(self, text: str) -> Any:
        text = text.replace("[0]", "")
        if text in self.refs:
            return self.refs[text]
        room, _, name = text.partition(".")
        if room == "var":
            # A list that is empty is a property that is not there.
            return f"<{camel(name)}>" if self.conditions.get(f"length({text}) > 0", True) else None
        if room == "local":
            values = {key: item for block in self.blocks["locals"] for key, item in block.items()}
            return self.value(values[name])
        if text.startswith("data.aws_iam_policy_document.") and text.endswith(".json"):
            return self.policy(text.removeprefix("data.").removesuffix(".json"))
        address, _, attribute = text.rpartition(".")
        logical = self.names[address]
        own = {
            "url": "",
            "id": "",
            "function_name": "",
            "name": ".QueueName" if address.startswith("aws_sqs_queue.") else "",
            "arn": ".Arn",
        }
        return f"<{logical}{own[attribute]}>"

    def policy(self, address: str) -> dict[str, Any]:
        """A policy document of data, as IAM's JSON."""
        body = self.addressed("data")[address]
        return {
            "Version": "2012-10-17",
            "Statement": [self._statement(raw) for raw in self.repeated(body, "statement")],
        }

    def repeated(self, body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
        """The blocks of a name, also those that a condition brings (``dynamic``)."""
        found = list(body.get(name, []))
        for dynamic in body.get("dynamic", []):
            for label, of in dynamic.items():
                decided = (
                    re.fullmatch(r"\$\{(.+) \? \[true\] : \[\]\}", str(of["for_each"]))
                    if label == f'"{name}"'
                    else None
                )
                if decided and self.conditions[decided.group(1)]:
                    found += of["content"]
        return found

    def _statement(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {
            "Sid": self.value(raw["sid"]),
            "Effect": self.value(raw["effect"]),
            "Action": self.value(raw["actions"]),
        }
        if "resources" in raw:
            made["Resource"] = self.value(raw["resources"])
        for principals in raw.get("principals", []):
            kind = self.value(principals["type"])
            made["Principal"] = "*" if kind == "*" else {kind: self.value(principals["identifiers"])}
        for condition in self.repeated(raw, "condition"):
            tests = made.setdefault("Condition", {}).setdefault(self.value(condition["test"]), {})
            tests[self.value(condition["variable"])] = self.value(condition["values"])
        return made


@cache
def _blocks(directory: Path) -> dict[str, list[Any]]:
    """All blocks of a module by their kind. The parser takes a second; nothing changes what it has made."""
    import hcl2

    blocks: dict[str, list[Any]] = {}
    for path in sorted(directory.glob("*.tf")):
        for kind, found in _plain(hcl2.loads(path.read_text())).items():
            blocks.setdefault(kind, []).extend(found)
    return blocks


def _parsed(expression: str) -> Any:
    import hcl2

    return _plain(hcl2.loads(f"x = {expression}\n"))["x"]


def _plain(value: Any) -> Any:
    """What the parser has read, without its own remarks (comments, what is a block)."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not key.startswith("__")}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def alike(value: Any) -> Any:
    """A value in the one form of both: a list of one as that one, the rest of lists in order."""
    if isinstance(value, dict):
        return {key: alike(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(alike, value))
    if isinstance(value, list):
        made = sorted(map(alike, value), key=lambda item: json.dumps(item, sort_keys=True))
        return made[0] if len(made) == 1 else made
    return value
