"""The description of the API (OpenAPI 3.1), made from one table of operations; a test holds it against the routes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from runner import __version__
from runner.web.words import OUTCOMES

PREFIX: Final = "/api/v1"


@dataclass(frozen=True, slots=True)
class Operation:
    """`path` is below `/api/v1` as OpenAPI writes it; `answer` names a schema, or a media type where it has a slash."""

    method: str
    path: str
    name: str
    summary: str
    answer: str = "Object"
    params: tuple[str, ...] = ()
    status: int = 200


def _change(path: str, name: str, summary: str) -> Operation:
    return Operation("POST", path, name, f"{summary}; JSON with note; Idempotency-Key is honoured")


_PAGED = ("limit", "cursor")
_FILTER = ("job", "group", "host", "outcome", "state", "since", "until", "q", *_PAGED)
OPERATIONS: Final = (
    Operation("GET", f"{PREFIX}/status", "status", "what runs, waits and is wrong, as `status --json`"),
    Operation("GET", f"{PREFIX}/hosts", "hosts", "the hosts, as `hosts --json`", "List"),
    Operation("GET", f"{PREFIX}/queues", "queues", "the queues and how full they are", "List"),
    Operation("GET", f"{PREFIX}/audit", "audit", "who changed what, newest first", "Changes", _PAGED),
    Operation("GET", f"{PREFIX}/runs", "runs", "runs, newest first", "Runs", _FILTER),
    Operation("GET", f"{PREFIX}/runs/{{run_id}}", "run", "a run with its attempts and events"),
    Operation(
        "GET",
        f"{PREFIX}/runs/{{run_id}}/output",
        "output",
        "its output, the offset in X-Next-Offset",
        "text/plain",
        ("from",),
    ),
    Operation(
        "GET",
        f"{PREFIX}/runs/{{run_id}}/stream",
        "stream",
        "the same as it is written: events output (id: the offset) and end (the outcome)",
        "text/event-stream",
        ("from",),
    ),
    Operation("GET", f"{PREFIX}/jobs", "jobs", "the jobs and how each stands", "List"),
    Operation("GET", f"{PREFIX}/jobs/{{group}}/{{job}}", "job", "a job's definition"),
    Operation("GET", f"{PREFIX}/jobs/{{group}}/{{job}}/runs", "job_runs", "its runs, newest first", "Runs", _PAGED),
    Operation("GET", f"{PREFIX}/jobs/{{group}}/{{job}}/next", "job_next", "when it is due next", "List", ("n",)),
    _change(f"{PREFIX}/runs/{{run_id}}/cancel", "cancel", "operate: end a run"),
    _change(f"{PREFIX}/runs/{{run_id}}/rerun", "rerun", "operate: the same message under a new run id"),
    _change(f"{PREFIX}/jobs/{{group}}/{{job}}/run", "job_run", "operate: a run now; with args or env: run"),
    _change(f"{PREFIX}/jobs/{{group}}/{{job}}/enable", "job_enable", "operate: let its schedule fire"),
    _change(f"{PREFIX}/jobs/{{group}}/{{job}}/disable", "job_disable", "operate: let its schedule not fire"),
    _change(
        f"{PREFIX}/jobs/{{group}}/{{job}}/maintenance",
        "job_maintenance",
        "operate: skip its runs (on: true; for_s, until), or not",
    ),
    _change(f"{PREFIX}/groups/{{group}}/pause", "group_pause", "operate: no host of the group starts a run"),
    _change(f"{PREFIX}/groups/{{group}}/resume", "group_resume", "operate: let them again"),
    _change(f"{PREFIX}/host/pause", "host_pause", "operate: this host receives nothing more"),
    _change(f"{PREFIX}/host/resume", "host_resume", "operate: it receives again"),
    _change(f"{PREFIX}/host/drain", "host_drain", "operate: empty this host"),
    Operation("GET", f"{PREFIX}/openapi.json", "openapi", "the description of all this"),
)
_TEXT: Final = {"type": "string"}
_PARAMS: Final[dict[str, dict[str, Any]]] = {
    "outcome": {"type": "array", "items": {"type": "string", "enum": list(OUTCOMES)}},
    "state": {"type": "string", "enum": ["", "all", "running", "waiting", "ended"]},
    "limit": {"type": "integer", "minimum": 1, "maximum": 500, "default": 50},
    "n": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 5},
    "from": {"type": "integer", "minimum": 0, "default": 0},
    "since": {"type": "string", "description": "a duration such as 24h, a day, or a time"},
    "until": {"type": "string", "description": "the same"},
}
_SCHEMAS: Final[dict[str, Any]] = {
    "Object": {"type": "object"},
    "List": {"type": "array", "items": {}},
    "Run": {
        "type": "object",
        "required": ["run_id", "outcome"],
        "properties": {
            "run_id": _TEXT,
            "job": {"type": ["string", "null"]},
            "group": {"type": ["string", "null"]},
            "state": {"type": ["string", "null"]},
            "outcome": {"type": ["string", "null"]},
            "reason": {"type": ["string", "null"]},
            "host": {"type": ["string", "null"]},
            "started_at": {"type": ["string", "null"], "format": "date-time"},
            "ended_at": {"type": ["string", "null"], "format": "date-time"},
            "duration_s": {"type": ["number", "null"]},
            "exit_code": {"type": ["integer", "null"]},
        },
    },
    "Runs": {
        "type": "object",
        "required": ["runs", "cursor"],
        "properties": {
            "runs": {"type": "array", "items": {"$ref": "#/components/schemas/Run"}},
            "cursor": {"type": ["string", "null"]},
        },
    },
    "Changes": {
        "type": "object",
        "required": ["changes", "cursor"],
        "properties": {
            "changes": {"type": "array", "items": {"type": "object"}},
            "cursor": {"type": ["string", "null"]},
        },
    },
    "Change": {
        "type": "object",
        "required": ["note"],
        "additionalProperties": False,
        "properties": {
            "note": {"type": "string", "minLength": 1, "maxLength": 256},
            "args": {"type": "array", "items": _TEXT},
            "env": {"type": "object", "additionalProperties": _TEXT},
            "command": {},
            "params": {"type": "object"},
            "for_s": {"type": ["number", "string"]},
            "grace": {"type": ["number", "string"]},
            "on": {"type": "boolean"},
            "until": _TEXT,
        },
    },
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": _TEXT,
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "code": _TEXT,
            "instance": _TEXT,
        },
    },
}
_PROBLEM: Final = {
    "description": "a problem (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def description() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "cron-runner", "version": __version__, "description": "docs/web.md tells about roles."},
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "cron_runner_web"},
            },
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    params: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in re.findall(r"{(\w+)}", one.path)
    ]
    params += [{"name": name, "in": "query", "schema": _PARAMS.get(name, _TEXT)} for name in one.params]
    kind = one.answer if "/" in one.answer else "application/json"
    schema = _TEXT if "/" in one.answer else {"$ref": f"#/components/schemas/{one.answer}"}
    made: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": params,
        "responses": {
            str(one.status): {"description": "done", "content": {kind: {"schema": schema}}},
            "default": _PROBLEM,
        },
    }
    if one.method == "POST":
        params.append({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 200}})
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Change"}}},
        }
    return made
