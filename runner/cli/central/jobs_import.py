"""``cron-runner jobs import crontab``: a crontab as a job file."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.cli import printing
from runner.errors import CronRunnerError, NotThere

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from runner.control.crontab.jobs import Job

SUMMARY: Final = "print a crontab as a job file, and what of it could not be said"
_GROUP_VARIABLE: Final = "CRON_RUNNER__GROUP"
_UNNAMED_GROUP: Final = "default"
_ZONES: Final = Path("/usr/share/zoneinfo")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is read, and what it does not say itself."""
    parser.set_defaults(does=bring, soon_over=True)
    parser.add_argument("what", metavar="crontab", choices=("crontab",), help="the only kind that is known")
    parser.add_argument("file", metavar="FILE", help="a user's crontab; - is standard input")
    parser.add_argument(
        "--cron-d", action="store_true", help="each line names its user, as /etc/crontab and files of /etc/cron.d do"
    )
    parser.add_argument("--group", metavar="GROUP", help="the group of the jobs (default: this host's)")
    parser.add_argument("--queue", metavar="URL", help="the group's queue, where no other file says it")
    parser.add_argument(
        "--timezone", metavar="ZONE", help="where cron's times are, such as Europe/Berlin (default: this host's)"
    )
    parser.add_argument("--user", metavar="NAME", help="as whom a user's crontab runs")
    parser.add_argument("--cwd", metavar="DIRECTORY", help="where the jobs start: for cron the user's home directory")
    parser.add_argument(
        "--notify", metavar="TARGET", action="append", help="who is told where MAILTO says somebody; repeatable"
    )
    parser.epilog = (
        "The job file goes to standard output, what could not be said is a comment in it and on standard error.\n"
        "Fire times are those of Debian's cron, on the days of a change of the clock, too.\n\n"
        f"{parser.epilog}"
    )


def bring(args: argparse.Namespace) -> int:
    """Print the file."""
    from runner.control.crontab.jobs import Asked, jobs_of  # noqa: PLC0415 - `--help` needs none of it
    from runner.control.crontab.written import job_file  # noqa: PLC0415
    from runner.control.notices.notify import parse_notify  # noqa: PLC0415
    from runner.control.timetable.schedule import parse_timezone  # noqa: PLC0415
    from runner.errors import WrongUsage  # noqa: PLC0415
    from runner.protocol import fields  # noqa: PLC0415
    from runner.protocol.invalid import InvalidMessage  # noqa: PLC0415

    timezone = args.timezone or _zone_of_host()
    try:
        parse_timezone(timezone)
        group = fields.job_name("--group", args.group or _group_of_host())
        for name, value, parser in (("--user", args.user, fields.name), ("--cwd", args.cwd, fields.cwd)):
            if value is not None:
                parser(name, value)
        parse_notify("--notify", args.notify or [])
    except InvalidMessage as error:
        raise WrongUsage(f"cannot import it: {'; '.join(error.faults)}") from None
    except ValueError as error:
        raise WrongUsage(f"cannot import it: --timezone: {error}") from None
    notify = tuple(args.notify) if args.notify else None
    jobs = jobs_of(_read(args.file), Asked(timezone, args.cron_d, args.user, args.cwd, notify))
    made = [job for job in jobs if job.name is not None]
    if args.json:
        printing.document(_as_json(jobs, group, timezone))
    else:
        source = "a crontab" if args.file == "-" else args.file
        said = _said(made, timezone, given=args.timezone is not None, grouped=bool(args.group))
        defaults = {"group": group, "timezone": timezone}
        printing.data(job_file(source, jobs, defaults, args.queue, said))
    for job in jobs:
        word = "not imported" if job.name is None else f"job {job.name}"
        for note in job.notes:
            printing.say(f"line {job.number}, {word}: {note}")
    printing.say(f"{len(made)} of {len(jobs)} lines are jobs of this file")
    return 0


def _said(made: Sequence[Job], timezone: str, *, given: bool, grouped: bool) -> list[str]:
    """What holds for the whole file."""
    from runner.control.crontab.jobs import users_of  # noqa: PLC0415 - `--help` needs none of it

    lines = ["Cron ends nothing: say a timeout where a run takes longer than the hosts' own ([run] timeout, 1h)."]
    if not given:
        lines.append(f"Its times are taken to be of {timezone}, this host's zone; another one is said by --timezone.")
    if not grouped:
        lines.append(
            "The group is this host's, or no host's; another one is said by --group, and its queue by --queue."
        )
    if users := users_of(made):
        names = ", ".join(f'"{name}"' for name in users)
        lines.append(f"Hosts run it where they allow these users: [run] allowed_users = [{names}]")
    return lines


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except FileNotFoundError:
        raise NotThere(f"cannot read {file}: there is no such file; give a crontab, or - for standard input") from None
    except OSError as error:
        raise CronRunnerError(f"cannot read {file}: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CronRunnerError(
            f"cannot read {file}: it is not UTF-8 at byte {error.start}; convert it, such as with"
            " `iconv -f latin1 -t utf8`"
        ) from None


def _as_json(jobs: Sequence[Job], group: str, timezone: str) -> dict[str, object]:
    return {
        "defaults": {"group": group, "timezone": timezone},
        "jobs": {job.name: job.fields for job in jobs if job.name is not None},
        "lines": [{"line": job.number, "text": job.text, "job": job.name, "notes": list(job.notes)} for job in jobs],
    }


def _group_of_host() -> str:
    """This host's group, as far as its configuration says one."""
    from runner.config.place import DEFAULT_PATH  # noqa: PLC0415 - `--help` needs none of it
    from runner.config.toml import read_toml  # noqa: PLC0415

    if said := os.environ.get(_GROUP_VARIABLE):
        return said
    try:
        found = read_toml(DEFAULT_PATH).get("group")
    except (OSError, ValueError):
        return _UNNAMED_GROUP
    return found if isinstance(found, str) and found else _UNNAMED_GROUP


def _zone_of_host() -> str:
    """The zone of this host's clock by its name; UTC where it has none."""
    from runner.control.timetable.schedule import parse_timezone  # noqa: PLC0415 - `--help` needs none of it

    names = [os.environ.get("TZ", "").removeprefix(":")]
    with contextlib.suppress(OSError, ValueError):
        names.append(str(Path("/etc/localtime").resolve().relative_to(_ZONES.resolve())))
    for name in names:
        try:
            return parse_timezone(name)
        except ValueError:
            continue
    return "UTC"
