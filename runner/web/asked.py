"""What a request asks for, read from query, form or JSON, and checked. Pure but for the reading."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from runner.protocol.units import parse_duration, parse_since, parse_time
from runner.web.answers import Misread
from runner.web.sources.source import Change, Filter
from runner.web.words import OUTCOMES

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.requests import Request

MOST_RUNS: Final = 500
STATES: Final = ("", "all", "running", "waiting", "ended")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
PARAM: Final = "param."
"""Before the name of a parameter, in the name of its field."""
_CHANGE_FIELDS: Final = {"note", "args", "env", "command", "params", "for_s", "grace", "on", "until"}


def moment(text: str, name: str) -> float | None:
    """A time, a day, or a duration ago; None where it is empty."""
    text = text.strip()
    if not text:
        return None
    try:
        return parse_time(f"{text}T00:00:00Z") if _DAY.fullmatch(text) else parse_since(text, time.time())
    except ValueError:
        raise Misread(f"cannot read {name}={text[:40]}: give a duration such as 24h, a day, or a time") from None


def place(request: Request) -> int:
    """From which byte a stream goes: where the connection that was lost had come to, else `from`. Raises Misread."""
    start = whole(request.query_params, "from", 0, 1 << 60, 0)
    seen = request.headers.get("last-event-id", "")
    return int(seen) if seen.isascii() and seen.isdecimal() and len(seen) < 19 else start


def whole(params: QueryParams, name: str, default: int, most: int, least: int = 1) -> int:
    text = params.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
        raise Misread(f"cannot read {name}={text[:40]}: it is no whole number from {least} to {most}")
    return int(text)


def runs_filter(params: QueryParams) -> Filter:
    """The filter of a list of runs. Raises Misread."""
    given = [one for value in params.getlist("outcome") for one in value.split(",") if one]
    for one in given:
        if one not in OUTCOMES:
            raise Misread(f"cannot look for outcome {one[:40]}: known are {', '.join(OUTCOMES)}")
    state = params.get("state", "")
    if state not in STATES:
        raise Misread(f"cannot look for state {state[:40]}: known are {', '.join(STATES[2:])}")
    return Filter(
        job=params.get("job", "")[:200],
        group=params.get("group", "")[:200],
        host=params.get("host", "")[:200],
        outcomes=tuple(dict.fromkeys(given)),
        state=state,
        since=moment(params.get("since", ""), "since"),
        until=moment(params.get("until", ""), "until"),
        text=params.get("q", "")[:200],
        limit=whole(params, "limit", 50, MOST_RUNS),
        cursor=cursor(params),
    )


def cursor(params: QueryParams) -> str:
    text = params.get("cursor", "")
    if len(text) > 1000 or not text.isprintable():
        raise Misread("cannot read cursor: take it from the answer before, as it is")
    return text


async def body_of(request: Request) -> dict[str, Any]:
    """The fields of a form, or of a JSON object."""
    raw = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        try:
            pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=100, strict_parsing=bool(raw))
        except ValueError as error:
            raise Misread(f"cannot read the form: {error}") from None
        return dict(pairs)
    if kind not in ("application/json", "") and raw:
        raise Misread(f"cannot read a body of type {kind[:60]}: send application/json")
    if not raw:
        return {}
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        raise Misread("cannot read the body: it is not JSON") from None
    if not isinstance(read, dict):
        raise Misread("cannot read the body: it is not a JSON object")
    return read


def change_of(op: str, fields: dict[str, Any], *, group: str = "", job: str = "", run_id: str = "") -> Change:
    """The change that a body asks for. Raises Misread."""
    unknown = sorted(set(fields) - _CHANGE_FIELDS)
    if unknown:
        raise Misread(f'cannot read the body: unknown field "{unknown[0][:40]}"; known are note, args, env, for_s, …')
    note = fields.get("note", "")
    if not isinstance(note, str):
        raise Misread('cannot read the body: "note" is not a text')
    more = {name: value for name, value in fields.items() if name != "note" and value not in ("", None)}
    if not isinstance(more.get("params", {}), dict):
        raise Misread('cannot read the body: "params" is no object of parameters')
    for name in ("for_s", "grace"):
        if name in more:
            more[name] = _seconds(more[name], name)
    return Change(op, group=group, job=job, run_id=run_id, host=not (group or run_id), note=note.strip(), more=more)


def _seconds(value: Any, name: str) -> float:
    try:
        return parse_duration(float(value) if isinstance(value, str) and value.strip().isdecimal() else value)
    except ValueError:
        raise Misread(f'cannot read the body: "{name}" is no duration') from None


def form_change(op: str, form: dict[str, Any], **target: str) -> tuple[Change, str]:
    """The change of a form, and its key."""
    key = str(form.pop("idempotency_key", ""))
    if "args" in form:
        form["args"] = [line for line in str(form["args"]).splitlines() if line]
    names = [name for name in form if name.startswith(PARAM)]
    if given := {name.removeprefix(PARAM): form.pop(name) for name in names}:
        # A field that was left empty is one that was not given: its default counts.
        form["params"] = {name: value for name, value in given.items() if value != ""}
    return change_of(op, form, **target), key
