"""A job's parameters in its file, in the table and in its messages. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner.protocol.params import Param, arguments, parse, placed, values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def says(params: Sequence[Param]) -> dict[str, Any]:
    """As a file has them."""
    return {"params": {one.name: one.said() for one in params} or None}


def item(params: Sequence[Param]) -> dict[str, Any]:
    """As the table has them: as text, since of a map DynamoDB keeps no order, and arguments have one."""
    return {"params": json.dumps({one.name: one.said() for one in params})} if params else {}


def params_of(item: Mapping[str, Any]) -> tuple[Param, ...]:
    """What `item` wrote; ValueError for what another version wrote."""
    return parse("params", json.loads(item["params"])) if item.get("params") else ()


def filled(
    message: Mapping[str, Any], params: Sequence[Param], given: Mapping[str, object] | None = None
) -> Mapping[str, Any]:
    """The fields of the message of a run with these parameters, the others by their defaults; raises InvalidMessage
    with all that is wrong with them."""
    args, env = placed(values(given or {}, params), params)
    said = dict(message)
    if env:
        said["env"] = {**said.get("env", {}), **env}
    if args and "command" in said:
        said["command"] = [*said["command"], *args]
    elif args:
        said["args"] = args  # of a job that its host declares
    return said


def asks(params: Sequence[Param]) -> bool:
    """Whether one has to be given, without which the job cannot be run."""
    return any(one.default is None for one in params)


def faults(said: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Faults between a job's parameters and its other fields, as they were read: (field, text)."""
    mine: tuple[Param, ...] = said.get("params", ())
    for one in mine:
        if one.to == "env" and one.variable in said.get("env", {}):
            yield f"env.{one.variable}", f"is what the parameter {one.name} sets; leave one of them out"
        if one.default is None and (said.get("schedule") or said.get("after")):
            yield f"params.{one.name}.default", "is missing, and its schedule or parents have nobody to ask; give one"
    if arguments(mine) and isinstance(said.get("command"), str):
        # Which shell it is, and so where its arguments go, is the host's to know.
        yield "params", 'go to a list of words: give the command as one, or say to = "env" and use the variable in it'
    if arguments(mine) and "args" in said:
        yield "args", 'the parameters with to = "arg" are the arguments here; leave it out'
