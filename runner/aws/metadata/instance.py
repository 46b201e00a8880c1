"""What the metadata of this EC2 instance says of its end.

Sources: docs.aws.amazon.com, EC2 user guide, "Spot Instance interruption notices"; EC2 Auto Scaling user guide,
"Retrieve the target lifecycle state through instance metadata".
"""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from http.client import HTTPException
from typing import TYPE_CHECKING

from runner.aws.metadata.asking import ask
from runner.aws.settings import METADATA_ENDPOINT, METADATA_TIMEOUT_S
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

SPOT_PATH = "/latest/meta-data/spot/instance-action"
AUTOSCALING_PATH = "/latest/meta-data/autoscaling/target-lifecycle-state"
_TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
_ADDRESS = "http://169.254.169.254"
_TOKEN_FOR_S = 60


def end_announced() -> str | None:
    """Why and when this instance is going to end; None while nothing is announced. Waits, so it is called in a thread.

    Raises AwsUnavailable where there is no metadata service, or it cannot be asked.
    """
    token = _ask("PUT", _TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_FOR_S)})
    headers = {"X-aws-ec2-metadata-token": token}
    return read_notice(_ask("GET", SPOT_PATH, headers), _ask("GET", AUTOSCALING_PATH, headers))


def _ask(method: str, path: str, headers: Mapping[str, str]) -> str:
    """The text there; "" where there is nothing (404)."""
    address = os.environ.get(METADATA_ENDPOINT, _ADDRESS).rstrip("/")
    try:
        answer = ask(method, f"{address}{path}", headers, timeout=METADATA_TIMEOUT_S)
    except (OSError, HTTPException, ValueError) as error:
        raise AwsUnavailable("instance metadata", "NoAnswer", str(error)) from error
    if answer.status == HTTPStatus.NOT_FOUND:
        return ""
    if answer.status != HTTPStatus.OK:
        raise AwsUnavailable("instance metadata", str(answer.status), "not what a metadata service answers")
    return answer.body[:4096].decode("utf-8", "replace")


def read_notice(spot: str, lifecycle: str) -> str | None:
    """The notice in words. `spot` is ``{"action": "terminate", "time": "…"}`` or empty, `lifecycle` a state's name."""
    if spot:
        try:
            notice = json.loads(spot)
            return f"spot interruption: {notice['action']} at {notice['time']}"
        except (ValueError, KeyError, TypeError):
            return "spot interruption"
    # Also the states of a warm pool that an instance is stopped or put to sleep into.
    if lifecycle.strip() in ("Terminated", "Warmed:Terminated", "Warmed:Stopped", "Warmed:Hibernated"):
        return f"auto scaling: {lifecycle.strip()}"
    return None
