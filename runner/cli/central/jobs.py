"""``cron-runner jobs``: what the fleet runs and when, as files beside the code."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.cli import fleet, printing
from runner.cli.central import jobs_backfill, jobs_import
from runner.cli.central.jobs_cost import cost
from runner.cli.central.jobs_plan import as_json, plan_text
from runner.cli.central.jobs_shown import coming, listed, show, upcoming
from runner.cli.central.jobs_trigger import add_arguments as add_trigger
from runner.cli.central.jobs_trigger import trigger
from runner.cli.numbers import lasting, whole
from runner.cli.signing import add_key, required_by, signer_of
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.applying.plan import Plan
    from runner.control.definition import GroupDefinition, JobDefinition

EXAMPLE: Final = """\
cron-runner jobs apply jobs.toml
cron-runner jobs apply --prune --yes jobs/*.yaml
cron-runner jobs list --group web
cron-runner jobs next nightly
cron-runner jobs disable nightly --note "database is moved"
cron-runner jobs backfill nightly --from 2026-11-23 --to 2026-11-29
cron-runner jobs import crontab /etc/crontab --cron-d
cron-runner jobs cost --hosts 40
"""
_EXAMPLES: Final = {
    "apply": "--prune jobs/*.yaml",
    "list": "--group web --json",
    "show": "nightly",
    "enable": "nightly",
    "disable": 'nightly --note "database is moved"',
    "trigger": "reindex --param day=2030-01-31",
    "next": "nightly -n 10",
    "backfill": "nightly --from 2026-11-23 --to 2026-11-29 --dry-run",
    "import": "crontab - < /var/spool/cron/crontabs/ann > jobs.toml",
    "cost": "--hosts 40 --took 5m",
}
NOT_APPLIED: Final = 1
_COMING: Final = 5
_TOOK_S: Final = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words behind `jobs`."""
    from runner.cli.words import Words  # noqa: PLC0415 - main imports this module when it is asked for

    words = Words(parser, "jobs")

    def word(name: str, does: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        added = words.add(name, summary, _EXAMPLES[name], json=False)
        added.set_defaults(does=does, soon_over=True)
        fleet.add_options(added, group=name != "apply")
        return added

    def of_a_job(name: str, does: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        added = word(name, does, summary)
        added.add_argument("job", metavar="JOB")
        return added

    _add_apply(word("apply", _apply, "make the table's jobs those of files, after showing what changes"))
    word("list", listed, "all jobs, when they are due next, and how their last run ended")
    added = word("cost", cost, "what AWS bills for these jobs in a month, from their schedules")
    added.add_argument("--hosts", type=whole(1, 1_000_000), default=1, metavar="N", help="hosts of the fleet (1)")
    added.add_argument(
        "--took", type=lasting("0s", "30d"), default=_TOOK_S, metavar="DURATION", help="how long a run takes (1m)"
    )
    of_a_job("show", show, "a job as it was applied")
    for name, does, summary in (
        ("enable", _enable, "let a job's schedule fire again; nothing of the time between is caught up with"),
        ("disable", _disable, "let a job's schedule not fire until it is enabled"),
    ):
        added = of_a_job(name, does, summary)
        added.add_argument("--note", metavar="TEXT", default="", help="why, for the audit trail")
        added.add_argument("--why", dest="note", help=argparse.SUPPRESS)  # as it was called first
    added = of_a_job("trigger", trigger, "enqueue a run of a job now, and print its id")
    add_trigger(added)
    jobs_backfill.add_options(
        of_a_job("backfill", jobs_backfill.backfill, "run the fire times of a stretch that have not run")
    )
    jobs_import.add_options(words.add("import", jobs_import.SUMMARY, _EXAMPLES["import"]))
    added = of_a_job("next", upcoming, "when a job is due next")
    added.add_argument("-n", "--count", type=whole(1, 1000), default=_COMING, metavar="N", help="how many times (5)")


def _add_apply(apply: argparse.ArgumentParser) -> None:
    apply.add_argument("files", metavar="FILE", nargs="+", type=Path, help="TOML or YAML")
    apply.add_argument("--yes", action="store_true", help="do not ask; without a terminal nothing is done otherwise")
    apply.add_argument("--prune", action="store_true", help="delete the jobs of these groups that no file has")
    apply.add_argument("--dry-run", action="store_true", help="show the plan alone")
    apply.add_argument("--dry", action="store_true", dest="dry_run", help=argparse.SUPPRESS)  # as it was called first
    add_key(apply, "sign what is new, changed, or signed by another key")


def execute(args: argparse.Namespace) -> int:
    """Do what was asked."""
    fleet.need_schedules()
    return int(args.does(args))


def _apply(args: argparse.Namespace) -> int:
    from runner.control import store  # noqa: PLC0415 - `--help` needs none of it
    from runner.control.applying.apply import Who, apply  # noqa: PLC0415
    from runner.control.applying.files import read_files  # noqa: PLC0415
    from runner.control.applying.plan import plan  # noqa: PLC0415
    from runner.control.applying.signing_plan import with_signatures  # noqa: PLC0415

    files = read_files(args.files)
    signer, required = signer_of(args.key) if args.key else None, required_by(args.config)

    async def work(session: Session, table: Table) -> int:
        jobs, groups = await store.jobs(table), await store.groups(table)
        meant = {**groups, **{group.name: group for group in files.groups}}
        signed = with_signatures(files.jobs, jobs, meant, signer, required=required, now=time.time())
        wanted = replace(files, jobs=signed)
        made = plan(wanted, jobs, groups, prune=args.prune)
        missing = sorted({job.group for job in wanted.jobs} - groups.keys() - {group.name for group in wanted.groups})
        if missing:
            raise CronRunnerError(
                f'cannot apply: nobody has said which queue group "{missing[0]}" has; add [groups.{missing[0]}] with'
                " its queue to one of the files"
            )
        for warning in files.warnings:
            printing.say(warning)
        if not args.json:
            printing.lines(*plan_text(made))
        if args.dry_run:
            _told(args, made, applied=False, schedules=[])
            return 0
        if made.changes and not args.yes and not _agreed():
            return NOT_APPLIED
        stepped = await apply(session, table, made, jobs, groups, Who(fleet.whoami(), time.time()))
        _told(args, made, applied=True, schedules=stepped)
        return 0

    return int(fleet.run(args, work))


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise CronRunnerError(
            "cannot ask whether to apply this without a terminal; add --yes, or --dry-run to look only"
        )
    return input("apply? [y/N] ").strip().lower() in ("y", "yes")


def _told(args: argparse.Namespace, made: Plan, *, applied: bool, schedules: Sequence[str]) -> None:
    if args.json:
        printing.document(as_json(made, applied=applied, schedules=schedules))
    elif applied:
        in_step = f"; in step with EventBridge Scheduler: {', '.join(schedules)}" if schedules else ""
        printing.lines(f"applied{in_step}" if made.changes or schedules else "nothing to do")


def _enable(args: argparse.Namespace) -> int:
    return _switch(args, enabled=True)


def _disable(args: argparse.Namespace) -> int:
    return _switch(args, enabled=False)


def _switch(args: argparse.Namespace, *, enabled: bool) -> int:
    from runner.control import store  # noqa: PLC0415
    from runner.control.applying.apply import Who, in_step, save  # noqa: PLC0415

    async def work(session: Session, table: Table) -> tuple[JobDefinition, GroupDefinition | None]:
        job = await store.job(table, args.job, args.group)
        groups = await store.groups(table)
        now = time.time()
        saved = job
        if job.enabled != enabled:
            who = Who(fleet.whoami(), now, args.note)
            saved = await save(table, job, replace(job, enabled=enabled), who)
        await in_step(session, table, [saved], groups, now=now)
        return saved, groups.get(job.group)

    job, group = fleet.run(args, work)
    word = "enabled" if enabled else "disabled"
    times = coming(job, group, time.time(), 1)
    due = f", next {fleet.when(times[0].at, job.timezone, time.time())}" if times else ""
    if args.json:
        printing.document({"job": job.name, "group": job.group, "enabled": enabled}, indent=None)
    else:
        printing.lines(f"{job.name} is {word}{due}")
    return 0
