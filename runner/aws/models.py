"""botocore's description of AWS, cut to what is called here: it is the larger part of what a client costs
in memory.

botocore reads the description of each service as JSON and keeps it: operations, shapes and their
documentation, and an endpoint table of every service there is. Left out are the documentation, the
operations that are never called with the shapes only they use, and the endpoints of other services.
"""

from __future__ import annotations

import re
from typing import Any

from botocore.loaders import JSONFileLoader

OPERATIONS = {
    "sqs": frozenset(
        (
            "ChangeMessageVisibilityBatch",
            "DeleteMessageBatch",
            "GetQueueAttributes",
            "GetQueueUrl",
            "ReceiveMessage",
            "SendMessageBatch",
        )
    ),
    "logs": frozenset(
        (
            "CreateLogGroup",
            "CreateLogStream",
            # The agent's own log goes through watchtower, which asks for these two besides.
            "DescribeLogGroups",
            "TagResource",
            "DescribeLogStreams",
            "FilterLogEvents",
            "GetLogEvents",
            "PutLogEvents",
            "PutRetentionPolicy",
        )
    ),
    "dynamodb": frozenset(
        (
            "BatchGetItem",
            "BatchWriteItem",
            "CreateTable",
            "DeleteItem",
            "GetItem",
            "PutItem",
            "Query",
            "TransactWriteItems",
            "UpdateItem",
            "UpdateTimeToLive",
        )
    ),
    "scheduler": frozenset(
        (
            "CreateSchedule",
            "CreateScheduleGroup",
            "DeleteSchedule",
            "GetSchedule",
            "ListSchedules",
            "UpdateSchedule",
        )
    ),
    "sns": frozenset(("Publish",)),
    "ssm": frozenset(("GetParameter", "GetParameters")),
    "secretsmanager": frozenset(("GetSecretValue",)),
    "kms": frozenset(("GetPublicKey", "Sign")),
    "autoscaling": frozenset(("CompleteLifecycleAction", "RecordLifecycleActionHeartbeat")),
}
# Of these an installation needs botocore's descriptions: packages hold no other. The last four are called by botocore
# itself, where credentials come from a role, a single sign-on or a login.
SERVICES = (*OPERATIONS, "sts", "sso", "sso-oidc", "signin")
# The same by their names in the endpoint table.
_ENDPOINTS_OF = frozenset((*OPERATIONS, "sts", "sso", "portal.sso", "oidc"))
_SERVICE_FILE = re.compile(rf".*/(?P<service>{'|'.join(OPERATIONS)})/[0-9-]+/service-2")


class LeanModels(JSONFileLoader):
    """Reads botocore's data files; hands on what is left of them."""

    def load_file(self, file_path: str) -> Any:
        data = super().load_file(file_path)
        if data is None:
            return None
        if match := _SERVICE_FILE.fullmatch(file_path):
            return cut_service(data, OPERATIONS[match["service"]])
        if file_path.endswith("/endpoints"):
            return _cut_endpoints(data)
        return data


def cut_service(model: dict[str, Any], operations: frozenset[str]) -> dict[str, Any]:
    """The model with these operations, every exception, and the shapes they need; without documentation."""
    kept = {name: value for name, value in model["operations"].items() if name in operations}
    shapes: dict[str, Any] = model["shapes"]
    wanted = [name for name, shape in shapes.items() if shape.get("exception")]
    wanted += _names_of_shapes(kept)
    needed: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in needed:
            needed[name] = shapes[name]
            wanted += _names_of_shapes(shapes[name])
    lean: dict[str, Any] = _without_documentation({**model, "operations": kept, "shapes": needed})
    return lean


def _cut_endpoints(table: dict[str, Any]) -> dict[str, Any]:
    partitions = [
        {**partition, "services": {k: v for k, v in partition["services"].items() if k in _ENDPOINTS_OF}}
        for partition in table["partitions"]
    ]
    return {**table, "partitions": partitions}


def _names_of_shapes(node: Any) -> list[str]:
    """Every ``{"shape": NAME}`` within a piece of a model."""
    if isinstance(node, dict):
        here = [node["shape"]] if isinstance(node.get("shape"), str) else []
        return here + [name for value in node.values() for name in _names_of_shapes(value)]
    if isinstance(node, list):
        return [name for value in node for name in _names_of_shapes(value)]
    return []


def _without_documentation(node: Any) -> Any:
    """A copy without documentation. A member that happens to be called so is an object, not a text."""
    if isinstance(node, dict):
        return {
            key: _without_documentation(value)
            for key, value in node.items()
            if not (key == "documentation" and isinstance(value, str))
        }
    if isinstance(node, list):
        return [_without_documentation(value) for value in node]
    return node
