"""Do the queue's attributes, the configuration and the policy go together? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.check.finding import Finding, failed, ok, warning
from runner.protocol.units import format_duration

if TYPE_CHECKING:
    from runner.aws.messages import QueueFacts
    from runner.config import Config

# A renewal comes at a third of the lease. What is left must hold a call that hangs until its timeouts, and another.
SLOW_CALLS = 2
ENOUGH_RECEIVES = 5
FEWEST_RECEIVES = 3
"""Below it nothing is ever handed back: that is done while the delivery is below maxReceiveCount - 1."""
SHORT_RETENTION_S = 3600.0
CLOCK_WARNS_S = 5.0
# SigV4 takes a request within five minutes of its time.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
CLOCK_FAILS_S = 240.0
_SET_CLOCK = "set the clock: enable chrony or systemd-timesyncd"


def timing(config: Config, answer_s: float) -> list[Finding]:
    """Poll, lease and hold. ``answer_s`` is how long a call may take before it is given up."""
    queue = config.queue
    visibility, wait = format_duration(queue.visibility), format_duration(queue.wait)
    if queue.visibility <= queue.wait:
        # Counted from the start of the poll, which is when SQS may have granted it at the earliest.
        detail = f"[queue] visibility {visibility} is not longer than wait {wait}: a lease can be over when it arrives"
        return [failed("timing", detail, f"set visibility to at least {format_duration(_shortest(answer_s))}")]
    if queue.visibility < _shortest(answer_s):
        detail = (
            f"[queue] visibility {visibility} is renewed at a third of it and leaves too little time for a call that "
            f"hangs ({format_duration(answer_s)}) and one more: a slow network loses leases, and jobs run twice"
        )
        return [warning("timing", detail, f"set visibility to at least {format_duration(_shortest(answer_s))}")]
    if queue.wait == 0:
        detail = (
            "[queue] wait 0s: each poll comes back at once, and an empty queue is asked once a second: SQS counts, and "
            "costs, 20 times as many requests as with the default"
        )
        return [warning("timing", detail, "set wait to 20s")]
    hold = format_duration(config.admission.hold)
    return [ok("timing", f"visibility {visibility}, wait {wait}, hold {hold} go together")]


def _shortest(answer_s: float) -> float:
    return SLOW_CALLS * answer_s * 3 / 2


def redrive(config: Config, facts: QueueFacts) -> Finding:
    """The redrive policy against the policy chosen."""
    policy = facts.redrive
    remedy = f"set maxReceiveCount of the queue's redrive policy to {ENOUGH_RECEIVES} or more"
    if policy is None:
        rejected = "" if config.queue.dead_letter_url else " a message that cannot be a run is told of and then gone;"
        return warning(
            "redrive",
            f"the queue has no redrive policy:{rejected} one whose host dies under it each time comes back until its "
            "retention ends",
            f"give the queue a dead-letter queue with maxReceiveCount {ENOUGH_RECEIVES} or more",
        )
    count, target = policy.max_receive_count, policy.target_arn.rpartition(":")[2]
    if count == 1:
        detail = (
            "maxReceiveCount 1: a message that comes a second time, because its host died, was stopped or lost the "
            f"lease, goes to {target} instead"
        )
        return warning("redrive", detail, remedy)
    chosen = config.admission.policy
    limited = chosen != "free-for-all" or config.admission.max_jobs > 0
    if count < FEWEST_RECEIVES and limited:
        detail = (
            f'maxReceiveCount {count}: under policy "{chosen}" nothing is ever handed back to a host with more room, '
            "as that would send it to the dead-letter queue"
        )
        return warning("redrive", detail, remedy)
    backs = f", up to {count - 2} hand-backs to other hosts" if limited else ""
    return ok("redrive", f"to {target} after maxReceiveCount {count}{backs}")


def retention(config: Config, facts: QueueFacts, journal_s: float) -> Finding:
    """How long the queue keeps a message, against the journal's memory and the hold."""
    kept, hold = format_duration(facts.retention), config.admission.hold
    if facts.retention >= journal_s:
        detail = f"the queue keeps messages for {kept}, the journal remembers runs for {format_duration(journal_s)}"
        return warning("retention", f"{detail}: an old message could run twice", "shorten the queue's retention")
    if facts.retention <= hold:
        detail = f"the queue keeps messages for {kept}, hold is {format_duration(hold)}: held messages can vanish"
        return warning("retention", detail, "lengthen the queue's MessageRetentionPeriod, or shorten [admission] hold")
    if facts.retention < SHORT_RETENTION_S:
        detail = f"the queue keeps messages for {kept} only: jobs are lost while no host is up for so long"
        return warning("retention", detail, "lengthen the queue's MessageRetentionPeriod, such as to 4 days")
    if facts.fifo and not facts.by_content:
        detail = (
            "FIFO without content-based deduplication: what comes without a deduplication id, as all of EventBridge "
            "Scheduler's does, is refused by the queue, and no host hears of it"
        )
        return warning("fifo", detail, "set the queue's ContentBasedDeduplication to true")
    fifo = "; FIFO: jobs of one message group run one after another, whatever the policy" if facts.fifo else ""
    return ok("retention", f"the queue keeps messages for {kept}{fifo}")


def loops(job_queue: str, results: str, dead_letters: str) -> list[Finding]:
    """Queues by URL that must not be one queue; "" where there is none, or its URL is not known."""
    found = []
    if job_queue and job_queue == results:
        found.append(
            failed("results", f"the results queue is the job queue {job_queue}: events come back as jobs",
                   "create another queue for the results, and name it in [results]")
        )  # fmt: skip
    if job_queue and job_queue == dead_letters:
        found.append(
            failed("dead-letter", f"the dead-letter queue is the job queue {job_queue}: rejected messages never end",
                   "name another queue as [queue] dead_letter_url")
        )  # fmt: skip
    if results and results == dead_letters:
        found.append(
            warning("dead-letter", f"rejected messages go to the results queue {results}, among the events",
                    "give them a queue of their own in [queue] dead_letter_url")
        )  # fmt: skip
    return found


def clock(ahead_s: float | None) -> Finding:
    """This host's clock against AWS's; ``ahead_s`` as `runner.aws.calls.CallStats.clock_ahead`, None: not known."""
    if ahead_s is None:
        return warning("clock", "not compared: no answer of AWS had a date", "check the clock yourself: `timedatectl`")
    off, way = abs(ahead_s), "ahead of" if ahead_s > 0 else "behind"
    if off > CLOCK_FAILS_S:
        return failed("clock", f"{off:.0f} s {way} AWS's; AWS refuses what is 5 minutes off", _SET_CLOCK)
    if off > CLOCK_WARNS_S:
        return warning("clock", f"{off:.0f} s {way} AWS's", _SET_CLOCK)
    return ok("clock", "within 5 s of AWS's")


def region(notes: list[str]) -> Finding | None:
    """What the session had to assume of the region; None where nothing was."""
    for note in notes:
        if "not in the configured region" in note:
            return warning(
                "region",
                f"{note}: the queue is asked where it is, output goes to the configured one",
                "set AWS_REGION to the queue's region if that is not meant",
            )
    return ok("region", "; ".join(notes)) if notes else None
