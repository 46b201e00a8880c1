"""The agent's log: three renderings, levels, masked values, and the records of other libraries."""

from __future__ import annotations

import io
import json
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from runner import log

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("log_restored")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_without_prefix_elsewhere() -> None:
    stream = io.StringIO()
    log.configure(stream=stream, environ={})
    structlog.get_logger().info("lease_lost", run_id="r", seconds=1.5)
    [line] = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {"event": "lease_lost", "level": "info", "run_id": "r", "seconds": 1.5}


def test_priorities_under_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        log.configure("debug", stream=stream, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        logger = structlog.get_logger()
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(logger, level)("x")
        stream.seek(0)
        assert [line[:4] for line in stream] == ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{"]


def test_an_inherited_journal_stream_is_not_ours(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as stream:
        assert not log.under_journal(stream, {"JOURNAL_STREAM": "8:1234567"})
    assert not log.under_journal(io.StringIO(), {"JOURNAL_STREAM": "8:1234567"})


def test_a_terminal_gets_text() -> None:
    coloured, plain = Terminal(), Terminal()
    log.configure(stream=coloured, environ={})
    structlog.get_logger().warning("queue_full", depth=3)
    assert "\x1b[" in coloured.getvalue()
    log.configure(stream=plain, environ={"NO_COLOR": "1"})
    structlog.get_logger().warning("queue_full", depth=3)
    assert "\x1b[" not in plain.getvalue()
    assert "queue_full" in plain.getvalue()
    assert "depth=3" in plain.getvalue()


def test_the_level_holds_and_can_be_changed() -> None:
    stream = io.StringIO()
    log.configure("error", stream=stream, environ={})
    logger = structlog.get_logger()
    logger.info("no")
    logger.error("yes")
    log.configure("debug", stream=stream, environ={})
    logger.debug("now")
    assert [line["event"] for line in lines(stream)] == ["yes", "now"]
    with pytest.raises(ValueError, match="loud"):
        log.configure("loud", stream=stream)


@pytest.mark.parametrize("secret", ["correct-horse", 'with "quotes" and \\', "ünïcödé", "two\nlines"])
def test_masked_values_are_never_seen(secret: str) -> None:
    for stream in (io.StringIO(), Terminal()):
        log.configure(stream=stream, environ={"NO_COLOR": "1"})
        logger = structlog.get_logger()
        with log.masked([secret]), log.masked([secret, "short"]):
            logger.info("job_started", command=f"login {secret} x", nested={"env": [secret]})
            logger.info("a short word stays")
        logger.info("after", value=secret)
        first, second, third = stream.getvalue().split("\n", 3)[:3] if "\n" not in secret else ("", "", "")
        if first:
            assert secret not in first
            assert json.dumps(secret)[1:-1] not in first
            assert first.count("***") == 2
            assert "short" in second
            assert "***" not in third


def test_a_secret_stays_masked_until_its_last_holder_lets_go() -> None:
    held = log.Secrets()
    held.add(["hunter2-hunter2"])
    held.add(["hunter2-hunter2", "hunter2-hunter2-longer"])
    assert held.mask("a hunter2-hunter2-longer b hunter2-hunter2") == "a *** b ***"
    held.discard(["hunter2-hunter2", "hunter2-hunter2-longer"])
    assert held.mask("hunter2-hunter2") == "***"
    held.discard(["hunter2-hunter2"])
    assert held.mask("hunter2-hunter2") == "hunter2-hunter2"


def test_other_libraries_are_rendered_alike() -> None:
    stream = io.StringIO()
    log.configure("debug", stream=stream, environ={})
    logging.getLogger("botocore.x").info("chatter")
    logging.getLogger("botocore.x").warning("slow %s", "endpoint")
    try:
        int("boom")
    except ValueError:
        logging.getLogger("asyncio").exception("failed")
    first, second = lines(stream)
    assert (first["event"], first["logger"], first["level"]) == ("slow endpoint", "botocore.x", "warning")
    assert "ValueError: invalid literal" in second["exception"]


def test_a_reader_that_went_away_breaks_nothing() -> None:
    stream = io.StringIO()
    copied: list[str] = []
    log.configure(stream=stream, environ={}, copy=copied.append)
    stream.close()
    structlog.get_logger().info("still here")
    assert "still here" in copied[0]


def test_a_reload_changes_the_level_and_nothing_else() -> None:
    stream = io.StringIO()
    log.configure("info", stream=stream, environ={})
    logger = structlog.get_logger()
    logger.debug("unseen")
    log.set_level("debug")
    logger.debug("seen")
    log.set_level("error")
    logger.info("unseen_again")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["seen"]
