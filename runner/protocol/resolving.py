"""From what a message said to the job that runs: declarations, defaults, and what is not allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn, Protocol, TypeVar

from runner.protocol import fields, params, secret_reference
from runner.protocol.invalid import Faults, InvalidMessage, Reason
from runner.protocol.job import Command, Defaults, Job, Limits, Resources, Retries, Success
from runner.protocol.specification import LOWEST_NICE, SHARED, Declaration, Message, Specification
from runner.protocol.suggest import nearest, shown

T = TypeVar("T")

# With commands = "declared" the queue can choose among jobs and nothing else, so all but this is ours.
_OPEN_TO_MESSAGES: Final = frozenset({"labels", "args", "env"})
_CLOSED_TO_MESSAGES: Final = tuple(name for name in SHARED if name not in _OPEN_TO_MESSAGES)

_NO_RESOURCES: Final = Resources()
_NO_SECRETS: Final[Mapping[str, str]] = {}
_NO_LIMITS: Final = Limits()
_NO_RETRIES: Final = Retries()
_PLAIN_SUCCESS: Final = Success()


def permit(table: Mapping[str, object], *, defaults: Defaults, declarations: Mapping[str, Declaration]) -> None:
    """Refuse what this host lets no message say, before any of it is looked at: that is work for nobody.

    `table` is a message as it came. Raises InvalidMessage, reason "not_allowed".
    """
    _check_group(table.get("group"), defaults)
    if "job" not in table and defaults.commands == "declared":
        fields.refuse("job", "is missing; every message names its job")
    try:
        name = fields.job_name("job", table.get("job"))
    except InvalidMessage:
        if defaults.commands == "declared":
            raise
        name = ""  # told with whatever else is wrong
    declaration = declarations.get(name)
    if declaration is not None:
        _check_declared(table, declaration)
        return
    if name and defaults.commands == "declared":
        _refuse_undeclared(name, declarations)
    faults = Faults("not_allowed")
    try:
        if isinstance(user := table.get("user"), str) and user:
            _check_user(user, defaults)
    except InvalidMessage as error:
        faults.add(error)
    try:
        if type(nice := table.get("nice")) is int and nice >= LOWEST_NICE:
            _check_nice(nice, defaults)
    except InvalidMessage as error:
        faults.add(error)
    _check_secrets(table.get("secrets"), defaults, faults)
    faults.settle()


class Seal(Protocol):
    """Who has signed a message. `kept` is its envelope, None where that is too large."""

    @property
    def kept(self) -> Mapping[str, object] | None: ...

    def allow(self, job: str, user: str) -> str:
        """The id of the key that lets the job run as that user; raises InvalidMessage where none may."""


def resolve(
    message: Message,
    *,
    message_id: str,
    defaults: Defaults,
    declarations: Mapping[str, Declaration],
    seal: Seal | None = None,
) -> Job:
    """The job that a message asks for, on a host with these defaults and declarations.

    `message_id` names the run where the message does not. Raises InvalidMessage: reason "not_allowed" where
    the host refuses what another might run, else "invalid".
    """
    run_id = message.run_id or fields.run_id("run_id", message_id)
    declaration = declarations.get(message.job)
    labels = {**((declaration and declaration.labels) or {}), **(message.labels or {})}
    try:
        _check_group(message.group, defaults)
        if declaration is None:
            return _undeclared(message, run_id, labels, defaults, declarations, seal)
        return _declared(message, run_id, labels, defaults, declaration, seal)
    except InvalidMessage as error:
        error.job, error.run_id = message.job, run_id
        error.labels, error.scheduled_at = labels, message.scheduled_at
        error.traceparent = message.traceparent
        raise


def _undeclared(
    message: Message,
    run_id: str,
    labels: Mapping[str, str],
    defaults: Defaults,
    declarations: Mapping[str, Declaration],
    seal: Seal | None,
) -> Job:
    if defaults.commands == "declared":
        _refuse_undeclared(message.job, declarations)
    said = {name: value for name in ("job", "command", "args") if (value := getattr(message, name)) is not None}
    for name, why in incomplete(said, declarations).items():
        _refuse("invalid", name, why)
    argv = _argv(message.command or (), (), message.job, defaults.shell)
    user = _user(message, defaults)
    faults = Faults("not_allowed")
    _check_secrets(message.secrets, defaults, faults)
    faults.settle()
    env = {**defaults.env, **message.env} if message.env else defaults.env
    return _job(message, message, run_id, argv, env, user, labels, defaults, seal)


def incomplete(said: Mapping[str, object], declarations: Mapping[str, Declaration]) -> Mapping[str, str]:
    """What a message lacks, or has too much, where this host does not declare its job: why, by fields."""
    job = said.get("job")
    if not isinstance(job, str) or job in declarations:
        return {}
    wrong = {}
    if "command" not in said:
        wrong["command"] = (
            f"is missing, and this host declares no job {shown(job)}"
            f"{_meant(job, declarations)}; give the command or declare the job"
        )
    if "args" in said:
        wrong["args"] = "belongs to a declared job; put the arguments into command"
    return wrong


def _declared(
    message: Message,
    run_id: str,
    labels: Mapping[str, str],
    defaults: Defaults,
    declaration: Declaration,
    seal: Seal | None,
) -> Job:
    said = {name: value for name in SHARED if (value := getattr(message, name)) is not None}
    _check_declared(said, declaration)
    if declaration.command is None:
        _refuse("invalid", "command", f"is missing in [jobs.{declaration.name}] on this host")
    words, variables = params.received(declaration.params, message.args, message.env)
    if words:
        args = (*(declaration.args or ()), *words)
    else:
        # The declaration's own args are what its command gets when the message gives none.
        args = message.args if message.args is not None else declaration.args or ()
    argv = _argv(declaration.command, args, message.job, defaults.shell)
    user = _user(declaration, defaults)
    env = {**defaults.env, **(declaration.env or {}), **(message.env or {}), **variables}
    return _job(message, declaration, run_id, argv, env, user, labels, defaults, seal)


def _refuse_undeclared(job: str, declarations: Mapping[str, Declaration]) -> NoReturn:
    _refuse(
        "not_allowed",
        "job",
        f'"{job}" is not declared on this host, and [run] commands = "declared"'
        f"{_meant(job, declarations)}; declare it as [jobs.{job}]",
    )


def _check_declared(said: Mapping[str, object], declaration: Declaration) -> None:
    """`said` are the fields of a message, read or as they came."""
    where = f"[jobs.{declaration.name}]"
    faults = Faults("not_allowed")
    why = (
        f"a message cannot set this, because this host declares the job as {where}; it may set"
        " run_id, scheduled_at, not_after, labels, and args and env as far as the declaration allows"
    )
    for name in _CLOSED_TO_MESSAGES:
        if name in said:
            faults.add(InvalidMessage(f"{name}: {why}"))
            why = "nor this"
    most = params.arguments(declaration.params)
    if "args" in said and not declaration.allow_args and not most:
        faults.add(InvalidMessage(f"args: {where} takes no arguments; say allow_args = true there"))
    elif most and isinstance(given := said.get("args"), list | tuple) and len(given) > most:
        faults.add(
            InvalidMessage(f"args: are {len(given)}, and {where} has parameters for {most}; leave the others out")
        )
    env = said.get("env")
    variables = params.variables(declaration.params)
    for name in env if isinstance(env, Mapping) else ():
        if name not in declaration.allow_env and name not in variables:
            path = f"env.{fields.printable(name)}"
            faults.add(InvalidMessage(f"{path}: {where} does not allow it; add it to allow_env there"))
    faults.settle()


def _argv(command: Command, args: tuple[str, ...], job: str, shell: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(command, str):
        return (*command, *args)
    # `sh -c COMMAND NAME ARG…`: the word after the command is $0, the rest is "$@".
    return (*shell, command, job, *args) if args else (*shell, command)


def _user(said: Specification, defaults: Defaults) -> str:
    user = said.user or defaults.user
    _check_user(user, defaults)
    return user


def _check_group(group: object, defaults: Defaults) -> None:
    if isinstance(group, str) and group and defaults.group not in ("", group):
        _refuse(
            "not_allowed",
            "group",
            f'{shown(group)} is another group, and this host is of "{defaults.group}"; send it to its queue',
        )


def _check_nice(nice: int | None, defaults: Defaults) -> None:
    if nice is not None and nice < defaults.min_nice:
        _refuse(
            "not_allowed",
            "nice",
            f"{nice} is below {defaults.min_nice}, the lowest that this host allows; set [run] min_nice there",
        )


def _check_secrets(secrets: object, defaults: Defaults, faults: Faults) -> None:
    """`secrets` as they came, or read."""
    if not isinstance(secrets, Mapping) or len(secrets) > secret_reference.MOST:
        return
    for name, reference in secrets.items():
        if not isinstance(reference, str) or secret_reference.allowed(reference, defaults.allowed_secrets):
            continue
        try:
            secret_reference.parse(reference)
        except ValueError:
            continue  # told with whatever else is wrong, and not shown
        path = f"secrets.{fields.printable(name)}"
        why = "may not be named by a message on this host; add it to [run] allowed_secrets"
        faults.add(InvalidMessage(f"{path}: {shown(reference)} {why}", reason="not_allowed"))


def _check_user(user: str, defaults: Defaults) -> None:
    if user != defaults.user and user not in defaults.allowed_users:
        quoted = shown(user)
        _refuse("not_allowed", "user", f"{quoted} may not run jobs on this host; add it to [run] allowed_users")


def _job(
    message: Message,
    said: Specification,
    run_id: str,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    user: str,
    labels: Mapping[str, str],
    defaults: Defaults,
    seal: Seal | None,
) -> Job:
    """`said` is the message, or the declaration of the job that it names."""
    _check_nice(said.nice, defaults)
    return Job(
        job=message.job,
        run_id=run_id,
        argv=argv,
        command=said.command if isinstance(said.command, str) else argv,
        env=env,
        cwd=_or(said.cwd, defaults.cwd),
        user=user,
        unix_group=said.unix_group,
        umask=said.umask,
        nice=said.nice,
        stdin=said.stdin,
        timeout=_or(said.timeout, defaults.timeout),
        grace=_or(said.grace, defaults.grace),
        stop_signal=_or(said.stop_signal, "TERM"),
        resources=_or(said.resources, _NO_RESOURCES),
        limits=_or(said.limits, _NO_LIMITS),
        retries=_or(said.retries, _NO_RETRIES),
        overlap=_or(said.overlap, "allow"),
        success=_or(said.success, _PLAIN_SUCCESS),
        no_output_timeout=said.no_output_timeout,
        min_duration=said.min_duration,
        scheduled_at=message.scheduled_at,
        not_after=message.not_after,
        ack=_or(said.ack, "on-finish"),
        labels=labels,
        declared=isinstance(said, Declaration),
        traceparent=message.traceparent,
        signed_by=None if seal is None else seal.allow(message.job, user),
        envelope=None if seal is None else seal.kept,
        secrets=said.secrets or _NO_SECRETS,
    )


def _or(said: T | None, default: T) -> T:
    return default if said is None else said


def _meant(job: str, declarations: Mapping[str, Declaration]) -> str:
    near = nearest(job, declarations)
    return f' (did you mean "{near}"?)' if near else ""


def _refuse(reason: Reason, path: str, text: str) -> NoReturn:
    """Raise InvalidMessage for the field at `path`."""
    raise InvalidMessage(f"{path}: {text}", reason=reason)
