"""The keys of the configuration by their dotted paths, read off the classes in `runner.config.sections`."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from keyword import iskeyword
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from runner.config.model import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.config.kinds import Setting

PREFIX = "CRON_RUNNER_"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: ``path`` is ``admission.resources.cpu``, ``section`` ``admission.resources``."""

    path: str
    section: str
    name: str
    setting: Setting

    @property
    def variable(self) -> str:
        """The environment variable that overrides it: CRON_RUNNER_QUEUE__URL, CRON_RUNNER__GROUP."""
        section = self.section.replace(".", "__")
        return f"{PREFIX}{section}__{self.name}".upper() if section else f"{PREFIX}_{self.name}".upper()


def key_name(attribute: str) -> str:
    """The key that a field stands for: one that is a word of Python has an underscore behind it."""
    return attribute.removesuffix("_")


def _walk(section_class: Any, section: str) -> Iterator[Key]:
    for entry in fields(section_class):
        known = entry.metadata.get("setting")
        if known is not None:
            name = key_name(entry.name)
            yield Key(f"{section}.{name}" if section else name, section, name, known)
    # Tables after the plain keys, as TOML has it: a key below a table's header belongs to that table.
    for entry in fields(section_class):
        factory: Any = entry.default_factory
        if isinstance(factory, type) and is_dataclass(factory):
            yield from _walk(factory, f"{section}.{entry.name}" if section else entry.name)


KEYS: MappingProxyType[str, Key] = MappingProxyType({key.path: key for key in _walk(Config, "")})
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(key.section for key in KEYS.values()))
VARIABLES: MappingProxyType[str, Key] = MappingProxyType({key.variable: key for key in KEYS.values()})


def value_of(config: Config, path: str) -> Any:
    """The value of the key with this dotted path."""
    return attrgetter(".".join(f"{part}_" if iskeyword(part) else part for part in path.split(".")))(config)


def default_of(key: Key) -> Any:
    return key.setting.kind.parse(key.setting.text)
