"""The lines of a crontab as jobs of a file, with what is to be said of each. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.control.crontab.lines import Entry, Unsaid, read
from runner.control.crontab.names import named
from runner.control.notices.notify import parse_notify
from runner.control.timetable.schedule import parse_schedule, parse_timezone
from runner.protocol import fields
from runner.protocol.invalid import InvalidMessage
from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT_SHELLS: Final = ("/bin/sh", "sh")
_OF_CRON: Final = frozenset(("SHELL", "MAILTO", "CRON_TZ", "RANDOM_DELAY"))
"""What becomes something else than a variable."""
_OF_MAIL: Final = frozenset(("MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING"))
_NOT_SETTABLE: Final = "LOGNAME"
_SECRET: Final = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|_KEY$|_PWD$", re.IGNORECASE)
_RELATIVE: Final = re.compile(r"(?:^|[\s;&|(>])(?:\.{1,2}/|[A-Za-z0-9_][A-Za-z0-9_.-]*/)")
_URLS: Final = re.compile(r"[A-Za-z]+://\S+")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the crontab does not say: where its times are, who runs it, who is told (None: as MAILTO says)."""

    timezone: str
    with_user: bool = False
    user: str | None = None
    cwd: str | None = None
    notify: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the file, or none: then ``notes`` say why. ``fields`` are as the file has them."""

    number: int
    text: str
    name: str | None
    fields: dict[str, Any]
    notes: tuple[str, ...]


def jobs_of(text: str, asked: Asked) -> list[Job]:
    """Each line that runs something, in its order."""
    found: list[Job] = []
    taken: set[str] = set()
    told: set[str] = set()
    for line in read(text, with_user=asked.with_user):
        if isinstance(line, Unsaid):
            found.append(Job(line.number, line.text, None, {}, (line.why,)))
            continue
        job = _job(line, asked, taken, told)
        if job.name is not None:
            taken.add(job.name)
        found.append(job)
    return found


def _job(line: Entry, asked: Asked, taken: set[str], told: set[str]) -> Job:
    """``told`` is what was said of variables: they hold for many lines, and it is said once."""
    notes: list[str] = []
    variables = dict(line.variables)
    timezone = _timezone(variables, asked.timezone, notes)
    try:
        parse_schedule(line.schedule, timezone)
    except ValueError:  # its fields are good ones
        return Job(line.number, line.text, None, {}, (*line.notes, "never comes: none of its months has such a day"))
    said: dict[str, Any] = {"schedule": line.schedule}
    if timezone != asked.timezone:
        said["timezone"] = timezone
    if splay := _splay(variables, notes):
        said["splay"] = splay
    said["command"] = _command(line.command, variables)
    if line.stdin is not None:
        said["stdin"] = line.stdin
    user = line.user or asked.user
    if user is not None:
        said["user"] = user
    place, where = _place(line.command, variables, asked)
    said |= place
    if env := _env(variables, notes):
        said["env"] = env
    if (notify := _notify(variables.get("MAILTO"), asked, notes)) is not None:
        said["notify"] = notify
    fresh = [note for note in notes if note not in told]
    told.update(fresh)
    name = named(line.comment, line.command, line.number, taken)
    return Job(line.number, line.text, name, said, (*line.notes, *where, *fresh))


def _timezone(variables: dict[str, str], default: str, notes: list[str]) -> str:
    if "CRON_TZ" not in variables:
        return default
    try:
        timezone = parse_timezone(variables["CRON_TZ"])
    except ValueError as error:
        notes.append(f"CRON_TZ: {error}; {default} is taken")
        return default
    notes.append("CRON_TZ is taken as the time zone, as cronie has it; Debian's cron passes over it")
    return timezone


def _splay(variables: dict[str, str], notes: list[str]) -> str:
    """RANDOM_DELAY of cronie, in minutes."""
    said = variables.get("RANDOM_DELAY", "")
    if not said.isdigit() or not 0 < int(said) <= 1440:
        if said and said.strip("0"):
            notes.append(f"RANDOM_DELAY={shown(said)} is no number of minutes up to a day, and left out")
        return ""
    notes.append("RANDOM_DELAY is a splay here: a delay within it that is always the same; Debian's cron has none")
    return f"{int(said)}m"


def _command(command: str, variables: dict[str, str]) -> str | list[str]:
    shell = variables.get("SHELL", _DEFAULT_SHELLS[0])
    return command if shell in _DEFAULT_SHELLS else [shell, "-c", command]


def _place(command: str, variables: dict[str, str], asked: Asked) -> tuple[dict[str, Any], list[str]]:
    """Where it starts, and what there is to say of that: cron goes to $HOME."""
    home = variables.get("HOME", "")
    if home.startswith("/"):
        return {"cwd": home}, []
    if asked.cwd is not None:
        return {"cwd": asked.cwd}, []
    if _RELATIVE.search(_URLS.sub("", command)):
        return {}, ["names a relative path, and cron starts it in the user's home directory, a host in /: say cwd"]
    return {}, []


def _env(variables: dict[str, str], notes: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in variables.items():
        if name in _OF_CRON:
            continue
        if name in _OF_MAIL:
            notes.append(f"{name} is about cron's mail, and left out")
        elif name == _NOT_SETTABLE:
            notes.append(f"{name} is the user's own name for cron, whatever is said, and left out")
        else:
            try:
                found[fields.env_name("env", name)] = fields.word("env", value)
            except InvalidMessage as error:
                notes.append(f"{shown(name)} is left out: {error.faults[0].removeprefix('env: ')}")
                continue
            if _SECRET.search(name):
                notes.append(
                    f"{name} looks like a secret, and the table would keep it: fetch it with `secrets` instead"
                )
    return found


def _notify(mailto: str | None, asked: Asked, notes: list[str]) -> str | list[str] | None:
    """Who is told; None where the crontab does not say, and the group's are."""
    if mailto is None:
        return list(asked.notify) if asked.notify else None
    addresses = [address for address in re.split(r"[,\s]+", mailto) if address]
    if not addresses:
        return []
    if asked.notify:
        return list(asked.notify)
    targets = [f"${{ssm:/cron-runner/mailto/{_parameter(address)}}}" for address in addresses]
    parse_notify("notify", targets)
    notes.append(
        f"MAILTO={mailto}: cron mails what a job writes, here people are told when it fails; put a webhook's URL into"
        f" the parameter {targets[0][6:-1]}, or say --notify with an SNS topic that mails to them"
    )
    return targets[0] if len(targets) == 1 else targets


def _parameter(address: str) -> str:
    """An address as the name of a parameter."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", address.replace("@", "-at-"))


def users_of(jobs: Sequence[Job]) -> list[str]:
    """Whom hosts have to allow."""
    return sorted({str(job.fields["user"]) for job in jobs if "user" in job.fields})
