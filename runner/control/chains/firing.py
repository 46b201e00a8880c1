"""Deals with what the end of a parent's run owes to its job's children: fires them, skips them, lets them wait.

What is owed is written in the transaction that ends the run, and stays there until it is done. Whoever finds it does
it: the recorder at once, the scheduler's minute where that one has died or has failed. Each step can be done again,
and by two at once: what becomes of a child's run is decided once, by a conditional write, before anything is sent; and
a message that is sent twice is one run, since its run id is the same.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from runner.aws.sqs import Outgoing, Queue, batches
from runner.aws.table import Refused, When
from runner.control.chains import upstream
from runner.control.chains.shown import told_of
from runner.control.recording.change import Known, change_run
from runner.control.recording.run_state import attempt_told
from runner.errors import AwsUnavailable, CronRunnerError
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.definition import JobDefinition

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Item = dict[str, Any]

AT_MOST: Final = 5000
"""What is owed and looked at in one call; the others are the next minute's."""
_AT_ONCE: Final = 8
_LONGEST_WAIT_S: Final = 900.0
_AWAY_AFTER: Final = 3
_KEPT_S: Final = keys.CLAIM_KEPT_S
_REFUSED: Final = "SQS never takes it, so this run is left out; correct the job's message: `cron-runner jobs show`"


class NotSent(CronRunnerError):
    """SQS did not take all messages of children; they are owed still."""


async def resend(table: Table, session: Session, *, now: float, within: float) -> dict[str, str]:
    """Deal with all that is owed and due at ``now`` (unix seconds), for some seconds; why not all of it is done, by
    group. Raises AwsUnavailable where the table does not answer."""
    text = "#state_key = :owed AND #state_at <= :now"
    due = await table.query(text, {"owed": keys.OWED, "now": format_time(now)}, index=keys.BY_STATE, limit=AT_MOST)
    if not due:
        return {}
    known = Known()
    groups = {item["group"] for item in due}
    await known.look(table, groups)
    await known.learn(table, [keys.job(item["group"], item["job"]) for item in due])
    # One whose queue is gone holds up no other.
    every = {group: Firing(table, session, known, now=now, within=within) for group in groups}
    await asyncio.gather(
        *(
            firing.settle([keys.children(group, item["run_id"]) for item in due if item["group"] == group])
            for group, firing in every.items()
        )
    )
    return {group: error for firing in every.values() for group, error in firing.failed.items()}


