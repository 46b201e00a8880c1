"""The fleet's one DynamoDB table: its keys and attributes, for everybody who reads or writes it. Pure.

Every partition key begins with the group, so that IAM can hold a person or a host to one group, or to one job of
it, with `dynamodb:LeadingKeys`. docs/fleet.md shows the whole schema; times are RFC 3339 in UTC with six digits,
so that their order as text is their order in time.

| pk | sk | what |
|---|---|---|
| `GROUP#JOB#NAME` | `JOB` | a job: its definition |
| `GROUP#JOB#NAME` | `LOCK` | who may run it now, where its overlap is not `allow` |
| `GROUP#JOB#NAME` | `STATUS` | how its last run ended, and since when something is wrong with it |
| `GROUP#RUN#RUN_ID` | `RUN` | a run: the state that its attempts add up to |
| `GROUP#RUN#RUN_ID` | `ATTEMPT#EXECUTION#N` | one attempt, as its events told it |
| `GROUP#RUN#RUN_ID` | `CHILDREN` | a parent's end, `OWED` until its children are dealt with, and what became of them |
| `GROUP#RUN#RUN_ID` | `PARENT#NAME` | how one of several parents of a child's run ended |
| `GROUP#RUN#RUN_ID` | `DECIDED` | whether a child's run is fired or skipped, and when its message was sent |
| `GROUP#CHAINS` | `PARENT#CHILD` | that one job may be after another: the child's definition says whether it is |
| `GROUP#RUN#RUN_ID` | `CLAIM` | which host may run it; kept for longer than SQS keeps a message |
| `GROUP#DIRECTIVES` | `PAUSE`, `CANCEL#RUN_ID`, `MAINTENANCE#JOB` | what agents are told, by whom and why |
| `GROUP#DIRECTIVES` | `CHANGED` | another number after each change of a directive |
| `GROUP#AUDIT` | `TIME#WHAT` | every directive and change of a job there ever was |
| `GROUP#AUDIT` | `CHANGED` | another number after each change of the group or of a job of it |
| `GROUP#HOSTS` | `HOST` | what a host last reported of itself; gone a week after it was last heard of |
| `GROUP#SCHEDULER` | `TICK` | how far the scheduler has come, and who is at it |
| `GROUPS` | `GROUP` | a group: its queue and how its schedules fire |
| `NOTICES` | `ID` | something that people are to be told, until they are, and a while longer |

Two indexes: `by-job` (`job_key`, `at`) is a job's history; `by-state` (`state_key`, `state_at`) lists the jobs
(`JOBS`), the open runs by when they have to be looked at next (`OPEN`), the ended ones of a day (`FAILED#DAY`,
`GOOD#DAY`), and what is owed to children by its next try (`OWED`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

BY_JOB: Final = "by-job"
BY_STATE: Final = "by-state"
EXPIRES: Final = "expires_at"
"""The TTL attribute: unix seconds as a whole number. DynamoDB removes the item within some days of it."""

JOBS: Final = "JOBS"
OPEN: Final = "OPEN"
OWED: Final = "OWED"
GROUPS: Final = "GROUPS"
NOTICES: Final = "NOTICES"
RUN: Final = "RUN"
STATUS: Final = "STATUS"
ATTEMPT: Final = "ATTEMPT#"
PAUSE: Final = "PAUSE"
CANCEL: Final = "CANCEL#"
MAINTENANCE: Final = "MAINTENANCE#"
CHANGED: Final = "CHANGED"
CHILDREN: Final = "CHILDREN"
PARENT: Final = "PARENT#"
DECIDED: Final = "DECIDED"

DAY_S: Final = 86_400.0
CLAIM_KEPT_S: Final = 15 * DAY_S
"""A claim outlives every copy of its message: SQS keeps one for 14 days at most."""
DIRECTIVE_KEPT_S: Final = 15 * DAY_S
"""A cancel, or a switch that was turned off, is dropped after this; a pause that is on stays."""
AUDIT_KEPT_S: Final = 400 * DAY_S
HOST_KEPT_S: Final = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class Key:
    """An item's primary key."""

    pk: str
    sk: str

    def attributes(self) -> dict[str, str]:
        return {"pk": self.pk, "sk": self.sk}


