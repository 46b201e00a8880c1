"""What who has the queue, the table, a host or a key can do: each cell of the table in docs/security.md, tried."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.control.definition import JobDefinition, message_at
from runner.control.signatures import sign
from runner.protocol.invalid import InvalidMessage

from signers import GROUP, NOW, envelope, message, pair, taken, trust, trusted

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
DUE = NOW - 1000.0  # a fire time, as the hosts' clock has it
HOSTS: dict[str, Any] = {
    "without signing": None,
    "`require`": trust(require=True),
    "`require` and `fresh`": trust(require=True, fresh=True),
}
ORDER = {"schedule": "30 * * * *", "timezone": "UTC"}
JOB = JobDefinition(GROUP, "backup", {"command": "true"}, schedule="30 * * * *")
SIGNED = replace(JOB, signed=sign(message(**ORDER), pair(), until=NOW + 86_400.0))


def runs(body: object, host: Any) -> str:
    """What a host makes of a message: the run's id, or why it starts nothing."""
    try:
        return taken(body, host).run_id
    except InvalidMessage as error:
        return error.reason


def with_the_queue(host: Any) -> dict[str, str]:
    """He has seen what was sent, and sends what he likes."""
    seen = json.loads(message_at(SIGNED, DUE))
    changed = json.loads(base64.b64decode(seen["payload"])) | {"command": "rm -rf /"}
    once = {name: seen[name] for name in ("payloadType", "payload", "signatures")}
    return {
        "any command": runs(message(command="rm -rf /", user="app", run_id="evil"), host),
        "root": runs(message(user="eve", run_id="evil"), host),
        "changed": runs({**once, "payload": base64.b64encode(json.dumps(changed).encode()).decode()}, host),
        "his own key": runs(envelope(message(), pair("his")), host),
        "at its time": runs(seen, host),
        "at its time, again": runs({**seen, "run": {**seen["run"], "run_id": "again"}}, host),
        "whenever": runs({**once, "run": {"run_id": "whenever"}}, host),
        "a day later": runs(seen, later(host, 86_400.0)),
        "other group": runs(envelope(message(group="db")), host),
    }


def later(host: Any, seconds: float) -> Any:
    return None if host is None else replace(host, now=lambda: NOW + seconds)


def with_a_key(host: Any) -> dict[str, str]:
    """The key may sign web-* as app, until tomorrow."""
    day = {"run_id": "r", "not_after": "2030-03-18T00:00:00Z"}
    if host is None:
        return {"signed": runs(envelope(message(**day)), None)}
    key = trusted(jobs=("web-*",), users=("app",), until=NOW + 86_400.0)
    held = trust(key, require=True, fresh=host.fresh)
    over = trust(replace(key, until=NOW), require=True, fresh=host.fresh)
    mine = message(job="web-1", user="app", **day)
    return {
        "its jobs": runs(envelope(mine), held),
        "others' jobs": runs(envelope({**mine, "job": "backup"}), held),
        "other users": runs(envelope({**mine, "user": "root"}), held),
        "other group": runs(envelope({**mine, "group": "db"}), held),
        "when it is over": runs(envelope(mine), over),
    }


DUE_RUN = "backup-2030-03-17T17-30-00Z"
NOTHING = {
    "any command": "not_signed",
    "root": "not_signed",
    "changed": "bad_signature",
    "his own key": "bad_signature",
}
NO_SIGNING = {"any command": "evil", "root": "not_allowed"}
KEY_ALONE = {
    "its jobs": "r",
    "others' jobs": "not_allowed",
    "other users": "not_allowed",
    "other group": "not_allowed",
    "when it is over": "not_allowed",
}
QUEUE = {
    "without signing": NO_SIGNING,
    "`require`": {
        **NOTHING,
        "at its time": DUE_RUN,
        "at its time, again": "again",
        "whenever": "whenever",
        "a day later": "not_allowed",
        "other group": "not_allowed",
    },
    "`require` and `fresh`": {
        **NOTHING,
        "at its time": DUE_RUN,
        "at its time, again": "not_allowed",
        "whenever": "not_allowed",
        "a day later": "not_allowed",
        "other group": "not_allowed",
    },
}
KEY = {"without signing": {"signed": "bad_signature"}, "`require`": KEY_ALONE, "`require` and `fresh`": KEY_ALONE}
# Who has the table writes what is sent, and who has a host knows its public keys: each has as much as with the queue.
WHO: dict[str, tuple[Callable[[Any], dict[str, str]], dict[str, dict[str, str]]]] = {
    "the queue": (with_the_queue, QUEUE),
    "the table, or the scheduler": (with_the_queue, QUEUE),
    "one host": (with_the_queue, QUEUE),
    "one key": (with_a_key, KEY),
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("who", WHO)
def test_who_has_something_can_do_this_and_no_more(who: str, host: str) -> None:
    tries, wanted = WHO[who]
    found = tries(HOSTS[host])
    assert {name: found[name] for name in wanted[host]} == wanted[host]


def test_who_writes_into_the_table_changes_nothing_of_what_is_signed() -> None:
    """He can put in another command, which is not what is sent, or take the signature away."""
    other = replace(SIGNED, message={"command": "rm -rf /"}, name="backup")
    assert taken(message_at(other, DUE), HOSTS["`require`"]).command == "true"
    assert runs(message_at(replace(other, signed=""), DUE), HOSTS["`require`"]) == "not_signed"


def test_a_host_has_nothing_to_sign_with() -> None:
    for key in HOSTS["`require`"].keys:
        assert not hasattr(key, "sign")
        assert not hasattr(key.public, "sign")


def test_the_page_has_a_row_and_a_column_for_each() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    at = next(index for index, row in enumerate(rows) if row[0] == "who has")
    assert rows[at][1:] == list(HOSTS)
    assert [row[0] for row in rows[at + 1 : at + 1 + len(WHO)]] == list(WHO)
    assert all(len(row) == len(HOSTS) + 1 for row in rows[at : at + 1 + len(WHO)])