class Firing:
    """One call: what has been done in it, and why not all (``failed``, by group)."""

    def __init__(self, table: Table, session: Session, known: Known, *, now: float, within: float) -> None:
        self.failed: dict[str, str] = {}
        self._table = table
        self._session = session
        self._known = known
        self._now = now
        self._deadline = time.monotonic() + within
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._away = 0

    async def settle(self, owed: Iterable[keys.Key]) -> None:
        """Deal with the children of these ends, and with theirs in their turn."""
        left = list(owed)
        while left:
            found = await asyncio.gather(*(self._carefully(key) for key in left))
            left = [key for more in found for key in more]

    async def _carefully(self, key: keys.Key) -> list[keys.Key]:
        """One end; what else ended by it. Whatever is wrong with it, the others are dealt with."""
        async with self._turns:
            if time.monotonic() > self._deadline or self._away >= _AWAY_AFTER:
                return []
            try:
                item = await self._table.get(key)
                if item is None or item.get("state_key") != keys.OWED:
                    return []
                more = await self._one(key, item)
                self._away = 0
            except Exception as error:  # noqa: BLE001 - as it says above
                self._away += isinstance(error, AwsUnavailable)
                ours = isinstance(error, CronRunnerError)
                self.failed[keys.group_of(key)] = str(error) if ours else f"{type(error).__name__}: {error}"
                log.error("children_not_settled", run=key.pk, error=self.failed[keys.group_of(key)])
                return []
            return more

    async def _one(self, key: keys.Key, owed: Item) -> list[keys.Key]:
        children = await self._known.children(self._table, owed["group"], owed["job"])
        told: dict[str, Item] = {}
        due: list[tuple[JobDefinition, Item]] = []
        more: list[keys.Key] = []
        others = False
        for child in children:
            decided, mine = await self._decided(child, owed)
            run_id = upstream.run_id_of(child, owed)
            told[child.name] = {"run_id": run_id, **({"said": "waits"} if decided is None else told_of(decided))}
            if decided is None:
                continue
            if decided["said"] == "skip":
                more += await self._skip(child, decided)
            elif not decided.get("sent_at"):
                # Another one has decided it just now, and sends it; if not, this is looked at again.
                waits = not mine and self._now - parse_time(decided["at"]) < upstream.FIRST_TRY_S
                others = others or waits
                due += [] if waits else [(child, decided)]
        error = await self._send(owed["group"], due)
        await self._write_down(key, owed, told, done=error is None and not others)
        if error is not None:
            raise error
        return more

    async def _decided(self, child: JobDefinition, owed: Item) -> tuple[Item | None, bool]:
        """What is decided of the child's run, as the table has it then, and whether that was done here; None while it
        waits."""
        ends = await self._ends(child, owed)
        found = upstream.verdict(child, ends)
        run = upstream.run_part(child, owed, ends)
        key = keys.decided(child.group, run["run_id"])
        if found.says == "wait":
            return await self._table.get(key), False  # decided before its parents were others
        change = "SET #said = :said, #why = :why, #run = :run, #job = :job, #at = :at, #expires_at = :expires"
        values: Item = {"said": found.says, "why": list(found.why), "run": run, "job": child.name}
        values |= {"at": format_time(self._now), "expires": int(self._now + max(child.retention, _KEPT_S))}
        # Fired is fired; and a skip is told as it was told first.
        free = When("attribute_not_exists(#said)")
        if found.says == "fire":
            free = When("attribute_not_exists(#said) OR #said = :skip", {"skip": "skip"})
        item = await self._table.update(key, change, values, free)
        return (await self._table.get(key), False) if isinstance(item, Refused) else (item, True)

    async def _ends(self, child: JobDefinition, owed: Item) -> dict[str, Mapping[str, Any]]:
        """How the child's parents have ended, this one among them."""
        mine = {"run_id": owed["run_id"], "state": owed["state"]}
        if len(child.after) == 1:
            return {owed["job"]: mine}
        run_id = upstream.run_id_of(child, owed)
        # Behind this write whoever comes last sees all. An earlier end of the same run is no news any more.
        newer = When(
            "attribute_not_exists(#number) OR #number <= :number OR #run_id <> :run_id",
            {"number": owed["number"], "run_id": owed["run_id"]},
        )
        item = {**keys.parent(child.group, run_id, owed["job"]).attributes(), **mine, "number": owed["number"]}
        expires = int(self._now + max(child.retention, _KEPT_S))
        await self._table.put({**item, keys.EXPIRES: expires}, newer)
        text = "#pk = :pk AND begins_with(#sk, :parent)"
        items = await self._table.query(text, {"pk": item["pk"], "parent": keys.PARENT}, consistent=True)
        return {str(one["sk"]).removeprefix(keys.PARENT): one for one in items}

    async def _skip(self, child: JobDefinition, decided: Item) -> list[keys.Key]:
        """Tell that the child's run does not happen; with that it has ended, for its own children."""
        run = decided["run"]
        why, at = (str(decided["why"][0]), str(decided["why"][1])), parse_time(decided["at"])
        told = upstream.skipped(child, run, why, at)
        sk = keys.attempt(child.group, run["run_id"], told.execution, told.attempt).sk

        def fold(attempts: dict[str, Item]) -> None:
            attempts[sk] = attempt_told(attempts.get(sk), told)

        await change_run(self._table, self._known, child.group, run["run_id"], fold, now=self._now)
        if self._known.links.children(child.group, child.name):
            return [keys.children(child.group, run["run_id"])]
        return []

    async def _send(self, group: str, due: list[tuple[JobDefinition, Item]]) -> Exception | None:
        """Send the messages of children that are fired; why some of them could not be."""
        if not due:
            return None
        if group not in self._known.groups:
            return NotSent(f"cannot fire what is after a job of group {group}: the group is not in the table")
        queue = Queue(self._session, url=self._known.groups[group].queue, sends_as="enqueue")
        by_id = {str(decided["run"]["run_id"]): (child, decided) for child, decided in due}
        messages = [_outgoing(child, decided["run"], fifo=queue.fifo) for child, decided in due]
        refused: list[str] = []
        try:
            for batch in batches(messages, lambda message: len(message.body)):
                failed = {batch[one.index].id: one for one in await queue.send(batch)}
                refused += [run_id for run_id, one in failed.items() if not one.sender_fault]
                for run_id in (message.id for message in batch if message.id not in refused):
                    if run_id in failed:
                        log.error("message_refused", group=group, run_id=run_id, detail=_REFUSED)
                    await self._sent(*by_id[run_id])
        except AwsUnavailable as error:
            return error
        if refused:
            return NotSent(f"cannot enqueue {len(refused)} messages on {queue.label}: SQS refused them")
        return None

    async def _sent(self, child: JobDefinition, decided: Item) -> None:
        key = keys.decided(child.group, decided["run"]["run_id"])
        at = {"at": format_time(self._now), "fire": "fire"}
        await self._table.update(key, "SET #sent_at = :at", at, When("#said = :fire"))

    async def _write_down(self, key: keys.Key, owed: Item, told: Item, *, done: bool) -> None:
        """What has become of the children, and that nothing is owed any more; unless the run has ended otherwise since
        then, and what is owed is another thing."""
        ours = When("#number = :number AND attribute_exists(#state_key)", {"number": owed["number"]})
        if done:
            await self._table.update(key, "SET #children = :told REMOVE #state_key, #state_at", {"told": told}, ours)
            return
        tries = owed["tries"] + 1
        again = format_time(self._now + min(_LONGEST_WAIT_S, upstream.FIRST_TRY_S * 2.0 ** (tries - 1)))
        change = "SET #children = :told, #tries = :tries, #state_at = :again"
        await self._table.update(key, change, {"told": told, "tries": tries, "again": again}, ours)


def _outgoing(child: JobDefinition, run: Mapping[str, Any], *, fifo: bool) -> Outgoing:
    run_id = str(run["run_id"])
    return Outgoing(
        id=run_id,
        body=upstream.message_after(child, run),
        group_id=child.name if fifo else None,
        dedup_id=run_id if fifo else None,
    )
