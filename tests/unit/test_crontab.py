"""`jobs import crontab`: what Debian's cron would do with a line is what the job does, or it is told."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cron_entry import Bad, coming, entry_of, random_fields

from runner.control.applying.files import read_files
from runner.control.crontab.fields import WORDS, Refused, schedule_of
from runner.control.crontab.jobs import Asked, Job, jobs_of
from runner.control.crontab.lines import assignment, with_stdin
from runner.control.crontab.written import job_file
from runner.control.definition import JobDefinition
from runner.control.notices.notify import Notify
from runner.control.timetable.zones import zone

T0 = 1_900_000_020 // 60  # 2030-03-17T17:47Z: two weeks before Europe's clocks change
ZONES = ("Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe", "America/Santiago", "UTC")
CRON_D = "HOME=/var/www\n17 *\t* * *\twww-data  php cron.php\n@daily root run-parts /etc/x\n"
YEARS = 2
"""By hand: `python tests/support/cron_entry.py --lines 2000 --years 12`."""
QUEUE = "https://sqs.eu-west-1.amazonaws.com/1/cron-web"


def imported(tmp_path: Path, text: str, **asked: object) -> tuple[dict[str, JobDefinition], list[Job]]:
    """The jobs that `jobs apply` reads in what is printed, and what was said of each line."""
    jobs = jobs_of(text, Asked(**{"timezone": "Europe/Berlin", **asked}))  # type: ignore[arg-type]
    path = tmp_path / "jobs.toml"
    path.write_text(job_file("x", jobs, {"group": "web", "timezone": "Europe/Berlin"}, QUEUE, ["said"]))
    return {job.name: job for job in read_files([path]).jobs}, jobs


def test_a_users_crontab_with_all_that_people_write(tmp_path: Path) -> None:
    text = """
# m h  dom mon dow   command
SHELL=/bin/bash
PATH = "/usr/local/bin:/usr/bin"
MAILTO=ops@example.com

