"""The fleet's table as commands reach it, from a host or from anywhere else: its name, and who is asking."""

from __future__ import annotations

import getpass
import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing
from runner.errors import AwsUnavailable, CronRunnerError, NotThere
from runner.visible import visible

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from runner.aws.session import Session
    from runner.aws.table import Table

# How narrow these may become, for people who can ask for JSON.
_LEAST: Final = {"REASON": 12, "HOST": 8, "OWNER": 8, "SCHEDULE": 12}
VARIABLE: Final = "CRON_RUNNER_FLEET__TABLE"


def add_options(parser: argparse.ArgumentParser, *, group: bool = True) -> None:
    """What every command that looks at the table takes."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_table(parser)
    if group:
        parser.add_argument("--group", metavar="GROUP", help="the group, where the name alone is not enough")


def add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table", metavar="NAME", help=f"the fleet's DynamoDB table (default: ${VARIABLE}, else [fleet] table)"
    )


def need_schedules() -> None:
    """Raise where what reads schedules is not installed, as on a host that only runs jobs."""
    from runner.cli import remedy  # noqa: PLC0415 - `--help` needs none of it

    if todo := remedy.missing("control", ("cronsim", "yaml")):
        raise CronRunnerError(f"cannot read schedules: cronsim and PyYAML are not installed; {todo}")


def table_name(args: argparse.Namespace) -> str:
    """The table: as given, else of the environment, else of the configuration, which need not exist; "" for none."""
    from runner.cli import unit_environment  # noqa: PLC0415 - `--help` needs none of it

    unit_environment.take(args.config)
    if given := args.table or os.environ.get(VARIABLE):
        return str(given)
    from runner.config.place import DEFAULT_PATH, table_in  # noqa: PLC0415

    if args.config is None and not os.access(DEFAULT_PATH, os.F_OK):  # or not for this user to see
        return ""
    # Who looks at the table needs no more of the file: a fault elsewhere in it is the agent's, and `check` tells it.
    if VARIABLE not in os.environ and (name := table_in(args.config or DEFAULT_PATH)) is not None:
        return name
    from runner import config  # noqa: PLC0415

    return config.load(args.config, os.environ).fleet.table


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[tuple[Session, Table]]:
    """The table, and the session to reach it with; an AWS failure becomes one line that names the table."""
    from runner.aws.session import Session  # noqa: PLC0415
    from runner.aws.table import Table  # noqa: PLC0415

    name = table_name(args)
    if not name:
        raise CronRunnerError(f"cannot find the fleet's table: name it with --table, ${VARIABLE} or [fleet] table")
    session = Session()
    try:
        yield session, Table(session, name)
    except AwsUnavailable as error:
        raise CronRunnerError(
            f"cannot ask AWS, with table {name}: {error.call}: {error.code}: {error.detail}"
        ) from error
    finally:
        session.close()


def run(args: argparse.Namespace, work: Callable[[Session, Table], Awaitable[Any]]) -> Any:
    """Do the work of a command in a loop of its own."""
    import asyncio  # noqa: PLC0415

    with opened(args) as (session, table):

        async def main() -> Any:
            return await work(session, table)

        return asyncio.run(main())


def whoami() -> str:
    """USER@HOST: who changes something, as the table remembers it. CloudTrail has the identity that AWS saw."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{os.environ.get('SUDO_USER') or user}@{socket.gethostname()}"


def pause(args: argparse.Namespace, *, on: bool) -> int:
    """Pause a whole group, or end that."""
    from runner.aws import directives  # noqa: PLC0415
    from runner.control import store  # noqa: PLC0415

    async def work(_: Session, table: Table) -> str:
        await store.group(table, args.group)  # a slip of the pen would pause nobody
        before = (await directives.read(table, args.group)).paused if on else None
        note = args.note or (before.why if before is not None else "")
        await directives.pause(table, args.group, on=on, by=whoami(), why=note, now=now, until=until)
        return note

    from runner.protocol.units import format_time  # noqa: PLC0415 - `--help` needs none of it

    now = time.time()
    until = now + args.lasts if on and args.lasts is not None else None
    note = run(args, work)
    ends = None if until is None else format_time(until)
    word = f"paused{'' if ends is None else f' until {second(ends)}'}" if on else "resumed"
    if args.json:
        printing.document({"group": args.group, "paused": on, **({"until": ends} if on else {})}, indent=None)
    else:
        printing.lines(f"group {args.group} is {word}; its hosts see it within seconds{still(args.note, note)}")
    return 0


def still(given: str, note: str) -> str:
    """That the note of before still stands, where none was given."""
    return f"; the note stays: {note}" if note and not given else ""


def cancel(args: argparse.Namespace, run_id: str) -> dict[str, str]:
    """Ask whichever host has a run to cancel it; what was asked."""
    from runner.aws import directives  # noqa: PLC0415
    from runner.control import store  # noqa: PLC0415
    from runner.control.recording.run_state import is_open  # noqa: PLC0415

    async def work(_: Session, table: Table) -> dict[str, str]:
        group = args.group
        if group is None:
            found = await store.run(table, run_id)
            if not is_open(found["state"]):
                raise NotThere(
                    f"cannot cancel run {run_id}: it has ended {found['state']} at {second(found['ended_at'])}"
                )
            group = found["group"]
        await directives.cancel(table, group, run_id, by=whoami(), why=args.note, now=time.time())
        return {"run_id": run_id, "group": group}

    told: dict[str, str] = run(args, work)
    return told


def aligned(titles: Sequence[str], rows: Sequence[Sequence[str]], key: str) -> list[str]:
    """A table as lines, as wide as the terminal; `key`: the title of what is never cut, nor is what has no place in
    `_LEAST`. Whatever a cell quotes, it stays in its place."""
    from runner.cli.tables import Column, Paint, table  # noqa: PLC0415 - `--help` needs none of it

    columns = [Column(title, _LEAST.get(title), key=title == key) for title in titles]
    return table(columns, [[visible(cell) for cell in row] for row in rows], printing.width(), Paint(False))


def clock(time: str) -> str:
    """A time as the table has it, to the second."""
    return f"{time[:10]} {time[11:19]}Z"


def second(time: str) -> str:
    """A time as messages have it, without the parts of a second that are for programs."""
    return f"{time[:19]}Z"


def when(moment: float, timezone: str, now: float) -> str:
    """A time to come, in words: `Wed 2030-01-02 03:00 CET, in 11h52m`."""
    from runner.control.timetable.schedule import local  # noqa: PLC0415

    there = local(moment, timezone)
    seconds = f":{there:%S}" if there.second else ""
    return f"{there:%a %Y-%m-%d %H:%M}{seconds} {there:%Z}, in {span(moment - now)}"


def span(seconds: float) -> str:
    """A span as an operator says it: the two largest units."""
    from runner.protocol.units import format_duration  # noqa: PLC0415

    for unit in (86_400, 3600, 60):
        if seconds >= unit:
            smaller = {86_400: 3600, 3600: 60, 60: 1}[unit]
            return format_duration(seconds // smaller * smaller)
    return format_duration(round(seconds, 1) if seconds < 10 else round(seconds))
