"""Every message in `messages/` becomes the job, or the refusal, that its file says.

A file holds `body` (JSON, or a string that is sent as it is), `message_id`, `defaults` and `declarations`
as the configuration has them, and `job` or `error`.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest

from runner.protocol import Defaults, InvalidMessage, Job, parse_declaration, parse_message, resolve

FILES = sorted((Path(__file__).parent / "messages").glob("*.json"))


def resolved(case: dict[str, Any]) -> dict[str, Any]:
    body = case["body"] if isinstance(case["body"], str) else json.dumps(case["body"])
    given = case.get("defaults", {}).items()
    configured: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given}
    defaults = Defaults(**configured)
    declarations = {name: parse_declaration(name, table) for name, table in case.get("declarations", {}).items()}
    try:
        message = parse_message(body)
        job = resolve(message, message_id=case["message_id"], defaults=defaults, declarations=declarations)
    except InvalidMessage as error:
        said = {"reason": error.reason, "detail": error.detail, "job": error.job, "run_id": error.run_id}
        return {"error": said}
    return {"job": job.to_json()}


def differences(expected: object, got: object) -> str:
    texts = [json.dumps(v, indent=2, sort_keys=True).splitlines() for v in (expected, got)]
    return "\n".join(difflib.unified_diff(texts[0], texts[1], "expected", "got", lineterm="", n=1))


def test_there_are_cases() -> None:
    assert len(FILES) >= 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_message(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))
    expected = {name: case[name] for name in ("job", "error") if name in case}

    found = differences(expected, resolved(case))

    assert not found, f"{case['about']}\n{found}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kept_job_loads_again(path: Path) -> None:
    kept = json.loads(path.read_text("utf-8")).get("job")
    if kept is not None:
        assert json.loads(json.dumps(Job.from_json(kept).to_json())) == kept
