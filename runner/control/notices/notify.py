"""Whom a job's news goes to, and which news: the `notify` field of a job or a group. Pure.

A target is a text: an SNS topic's ARN; an https URL, which is a Slack-compatible webhook; `pagerduty:KEY`, the
routing key of an Events v2 integration; `ping:URL`, a Cronitor or healthchecks style URL that is told of starts and
ends. What a target is sent, and how, is not decided here.

A webhook, a key or a ping's URL is a secret. `${NAME}` in its place is read from the environment of whoever tells, and
`${ssm:/NAME}` from AWS's parameter store, when something is told: neither files nor the table hold it then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from runner.protocol import fields
from runner.protocol.invalid import Faults, InvalidMessage
from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

News = Literal["failure", "recovery", "too-long", "not-started", "not-finished", "lost", "started", "success"]
"""What can be told of a job. `failure` is every bad end, `lost` the end of a run whose host has gone silent."""

NEWS: Final[tuple[str, ...]] = get_args(News)
DEFAULT_NEWS: Final = ("failure", "recovery", "too-long", "not-started", "not-finished", "lost")
PING_NEWS: Final = ("started", "success", "failure", "lost")
_TARGET: Final = re.compile(
    r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:.+|(ping:)?(https?://\S+|\$\{[^{}\s]+\}\S*)|pagerduty:\S+"
)


@dataclass(frozen=True, slots=True)
class Notify:
    """Targets, and the news that those which are no ping want."""

    to: tuple[str, ...] = ()
    when: tuple[str, ...] = DEFAULT_NEWS

    def targets(self, news: News) -> list[str]:
        """Who wants this news; a pager always wants to know that it is over, or somebody has to tell it by hand."""
        return [to for to in self.to if news in self._wanted(to)]

    def item(self) -> dict[str, Any]:
        return {"to": list(self.to), "when": list(self.when)}

    def _wanted(self, to: str) -> tuple[str, ...]:
        if to.startswith("ping:"):
            return PING_NEWS
        return (*self.when, "recovery") if to.startswith("pagerduty:") else self.when


def notify_of(item: Mapping[str, Any] | None) -> Notify:
    """What `Notify.item` wrote."""
    return Notify(tuple(item["to"]), tuple(item["when"])) if item else Notify()


def parse_notify(path: str, value: object) -> Notify:
    """A target, a list of targets, or a table with `to` and `when`; raises InvalidMessage."""
    if isinstance(value, str):
        return Notify((_target(path, value),))
    if isinstance(value, list):
        return Notify(fields.items(path, value, _target))
    given = fields.table(path, value)
    parsers: dict[str, fields.Parser] = {
        "to": _targets,
        "when": partial(fields.items, item=fields.choice("news", NEWS)),
    }
    faults = Faults()
    said = fields.each(path, given, parsers, faults)
    if "to" not in given and not faults.ask_for("to"):
        faults.add(InvalidMessage(f"{path}.to: is missing; say who is told"))
    faults.settle()
    return Notify(**said)


def _targets(path: str, value: object) -> tuple[str, ...]:
    return (_target(path, value),) if isinstance(value, str) else fields.items(path, value, _target)


def _target(path: str, value: object) -> str:
    said = fields.word(path, value)
    if not _TARGET.fullmatch(said):
        fields.refuse(
            path,
            f"{shown(said)} is nobody to tell; give an SNS topic's ARN, the https URL of a webhook, pagerduty:KEY"
            " or ping:URL, with ${NAME} or ${ssm:/NAME} for what is secret",
        )
    return said
