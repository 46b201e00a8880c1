"""The errors of cron-runner: one tree, so that a command can turn any of them into one line and an exit code.

Every text says what cannot be done, why, and what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.protocol.invalid import InvalidMessage


class CronRunnerError(Exception):
    """Something that cron-runner knows how to explain; ``str()`` is fit for stderr as it is."""

    # Of a command that ends with it: cron-runner itself failed, as against a job that it ran.
    exit_status = 125


class WrongUsage(CronRunnerError):
    """Words of the command line that do not go together, or a value that cannot be."""

    exit_status = 2


class NotThere(CronRunnerError):
    """What was named is not there: a run, a job, a group."""

    exit_status = 1


class ConfigError(CronRunnerError):
    """The configuration cannot be used.

    ``faults`` holds every fault that was found, each on one line and each naming the file (or the
    environment variable) and the key, so that one look mends them all.
    """

    # EX_CONFIG of sysexits.h: systemd does not start the unit again (RestartPreventExitStatus=), for nothing mends it.
    exit_status = 78

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return f"cannot use the configuration: {self.faults[0]}"
        lines = "".join(f"\n  {fault}" for fault in self.faults)
        return f"cannot use the configuration: {len(self.faults)} faults{lines}"


class JobFilesInvalid(CronRunnerError):
    """Job files that cannot be applied; ``faults`` are all of them, each naming file, job and field."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return f"cannot use the job files: {self.faults[0]}"
        lines = "".join(f"\n  {fault}" for fault in self.faults)
        return f"cannot use the job files: {len(self.faults)} faults{lines}"


class SupervisorUnavailable(CronRunnerError):
    """The supervisor cannot be reached or started, or speaks another version of its protocol."""


class Refused(CronRunnerError):
    """The agent will not do what it was asked for; ``code`` is its word for why: ``invalid``, ``not_allowed``…"""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


class JournalError(CronRunnerError):
    """The journal cannot be opened, read or committed; nothing may be accepted while that lasts."""


class AwsUnavailable(CronRunnerError):
    """An AWS call failed. Most failures are waited out; ``kind`` tells those that need an operator.

    Args:
        call: the API action, such as ``ReceiveMessage``.
        code: the error code AWS gave (``ThrottlingException``), or the name of the client's exception.
        detail: AWS's or the client's own words.
        kind: a word for the class of failure, chosen by `runner.aws`: ``throttled``, ``credentials``…
    """

    def __init__(self, call: str, code: str, detail: str, kind: str = "other") -> None:
        self.call = call
        self.code = code
        self.detail = detail
        self.kind = kind
        super().__init__(call, code, detail, kind)

    def __str__(self) -> str:
        return f"cannot call {self.call}: {self.code}: {self.detail}"


class NoSuchQueue(AwsUnavailable):
    """The queue does not exist, or not yet; it is waited for like any other absence."""

    def __init__(self, call: str, code: str, detail: str, kind: str = "no_such_queue") -> None:
        super().__init__(call, code, detail, kind)


class MessageRejected(CronRunnerError):
    """The message that a command was given cannot be a run; ``fault`` says why."""

    def __init__(self, fault: InvalidMessage) -> None:
        self.fault = fault
        super().__init__(f"cannot run the message: {fault.detail}")


def explained(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to raise for a task group that failed: the error that a person can act on, where there is nothing worse."""
    expected, rest = group.split(CronRunnerError)
    if rest is not None or expected is None:
        return group
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
