"""What the metadata of this EC2 instance says of its end.

Sources: docs.aws.amazon.com, EC2 user guide, "Spot Instance interruption notices"; EC2 Auto Scaling user guide,
"Retrieve the target lifecycle state through instance metadata"; EC2 user guide, "EC2 instance rebalance
recommendations".
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
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
REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
_ID_PATH = "/latest/meta-data/instance-id"
_TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
_ADDRESS = "http://169.254.169.254"
_TOKEN_FOR_S = 60


@dataclass(frozen=True, slots=True)
class Notice:
    """Why and when this instance is to end, in words. ``hook``: Auto Scaling waits for its life-cycle hook, if any."""

    text: str
    hook: bool = False


def end_announced(*, rebalance: bool = False) -> Notice | None:
    """What is announced for this instance; with ``rebalance`` also what AWS recommends. Waits, so it is called in a
    thread.

    Raises AwsUnavailable where there is no metadata service, or it cannot be asked.
    """
    paths = [SPOT_PATH, AUTOSCALING_PATH, *([REBALANCE_PATH] if rebalance else [])]
    return read_notice(*_ask_for(*paths))


def instance_id() -> str:
    """This instance's own; waits, and raises, as the above."""
    (found,) = _ask_for(_ID_PATH)
    return found.strip()


def _ask_for(*paths: str) -> list[str]:
    token = _ask("PUT", _TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_FOR_S)})
    return [_ask("GET", path, {"X-aws-ec2-metadata-token": token}) for path in paths]


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


def read_notice(spot: str, lifecycle: str, rebalance: str = "") -> Notice | None:
    """The notice. `spot` is ``{"action": "terminate", "time": "…"}``, `rebalance` ``{"noticeTime": "…"}``, either of
    them empty for none; `lifecycle` is a state's name."""
    # Also the states of a warm pool that an instance is stopped or put to sleep into.
    hook = lifecycle.strip() in ("Terminated", "Warmed:Terminated", "Warmed:Stopped", "Warmed:Hibernated")
    if spot:
        try:
            notice = json.loads(spot)
            return Notice(f"spot interruption: {notice['action']} at {notice['time']}", hook)
        except (ValueError, KeyError, TypeError):
            return Notice("spot interruption", hook)
    if hook:
        return Notice(f"auto scaling: {lifecycle.strip()}", hook)
    if rebalance:
        try:
            return Notice(f"rebalance recommendation of {json.loads(rebalance)['noticeTime']}")
        except (ValueError, KeyError, TypeError):
            return Notice("rebalance recommendation")
    return None