# Nightly backup
15 3 * * 1-5 /usr/local/bin/backup --full
@hourly nice -n 10 /opt/poll.sh > /dev/null
#0 5 * * * /opt/old.sh
0 6 * * * mail -s "100\\% of $(date +\\%F)" ops%Dear all,%%all is well.
MAILTO=""
CRON_TZ=America/New_York
0 9 * * * cd /srv/app && python3 -u jobs/report.py
"""
    jobs, lines = imported(tmp_path, text)
    assert list(jobs) == ["nightly-backup", "poll", "mail", "report"]
    backup, poll, mail, report = jobs.values()
    assert backup.message["command"] == ["/bin/bash", "-c", "/usr/local/bin/backup --full"]
    assert backup.message["env"] == {"PATH": "/usr/local/bin:/usr/bin"}
    assert backup.notify == Notify(("${ssm:/cron-runner/mailto/ops-at-example.com}",))
    assert any("MAILTO=ops@example.com" in note for note in lines[0].notes)
    assert not lines[1].notes, "it is said once"
    assert (poll.schedule, poll.timezone) == ("@hourly", "Europe/Berlin")
    assert mail.message["command"][2] == 'mail -s "100% of $(date +%F)" ops'
    assert mail.message["stdin"] == "Dear all,\n\nall is well.\n"
    assert (report.timezone, report.notify) == ("America/New_York", Notify(()))
    assert any("CRON_TZ" in note for note in lines[3].notes)
    assert any("relative path" in note for note in lines[3].notes)


def test_cron_d_names_users_and_a_crontab_may_be_given_one(tmp_path: Path) -> None:
    jobs, _ = imported(
        tmp_path, "HOME=/var/www\n17 *\t* * *\twww-data  php cron.php\n@daily root run-parts /etc/x\n", with_user=True
    )
    assert [(job.message["user"], job.message["command"], job.message["cwd"]) for job in jobs.values()] == [
        ("www-data", "php cron.php", "/var/www"),
        ("root", "run-parts /etc/x", "/var/www"),
    ]
    jobs, _ = imported(tmp_path, "@daily /x\n", user="ann", cwd="/home/ann", notify=(QUEUE,))
    assert [(job.message["user"], job.message["cwd"], job.notify) for job in jobs.values()] == [
        ("ann", "/home/ann", Notify((QUEUE,)))
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("@reboot /x", "when the host starts"),
        ("@Daily /x", '"@Daily" is no word of cron\'s'),
        ("@every_minute /x", "no word"),
        ("5/15 * * * * /x", "step without a range"),
        ("0 22-2 * * * /x", "goes round"),
        ("0 3 * * fri-mon,sat-sun /x", "goes round"),
        ("0 3 32 * * /x", "outside 1 to 31"),
        ("0 3 L * * /x", "cannot be read"),
        ("0 3 * * 15W /x", "cannot be read"),
        ("*/0 3 * * * /x", "step of nothing"),
        ("0 0 30 2 * /x", "never comes"),
        ("0 0 3 * * * /x", "six fields"),
        ("0 3 * * *", "neither a variable nor five fields"),
        ("0 3 * * * ", "no command"),
        ("0 3 * * * %x", "no command before"),
        ("backup every night", "neither"),
    ],
)
def test_what_cannot_be_said_is_told_with_its_line(tmp_path: Path, line: str, why: str) -> None:
    jobs, lines = imported(tmp_path, f"\n{line}\n0 1 * * * /bin/other\n")
    assert list(jobs) == ["other"]
    assert (lines[0].number, lines[0].name) == (2, None)
    assert why in lines[0].notes[0]
    assert f"# line 2: {line}".rstrip() in (tmp_path / "jobs.toml").read_text()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# Purge: old, files!\n@daily /x\n", ["purge-old-files"]),
        ("# Title\n# more of it\n@daily /x\n", ["title"]),
        ("# Title\n\n@daily /x/y.sh\n", ["y"]),
        ("# Title\n@daily /x\n@daily /z\n", ["title", "z"]),
        ("# 0 3 * * * /old\n@daily /x\n", ["x"]),
        ("#MAILTO=me\n@daily /x\n", ["x"]),
        ("# min hour dom month dow command\n@daily /x\n", ["x"]),
        ("@daily /x\n@daily /x\n@daily /x\n", ["x", "x-2", "x-3"]),
        ("@daily A=1 B=2 /usr/bin/flock -n /run/x.lock /opt/sync.sh --all\n", ["sync"]),
        ("@daily [ -x /usr/bin/y ] && /usr/bin/y\n", ["y"]),
        ("@daily bash -c 'true'\n", ["true"]),
        ("@daily $(which x)\n", ["which"]),
        ("@daily >>/x\n", ["line-1"]),
        (f"# {'word ' * 60}\n@daily /x\n", ["word" + "-word" * 11]),
        ("# Ünïcode ☃\n@daily /x\n", ["unicode"]),
    ],
)
def test_jobs_are_named_by_the_comment_above_else_by_what_they_run(tmp_path: Path, text: str, names: list[str]) -> None:
    assert list(imported(tmp_path, text)[0]) == names


def test_variables_are_cron_s_own_and_hold_for_the_lines_below(tmp_path: Path) -> None:
    text = "@daily /a\nA = 'x y'\n\"B\"=  z  \nRANDOM_DELAY=45\n@daily /b\n"
    text += "A=2\nLOGNAME=me\nCRON_RUNNER_X=1\nMAILFROM=x\n@daily /c\n"
    jobs, lines = imported(tmp_path, text)
    a, b, c = jobs.values()
    assert "env" not in a.message
    assert (b.message["env"], b.timing.splay) == ({"A": "x y", "B": "z"}, 2700.0)
    assert c.message["env"] == {"A": "2", "B": "z"}
    assert {note.partition(" ")[0].strip('"') for note in lines[2].notes} == {"LOGNAME", "CRON_RUNNER_X", "MAILFROM"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("A=b", ("A", "b")),
        ("A = b c ", ("A", "b c")),
        ("A='b' ", ("A", "b")),
        ('A="b\'c"', ("A", "b'c")),
        ("A='b' c", None),
        ("MAILTO=", ("MAILTO", "")),
        ("0 3 * * * A=b", None),
        ("@daily A=b", None),
        ("A b=c", None),
    ],
)
def test_a_variable_is_what_cron_takes_for_one(said: str, expected: tuple[str, str] | None) -> None:
    assert assignment(said) == expected


@pytest.mark.parametrize(
    ("said", "command", "stdin"),
    [
        ("a b", "a b", None),
        ("date +\\%F", "date +%F", None),
        ("a%", "a", None),
        ("a%b%c", "a", "b\nc\n"),
        ("a%b%", "a", "b\n"),
        ("a%b\\%c\\d", "a", "b%c\\d\n"),
        ("a\\\\b\\c%", "a\\b\\c", None),
        ("a\\\\%b", "a\\", "b\n"),
        ("a%%", "a", "\n"),
    ],
)
def test_percent_signs_are_line_feeds_of_standard_input(said: str, command: str, stdin: str | None) -> None:
    assert with_stdin(said) == (command, stdin)


def test_whatever_stands_in_a_line_the_printed_file_is_read_as_it_was(tmp_path: Path) -> None:
    nasty = "echo \"a\\b\" 'c' $'\\t' \x1b[31m\x7f\u2028 #no comment { } [x] =\t."
    jobs, _ = imported(tmp_path, f'X="{chr(0x85)}\\"\n@daily {nasty}\r\n')
    (job,) = jobs.values()
    assert job.message["command"] == nasty
    assert job.message["env"] == {"X": f"{chr(0x85)}\\"}


def round_trip(tmp_path: Path, fields: str, name: str, count: int) -> str | None:
    """What differs in the next fire times of a line; None of one that is told as refused."""
    jobs, lines = imported(tmp_path, f"CRON_TZ={name}\n{fields} /bin/x\n")
    said = next((text for word, text in WORDS.items() if fields == f"@{word}"), fields)
    try:
        entry = entry_of(f"{said} x")
    except Bad:
        return f"cron refuses {fields!r}" if jobs else None
    expected = coming(entry, zone(name), T0, count, 366 * YEARS)
    if not jobs:
        assert expected == [], f"{fields!r} is told as {lines[0].notes}"
        return None
    (job,) = jobs.values()
    timetable = job.timetable()
    assert timetable is not None
    found = [int(time.at) // 60 for time in timetable.coming(T0 * 60.0, len(expected))]
    return "" if found == expected else f"{fields!r} as {job.schedule!r} in {name}: {found[:3]} for {expected[:3]}"


@pytest.mark.parametrize(
    "fields",
    [
        *(f"@{word}" for word in WORDS),
        *(
            "0 3 * * *",
            "*/5 * * * *",
            "30 2 * * *",
            "*/30 2 * * *",
            "0 0 1 * 1",
            "0 0 */2 * 1",
            "0 0 1 * */2",
            "0 0 * * 7",
        ),
        *("0 12 1-7 * mon", "15,45 9-17/2 * jan-mar,oct mon-fri", "0 0 1 * fri-mon", "0 0 31-1 * 2", "*5 4 * * mon#2"),
        *("*,7 4 * * *", "4,* 4 * * *", "0 0 13 * Fri", "59 23 31 12 *", "0 0 29 2 *", "007 3 * * 0-7", "0 0 1 */5 *"),
        *("30 17 28-28/2 oct *", "5-5/10 3,7-7/2 * * *"),
    ],
)
def test_the_next_two_hundred_fire_times_are_those_of_debians_cron(tmp_path: Path, fields: str) -> None:
    assert round_trip(tmp_path, fields, "Europe/Berlin", 200) == ""


@pytest.mark.parametrize("seed", range(2))
def test_any_line_is_imported_with_debians_fire_times_or_told(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    said = [round_trip(tmp_path, random_fields(draw), draw.choice(ZONES), 40) for _ in range(12)]
    assert said.count("") >= 1
    assert [one for one in said if one] == []


@pytest.mark.parametrize("seed", range(2))
def test_what_is_written_for_our_parser_means_the_same_minutes(seed: int) -> None:
    draw = random.Random(seed)
    good = 0
    for _ in range(1000):
        fields = random_fields(draw)
        try:
            entry = entry_of(f"{fields} x")
        except Bad:
            with pytest.raises(Refused):
                schedule_of(fields.split())
            continue
        try:
            written, _ = schedule_of(fields.split())
        except Refused:
            assert not all(entry.fields) or not entry.fields[0], fields
            continue
        good += 1
        mine = entry_of(f"{written} x")
        assert (mine.fields[:2], mine.fields[3], mine.wild) == (entry.fields[:2], entry.fields[3], entry.wild), fields
        days = [(day, weekday) for day in range(1, 32) for weekday in range(7)]
        assert [_on(mine, *day) for day in days] == [_on(entry, *day) for day in days], fields
    assert good > 150


def _on(entry: object, day: int, weekday: int) -> bool:
    _, _, days, _, weekdays = entry.fields  # type: ignore[attr-defined]
    both = (day in days, weekday in weekdays)
    return all(both) if entry.both_days else any(both)  # type: ignore[attr-defined]
