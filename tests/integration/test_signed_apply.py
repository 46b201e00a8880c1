"""`jobs apply --key`, `jobs list` and `jobs trigger` with a table and a queue of the stand-in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from runner.aws.session import Session
from runner.aws.table import Table
from runner.cli.main import main
from runner.protocol.job import Defaults
from runner.protocol.message import read_job

from signers import GROUP, pair, pem, trust, trusted

if TYPE_CHECKING:
    import pytest

    from aws import Aws

JOBS = """
[groups.web]
queue = "{queue}"
[jobs.nightly]
group = "web"
schedule = "0 3 * * *"
command = {command}
"""


async def make_table(session: Session) -> None:
    assert await Table(session, "cron").make()


def test_a_job_is_stored_signed_and_passed_on_signed(
    aws: Aws, cloud: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    queue = aws.queue("cron-web")
    asyncio.run(make_table(cloud))
    Path("ops.key").write_bytes(pem())
    Path("ops.pem").write_text(pair().public.pem)
    Path("host.toml").write_text(
        f'group = "{GROUP}"\nqueue.name = "x"\n[signing]\nrequire = true\n'
        f'[[signing.keys]]\nfile = "{tmp_path}/ops.pem"\n'
    )

    def jobs(*words: str, config: bool = True) -> tuple[int, str]:
        host = ("--config", "host.toml") if config else ()
        status = main((*host, "jobs", *words, "--table", "cron"))
        said = capsys.readouterr()
        return status, said.out + said.err

    Path("jobs.toml").write_text(JOBS.format(queue=queue, command='["true"]'))
    apply = ("apply", "--yes", "jobs.toml")
    status, said = jobs(*apply)
    assert status == 125
    assert "add --key" in said
    status, said = jobs(*apply, "--key", "ops.key")
    assert (status, "signed_by: " + pair().keyid in said) == (0, True)
    assert "1 as they should be" not in said
    assert "nothing to do" in jobs(*apply, "--key", "ops.key")[1]
    assert "nothing to do" in jobs(*apply)[1]
    status, said = jobs("list")
    assert "SIGNED BY" in said
    assert pair().keyid in said
    assert jobs("trigger", "nightly")[0] == 0
    [body] = aws.take(queue)
    host = trust(trusted(), require=True)
    host.now = lambda: 0.0
    job = read_job(body, message_id="m", defaults=Defaults(group=GROUP), declarations={}, trust=host)
    assert (job.job, job.argv, job.signed_by) == ("nightly", ("true",), pair().keyid)

    # Without a key from where nobody asks for one: it is signed no more, and the list says so.
    Path("jobs.toml").write_text(JOBS.format(queue=queue, command='["false"]'))
    assert jobs(*apply, config=False)[0] == 0
    [row] = json.loads(jobs("list", "--json")[1])
    assert row["signature"] == "nobody: not signed"
