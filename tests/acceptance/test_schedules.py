"""What people do with schedules from the command line: maintenance that ends, backfill, imported crontabs, words."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.aws import directives
from runner.aws.table import Table
from runner.control.definition import GroupDefinition, JobDefinition, message_at, run_id_at
from runner.control.timetable.timing import Timing, delay_of
from runner.protocol import table as keys
from runner.protocol.message import parse_message
from runner.protocol.units import format_time, parse_time

from fleet import Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)

HOUR = 3600.0


@pytest.fixture
def typed(fleet: Any, table: Table) -> Callable[..., Awaitable[tuple[str, str]]]:
    """Types a command on a host, and gives what it printed; ``status`` is how it is to end."""
    host: Host = fleet.host("laptop")

    async def command(*words: str, status: int = 0) -> tuple[str, str]:
        done = await asyncio.to_thread(host.command, *words, CRON_RUNNER_FLEET__TABLE=table.name)
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr

    return command


async def test_maintenance_ends_by_itself_and_says_when(table: Table, typed: Any) -> None:
    await table.put(GroupDefinition("web", "https://queue").item())
    await table.put(JobDefinition("web", "nightly", schedule="0 3 * * *").item())
    now = time.time()
    said = json.loads((await typed("maintenance", "nightly", "on", "--for", "2h", "--note", "disk", "--json"))[0])
    assert parse_time(said["until"]) == pytest.approx(now + 2 * HOUR, abs=60)
    (row,) = json.loads((await typed("jobs", "list", "--json"))[0])
    assert (row["maintenance"]["until"], row["maintenance"]["note"]) == (said["until"], "disk")
    shown = f"skipped: maintenance until {said['until'][:19]}Z"
    assert shown in (await typed("jobs", "list"))[0]
    assert f"until {said['until'][:19]}Z, by " in (await typed("jobs", "show", "nightly"))[0]
    told = await directives.read(table, "web")
    assert told.under_maintenance("nightly", now) is not None
    assert told.under_maintenance("nightly", now + 3 * HOUR) is None

    await directives.maintenance(table, "web", "nightly", on=True, by="ann", why="", now=now - 60, until=now - 1)
    (row,) = json.loads((await typed("jobs", "list", "--json"))[0])
    assert row["maintenance"] is None, "it has ended"
    assert "maintenance" not in (await typed("history", "nightly"))[0]

    later = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert later in (await typed("maintenance", "nightly", "on", "--until", later))[0]
    for words in (("on", "--for", "2h", "--until", later), ("on", "--until", "2020-01-01T00:00:00Z")):
        await typed("maintenance", "nightly", *words, status=2)
    for words in (("off", "--for", "2h"), ("on", "--for", "0s"), ("on", "--until", "tomorrow")):
        await typed("maintenance", "nightly", *words, status=2)


async def test_backfill_sends_what_has_no_run_under_the_scheduler_s_ids_and_once(
    fleet: Any, table: Table, typed: Any
) -> None:
    url = fleet.aws.queue("backfilled")
    day = datetime.now(UTC).date() - timedelta(days=4)
    calendars = {"off": str(day + timedelta(days=1))}
    job = JobDefinition(
        "web",
        "daily",
        message={"command": "true", "labels": {"a": "b"}},
        schedule="0 3 * * *",
        timing=Timing(splay=600.0, but=("off",), calendars=calendars),
    )
    await table.put(GroupDefinition("web", url).item())
    await table.put(job.item())
    ids = [run_id_at("daily", datetime(d.year, d.month, d.day, 3, tzinfo=UTC).timestamp()) for d in _days(day, 4)]
    await table.put({**keys.run("web", ids[2]).attributes(), "run_id": ids[2], "group": "web", "state": "failed"})
    words = ("jobs", "backfill", "daily", "--from", str(day), "--to", str(day + timedelta(days=3)))
    out, _ = await typed(*words, "--dry-run")
    assert out.splitlines()[-1] == (
        "daily: 2 would be sent, 1 there already (1 failed), 1 on days that its calendars leave out"
    )
    assert fleet.aws.take(url) == []
    said = json.loads((await typed(*words, "--json", "--note", "the disk was full"))[0])
    assert said["sent"] == said["missing"] == [ids[0], ids[3]]
    assert (said["there"], said["left_out"]) == ({ids[2]: "failed"}, [ids[1]])
    bodies = sorted(fleet.aws.take(url))
    first = parse_message(bodies[0])
    assert bodies[0] == message_at(job, first.scheduled_at or 0.0), "what the scheduler would have sent"
    trail = [item["what"] for item in await table.query("#pk = :pk", {"pk": "web#AUDIT"})]
    assert f"JOB#daily backfill {ids[0]} 2" in trail
    for run_id in (ids[0], ids[3]):
        await table.put(
            {**keys.run("web", run_id).attributes(), "run_id": run_id, "group": "web", "state": "succeeded"}
        )
    assert (await typed(*words))[0].endswith("nothing to send\n")
    for more in (("--to", "2999-01-01"), ("--to", str(day - timedelta(days=1))), ("--to", "yesterday")):
        await typed(*words[:5], *more, status=2)


async def test_many_runs_are_sent_only_where_somebody_says_yes(fleet: Any, table: Table, typed: Any) -> None:
    url = fleet.aws.queue("many")
    await table.put(GroupDefinition("web", url).item())
    await table.put(JobDefinition("web", "often", message={"command": "true"}, schedule="* * * * *").item())
    begin, end = (format_time(time.time() - ago) for ago in (3 * HOUR, HOUR))
    _, err = await typed("jobs", "backfill", "often", "--from", begin, "--to", end, status=125)
    assert "--yes" in err
    said = json.loads((await typed("jobs", "backfill", "often", "--from", begin, "--to", end, "--yes", "--json"))[0])
    assert len(said["sent"]) in (120, 121)
    _, err = await typed("jobs", "backfill", "often", "--from", "2020-01-01", status=125)
    assert "more than 10000" in err


async def test_a_crontab_is_imported_applied_and_said_in_words(fleet: Any, typed: Any, tmp_path: Path) -> None:
    crontab = tmp_path / "crontab"
    crontab.write_text("MAILTO=ops@example.com\n# Nightly backup\n7 3 * * 1-5 root /bin/backup\n@reboot root /bin/x\n")
    queue = fleet.aws.queue("imported")
    words = ("--cron-d", "--group", "web", "--queue", queue, "--timezone", "Europe/Berlin")
    out, err = await typed("jobs", "import", "crontab", str(crontab), *words)
    assert "line 4, not imported: runs when the host starts" in err
    assert err.splitlines()[-1] == "1 of 2 lines are jobs of this file"
    file = tmp_path / "jobs.toml"
    file.write_text(
        out.replace('schedule = "7', 'splay = "10m"\nexcept = ["bank-holidays"]\nschedule = "7')
        + '[calendars.bank-holidays]\ndates = ["2020-12-25"]\n'
    )
    _, err = await typed("jobs", "apply", "--yes", str(file))
    assert "calendar bank-holidays ended on 2020-12-25, and job nightly-backup uses it" in err
    out, _ = await typed("jobs", "next", "nightly-backup", "-n", "1")
    delay = delay_of("nightly-backup", 600.0)
    assert out.startswith("nightly-backup: 03:07 Europe/Berlin on working days but not on bank-holidays, ")
    said = json.loads((await typed("jobs", "next", "nightly-backup", "-n", "2", "--json"))[0])
    (first, _) = said["next"]
    assert parse_time(first["at"]) - parse_time(first["scheduled_at"]) == delay
    assert first["run_id"] == run_id_at("nightly-backup", parse_time(first["scheduled_at"]))
    shown = json.loads((await typed("jobs", "show", "nightly-backup", "--json"))[0])
    assert (shown["splay"], shown["except"], shown["user"]) == (600, ["bank-holidays"], "root")
    said = json.loads((await typed("jobs", "import", "crontab", str(crontab), *words, "--json"))[0])
    assert said["lines"][1]["job"] is None
    await typed("jobs", "import", "crontab", str(tmp_path / "none"), status=1)


def _days(day: Any, count: int) -> list[Any]:
    return [day + timedelta(days=number) for number in range(count)]
