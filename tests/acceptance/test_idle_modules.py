"""What an agent that has run jobs and waits for more has loaded: memory that no test of sizes would hold as exactly."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from fleet import COMMAND
from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet

_IMPORTED = re.compile(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)

# What an agent without the feature never needs. Modules that wait to be asked (runner.deferred) count as imported, so
# for those there stand others, which they import when they are loaded.
NEVER = {
    # What botocore's clients are made of, and what reads the descriptions of services.
    *("botocore.args", "botocore.docs.docstring", "botocore.retries.standard", "botocore.signers", "html.parser"),
    *("jmespath.parser", "boto3"),
    # A fleet's table, and the copy of the log in CloudWatch.
    *("runner.agent.fleet.member", "runner.agent.clearing", "runner.aws.table", "runner.aws.directives", "watchtower"),
    # What people ask for run by run.
    *("runner.agent.operator.records", "runner.agent.journal.history"),
    # What people change by hand, what a member of a fleet reports of itself, and the page.
    *("runner.agent.again", "runner.agent.operator.audit", "runner.agent.fleet.report", "runner.web", "starlette"),
    # Keys, of a host that has none.
    *("cryptography", "runner.signing.trust", "runner.signing.keypairs", "runner.signing.when"),
    # Words for mistakes.
    "difflib",
    # Secrets.
    *("runner.agent.secret_store", "runner.aws.secrets", "runner.supervisor.libc"),
    *("multiprocessing", "psutil", "prometheus_client"),
}


def test_an_idle_agent_has_loaded_only_what_it_uses(fleet: Fleet) -> None:
    host = fleet.host()
    host.start(program=(sys.executable, "-X", "importtime", COMMAND))
    fleet.send({"job": "hello", "run_id": "r1", "command": "echo hello"})
    fleet.wait_lines("hello", "r1", ["hello"])
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 0, "the message is gone")
    assert host.stop() == 0
    loaded = set(_IMPORTED.findall(host.log()))
    assert {"runner.agent.daemon", "botocore.credentials", "botocore.auth"} <= loaded, "the list itself is read well"
    assert sorted(loaded & NEVER) == []
