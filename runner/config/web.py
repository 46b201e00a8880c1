"""The sections of the page (`cron-runner web`): the daemon reads them with the rest, and does nothing with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runner.config.kinds import TEXT, TEXTS, Kind, decode_json, expected, one_of, setting
from runner.config.names import listen_address
from runner.protocol.suggest import unknown

Role = Literal["read", "operate", "run"]
ROLES: tuple[Role, ...] = ("read", "operate", "run")
_JOBS = re.compile(r"[^/\s]+/[^/\s]+|\*")


@dataclass(frozen=True, slots=True)
class Allow:
    """Whoever is in `who` (names, `group:NAME`) has the role for the jobs, globs of GROUP/JOB."""

    who: tuple[str, ...]
    role: Role
    jobs: tuple[str, ...] = ("*",)


def _allows(value: object) -> tuple[Allow, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{expected('tables: [[web.allow]]', value)}")  # noqa: TRY004 - kinds refuse with ValueError
    return tuple(_allow(entry, place) for place, entry in enumerate(value, 1))


def _allow(entry: object, place: int) -> Allow:
    if isinstance(entry, Allow):
        return entry
    if not isinstance(entry, Mapping):
        raise ValueError(f"entry {place}: {expected('a table', entry)}")  # noqa: TRY004 - as above
    known = ("who", "role", "jobs")
    for name in entry:
        if name not in known:
            raise ValueError(f"entry {place}: {unknown('key', str(name), known)}")
    try:
        who, jobs = TEXTS.parse(entry.get("who", ())), TEXTS.parse(entry.get("jobs", ("*",)))
        role = one_of(*ROLES).parse(entry.get("role"))
    except ValueError as error:
        raise ValueError(f"entry {place}: {error}") from None
    if not who:
        raise ValueError(f'entry {place}: who is missing; name users, or groups as "group:oncall"')
    for job in jobs:
        if not _JOBS.fullmatch(job):
            raise ValueError(f'entry {place}: "{job}" is no GROUP/JOB glob such as "web/*"')
    return Allow(who, role, jobs)


ALLOWS = Kind("tables", _allows, decode_json)


@dataclass(frozen=True, slots=True)
class WebProxy:
    """A reverse proxy (OIDC, single sign-on) that says who somebody is, where auth is "proxy"."""

    from_: tuple[str, ...] = setting(
        ["127.0.0.1"],
        TEXTS,
        'Its addresses; "unix" for a proxy that comes by a unix socket. What others send in these headers is not'
        " looked at, and gets 401.",
        fixed=True,
    )
    user: str = setting("X-Forwarded-User", TEXT, "The header with the user's name.", fixed=True)
    groups: str = setting(
        "X-Forwarded-Groups", TEXT, "The header with the user's groups, with commas between.", fixed=True
    )


@dataclass(frozen=True, slots=True)
class Web:
    """The page and the HTTP API of `cron-runner web`, a process of its own."""

    listen: str = setting("127.0.0.1:9748", TEXT, 'HOST:PORT, or "unix:/run/cron-runner/web.sock".', fixed=True)
    source: Literal["auto", "host", "fleet"] = setting(
        "auto",
        one_of("auto", "host", "fleet"),
        '"host": this host, by its agent\'s socket; "fleet": all hosts, by the table; "auto": the fleet where a table'
        " is set.",
        fixed=True,
    )
    auth: Literal["token", "proxy"] = setting(
        "token", one_of("token", "proxy"), '"token": who has one; "proxy": whom [web.proxy] names.', fixed=True
    )
    tokens_file: str = setting(
        "",
        TEXT,
        "The file of tokens, a line NAME ROLE SHA256 [UNTIL] each, made by "
        "cron-runner web token NAME. If empty: a"
        " token is made at the start and printed, valid while the process lives.",
        fixed=True,
    )
    names: tuple[str, ...] = setting(
        [], TEXTS, "Further names that it is reached by; any other Host header gets 421.", fixed=True
    )
    allow: tuple[Allow, ...] = setting(
        [],
        ALLOWS,
        'Who may do what beside reading: tables [[web.allow]] with who = ["alice", "group:oncall"], role = "read",'
        ' "operate" or "run", and jobs = ["web/*"], globs of GROUP/JOB.',
        fixed=True,
    )
    proxy: WebProxy = field(default_factory=WebProxy)


def listen_place(value: str) -> None:
    """Refuse what is neither an address nor a socket's path."""
    if value.startswith("unix:"):
        if not value.removeprefix("unix:").startswith("/"):
            raise ValueError(f'"{value}" has no absolute path; write unix:/run/cron-runner/web.sock')
        return
    if not value:
        raise ValueError("is empty; give HOST:PORT, or unix:/PATH")
    listen_address(value)


def host_names(names: Sequence[str]) -> None:
    """Refuse a name that is no host's."""
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_.\[\]:-]+", name):
            raise ValueError(f'"{name}" is no host name; write it without scheme and path')