def job(group: str, name: str) -> Key:
    return Key(f"{group}#JOB#{name}", "JOB")


def group_of(key: Key) -> str:
    """The group that a job's, a run's or a directive's key begins with; no group's name holds a #."""
    return key.pk.partition("#")[0]


def lock(group: str, name: str) -> Key:
    return Key(f"{group}#JOB#{name}", "LOCK")


def status(group: str, name: str) -> Key:
    return Key(f"{group}#JOB#{name}", STATUS)


def run(group: str, run_id: str) -> Key:
    return Key(f"{group}#RUN#{run_id}", RUN)


def attempt(group: str, run_id: str, execution: str, number: int) -> Key:
    return Key(f"{group}#RUN#{run_id}", f"{ATTEMPT}{execution}#{number:07d}")


def claim(group: str, run_id: str) -> Key:
    return Key(f"{group}#RUN#{run_id}", "CLAIM")


def chains(group: str) -> str:
    """The partition that says which jobs may be after which: one query shows all of a group."""
    return f"{group}#CHAINS"


def chain(group: str, parent: str, child: str) -> Key:
    return Key(chains(group), f"{parent}#{child}")


def children(group: str, run_id: str) -> Key:
    return Key(f"{group}#RUN#{run_id}", CHILDREN)


def parent(group: str, run_id: str, name: str) -> Key:
    """How one parent of a child's run ended."""
    return Key(f"{group}#RUN#{run_id}", f"{PARENT}{name}")


def decided(group: str, run_id: str) -> Key:
    return Key(f"{group}#RUN#{run_id}", DECIDED)


def directives(group: str) -> str:
    """The partition of a group's directives: one query shows all of them."""
    return f"{group}#DIRECTIVES"


def pause(group: str) -> Key:
    return Key(directives(group), PAUSE)


def cancel(group: str, run_id: str) -> Key:
    return Key(directives(group), f"{CANCEL}{run_id}")


def maintenance(group: str, name: str) -> Key:
    return Key(directives(group), f"{MAINTENANCE}{name}")


def changed(group: str) -> Key:
    """What a look at the directives reads, and no more where its number is the one that was there before."""
    return Key(directives(group), CHANGED)


def audit(group: str, at: str, what: str) -> Key:
    return Key(f"{group}#AUDIT", f"{at}#{what}")


def defined(group: str) -> Key:
    """What the scheduler reads each minute in place of jobs that have not changed. In the audit trail's partition: who
    may change a job, may write there."""
    return Key(f"{group}#AUDIT", CHANGED)


def hosts(group: str) -> str:
    """The partition of what a group's hosts report."""
    return f"{group}#HOSTS"


def host(group: str, name: str) -> Key:
    return Key(hosts(group), name)


def tick(group: str) -> Key:
    return Key(f"{group}#SCHEDULER", "TICK")


def group(name: str) -> Key:
    return Key(GROUPS, name)


def notice(notice_id: str) -> Key:
    return Key(NOTICES, notice_id)


def job_key(name: str) -> str:
    """The `by-job` partition of a job's history; jobs of one name in two groups share it."""
    return f"JOB#{name}"


def ended_key(day: str, *, failed: bool) -> str:
    """The `by-state` partition of the runs that ended on a day (YYYY-MM-DD, UTC)."""
    return f"{'FAILED' if failed else 'GOOD'}#{day}"


def definition(name: str) -> dict[str, Any]:
    """CreateTable's parameters; the templates in packaging say the same."""
    keys = ("pk", "sk", "job_key", "at", "state_key", "state_at")
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in keys],
        "KeySchema": _key_schema("pk", "sk"),
        "GlobalSecondaryIndexes": [
            {"IndexName": BY_JOB, "KeySchema": _key_schema("job_key", "at"), "Projection": {"ProjectionType": "ALL"}},
            {
                "IndexName": BY_STATE,
                "KeySchema": _key_schema("state_key", "state_at"),
                "Projection": {"ProjectionType": "ALL"},
            },
        ],
    }


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": sort, "KeyType": "RANGE"},
    ]
