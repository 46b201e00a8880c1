"""The fleet's table: what the agent reads and writes there, in a way that changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.aws import directives
from runner.aws.table import Table, When
from runner.check.finding import Finding, failed, ok
from runner.check.refusals import OF_THE_PLACE, refusal
from runner.errors import AwsUnavailable
from runner.protocol import table as keys

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.config import Config

# DynamoDB looks whether the caller may write before it looks at the condition, which no item can meet.
NEVER = When("attribute_exists(#pk) AND attribute_not_exists(#pk)", {})
NO_RUN = "~check"
"""In no run's id: the claim that is not written is nobody's."""
_CHANGE = "SET #note = :note"
_CREATE = "create the table, or correct [fleet] table, the account and AWS_REGION"


async def fleet_table(session: Session, config: Config) -> list[Finding]:
    """Query of the group's directives, and an update under a condition that never holds."""
    name = config.fleet.table
    if not name:
        return []
    table = Table(session, name)
    found: list[Finding] = []
    for action, call in (
        ("Query", lambda: directives.read(table, config.group)),
        ("UpdateItem", lambda: table.update(keys.claim(config.group, NO_RUN), _CHANGE, {"note": "check"}, NEVER)),
    ):
        try:
            await call()
        except AwsUnavailable as error:
            finding = refusal("fleet", error, permission=f"dynamodb:{action}", where=f"table {name}")
            if error.kind == "missing":
                return [failed("fleet", finding.detail, _CREATE)]
            found.append(finding)
            if error.kind in OF_THE_PLACE:
                return found
        else:
            found.append(ok("fleet", f"{action} on table {name} is allowed"))
    return found
