"""The outbox: committed events on their way to the results queue.

Events come here after their commit and stay in the journal until the queue has accepted them, so a crash loses none.
In memory there is at most one window of them, however long the results queue is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

import structlog

from runner.agent.journal.outgoing import Unsent
from runner.aws.backoff import retrying
from runner.aws.messages import BATCH_ENTRIES, NEVER_TAKEN
from runner.aws.sqs import Failed, Outgoing, Queue, batches
from runner.errors import AwsUnavailable
from runner.protocol.shorten import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runner.agent.journal.runs import Journal

log = structlog.get_logger()

WINDOW = 1_000
LINGER_S = 0.05
"""How long an event waits for others to fill a batch with: a call costs the same for one as for ten."""
RETRY_S = 1.0
# How long a message waits for its finished event to be accepted elsewhere than in the journal.
PATIENCE_S = 60.0
# What is left of an event that the results queue finds too large, at each further try.
SHORTER = (64 * 1024, 8 * 1024, 2 * 1024)


class Outbox:
    """Sends in batches, for ever, with backoff. Without a results queue events go to the agent's log."""

    def __init__(
        self,
        journal: Journal,
        queue: Queue | None,
        *,
        now: Callable[[], float] = time.time,
        patience: float | None = None,
    ) -> None:
        self._journal = journal
        self._queue = queue
        self._now = now
        self._patience = PATIENCE_S if patience is None else patience
        self._position = 0
        self._behind = False
        self._window: deque[Unsent] = deque()
        self._wake = asyncio.Event()
        self._wake.set()  # what an agent before us has left is sent without a word from anybody
        self._fresh = 0  # committed since the journal was last read
        self._enough = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._awaited: dict[str, Unsent] = {}  # those of them that were just made: a journal may be lost
        self._marking: set[str] = set()  # accepted, and not marked so in the journal yet
        self._refused: dict[str, int] = {}
        self._overtaken: set[str] = set()
        self._sending = 0
        self._flying: list[Unsent] = []
        self._hurried = False
        self.failing_since: float | None = None
        self.failing_by = ""

    def committed(self, events: int = 1) -> None:
        """So many new events are in the journal."""
        self._fresh += events
        self._wake.set()
        if self._fresh + len(self._window) >= BATCH_ENTRIES:
            self._enough.set()

    def accepted(self, event_id: str, event: Unsent | None = None) -> asyncio.Future[None]:
        """Resolves when the results queue has accepted this event, or is not waited for any more.

        It is not when the queue has been away for `patience` seconds, or the agent is stopping: then the journal is
        enough to delete a message. Ask before the event's commit, and give it: it is kept until then, beside the
        journal.
        """
        future = self._waiting.get(event_id)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            if self._impatient:
                future.set_result(None)
            else:
                self._waiting[event_id] = future
                if event is not None:
                    self._awaited[event_id] = event
        return future

    async def delivered(self, execution: str) -> None:
        """Wait for the acceptance of an end that the journal has, as `accepted` does, whoever recorded it and whether
        it is on its way already."""
        final = await self._journal.final_event(execution)
        if final is None:
            return
        event_id = final[0]
        # From here on the outbox tells us; what it did before is marked, or is about to be.
        future, marking = self.accepted(event_id), event_id in self._marking
        if marking or await self._journal.was_sent(event_id):
            self._taken(event_id)
        await future

    def hurry(self) -> None:
        """The agent is stopping: nobody waits for acceptance any more."""
        self._hurried = True
        self._enough.set()
        self._release()

    @property
    def _impatient(self) -> bool:
        away = 0.0 if self.failing_since is None else time.monotonic() - self.failing_since
        return self._hurried or away > self._patience

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._awaited.clear()
        for future in waiting.values():
            if not future.done():
                future.set_result(None)

    def again(self, event: Unsent) -> asyncio.Future[None]:
        """Send a recorded event once more, under its id, to answer a late redelivery."""
        future = self.accepted(event.id)
        self._window.append(event)
        self._wake.set()
        return future

    async def run(self) -> None:
        """The outbox's task."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while await self._fill():
                if len(self._window) < BATCH_ENTRIES:
                    await self._gather()
                    await self._fill()
                await self._send_window()

    async def _gather(self) -> None:
        """Wait for a full batch, but not for long."""
        self._enough.clear()
        if self._hurried or self._fresh + len(self._window) >= BATCH_ENTRIES:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._enough.wait()

    async def flush(self, within: float) -> bool:
        """Wait until everything committed so far is delivered, at most `within` seconds. True when it is."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if not self._sending and not self._window and not await self._journal.unsent_count():
                return True
            self._wake.set()
            await asyncio.sleep(0.05)
        return False

    @property
    def undelivered(self) -> Iterable[Unsent]:
        """What is on its way, and what is waited for before it is."""
        there = (*self._flying, *self._window)
        known = {event.id for event in there}
        return (*there, *(event for event in self._awaited.values() if event.id not in known))

    def rescan(self) -> None:
        """Older events than those already read have become ours."""
        self._behind = True
        self._wake.set()

    async def _fill(self) -> bool:
        if self._behind and not self._window:
            # Nothing is in flight here, and what was accepted is marked before this is read.
            self._behind, self._position = False, 0
        self._fresh = 0
        if len(self._window) < WINDOW:
            fresh = await self._journal.unsent(self._position, WINDOW - len(self._window))
            if fresh:
                self._position = fresh[-1].position
                self._window.extend(fresh)
        return bool(self._window)

    async def _send_window(self) -> None:
        """Send full batches; what is left over goes when it has waited for more."""
        count = len(self._window)
        events = [self._window.popleft() for _ in range(count - count % BATCH_ENTRIES or count)]
        self._sending, self._flying = len(events), events
        try:
            if self._queue is None:
                for event in events:
                    log.info("run_event", body=event.body)
                self._done([event.id for event in events])
                return
            for turn in turns([self._outgoing(index, event) for index, event in enumerate(events)]):
                for batch in batches(turn, lambda entry: len(entry.body)):
                    await self._send(self._in_order(batch, events), events)
        finally:
            self._sending, self._flying = 0, []
            self._overtaken.clear()

    def _in_order(self, batch: Sequence[Outgoing], events: Sequence[Unsent]) -> list[Outgoing]:
        """What may be sent now: an event whose group has one that was not taken waits behind that."""
        late = [entry for entry in batch if entry.group_id in self._overtaken]
        self._window.extend(events[int(entry.id)] for entry in late)
        return [entry for entry in batch if entry not in late]

    def _outgoing(self, index: int, event: Unsent) -> Outgoing:
        if self._queue is None or not self._queue.fifo:
            return Outgoing(id=str(index), body=event.body)
        # Events of one run stay in order, and the event's own id drops repeats.
        return Outgoing(id=str(index), body=event.body, group_id=event.subject or "agent", dedup_id=_dedup(event.id))

    async def _send(self, batch: Sequence[Outgoing], events: Sequence[Unsent]) -> None:
        if not batch:
            return
        failures = await self._offer(batch)
        if failures is None and len(batch) > 1:
            # The queue refuses the call as a whole, for the sake of some entry: find it.
            for entry in batch:
                await self._send([entry], events)
            return
        if failures is None:
            self._put_back(batch[0], self._shortened(events[int(batch[0].id)], "too large"))
            return
        refused = {failure.index: failure for failure in failures}
        self._done([events[int(entry.id)].id for index, entry in enumerate(batch) if index not in refused])
        wait = False
        for index, failure in refused.items():
            event = events[int(batch[index].id)]
            if failure.code in NEVER_TAKEN:
                self._put_back(batch[index], self._shortened(event, failure.code))
                continue
            log.warning("event_not_taken", id=event.id, code=failure.code)
            self._put_back(batch[index], event)
            wait = True
        if wait:
            if len(refused) == len(batch):
                self._away(time.monotonic(), f"{failures[0].code}: {failures[0].detail}")
            await asyncio.sleep(RETRY_S)

    def _put_back(self, entry: Outgoing, event: Unsent | None) -> None:
        """To be sent again, before whatever follows it in its group."""
        if event is not None:
            self._window.append(event)
            if entry.group_id is not None:
                self._overtaken.add(entry.group_id)

    async def _offer(self, batch: Sequence[Outgoing]) -> list[Failed] | None:
        """Send until the queue answers; None where it will never take this batch."""
        queue = self._queue
        failures: list[Failed] = []
        since = time.monotonic()
        async for attempt in retrying(on_failure=lambda error, _: self._away(since, str(error))):
            with attempt:
                try:
                    failures = await queue.send(batch) if queue else []
                except AwsUnavailable as error:
                    if error.code.rpartition(".")[2] in NEVER_TAKEN:
                        return None
                    raise
        if len(failures) < len(batch):
            self.failing_since = None
        return failures

    def _away(self, since: float, error: str) -> None:
        """The queue takes nothing, since the first call that was not answered well (time.monotonic) began."""
        if self.failing_since is None:
            self.failing_since = since
            log.warning("results_unavailable", error=error)
        self.failing_by = error
        if self._impatient:
            self._release()

    def _done(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        self._marking.update(ids)
        marked = self._journal.sent(ids, self._now())
        marked.add_done_callback(lambda _: self._marking.difference_update(ids))
        for id_ in ids:
            self._refused.pop(id_, None)
            self._taken(id_)

    def _taken(self, event_id: str) -> None:
        self._awaited.pop(event_id, None)
        future = self._waiting.pop(event_id, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _shortened(self, event: Unsent, code: str) -> Unsent | None:
        """The queue will never take this body: a shorter one; None, loudly, where the shortest was too long."""
        tries = self._refused.get(event.id, 0)
        if tries >= len(SHORTER):
            log.error("event_refused", id=event.id, code=code, body=event.body)
            self._done([event.id])
            return None
        self._refused[event.id] = tries + 1
        log.warning("event_shortened", id=event.id, code=code, bytes=SHORTER[tries])
        envelope = json.loads(event.body)
        body = shorten(envelope, envelope["data"], SHORTER[tries])
        return Unsent(event.position, event.id, event.execution, event.subject, body)


def turns(entries: Sequence[Outgoing]) -> list[list[Outgoing]]:
    """The first events of all groups, then their second ones, and so on.

    A batch of a FIFO queue may be taken in part: two events of one group in it could change places. Without groups
    everything is one turn.
    """
    seen: Counter[str] = Counter()
    found: list[list[Outgoing]] = []
    for entry in entries:
        turn = 0
        if entry.group_id is not None:
            turn = seen[entry.group_id]
            seen[entry.group_id] += 1
        if turn == len(found):
            found.append([])
        found[turn].append(entry)
    return found


def _dedup(event_id: str) -> str:
    """MessageDeduplicationId takes 128 of the characters that an event id has."""
    return event_id[-128:]
