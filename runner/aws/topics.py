"""SNS: publish to a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.session import Session


async def publish(
    session: Session, arn: str, *, subject: str, text: str, attributes: Mapping[str, str], key: str
) -> None:
    """Publish one message; raises `AwsUnavailable`. ``key`` names the message where the topic is FIFO."""
    request: dict[str, Any] = {
        "TopicArn": arn,
        "Subject": subject,
        "Message": text,
        "MessageAttributes": {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    }
    if arn.endswith(".fifo"):
        request |= {"MessageGroupId": attributes.get("job", "cron-runner"), "MessageDeduplicationId": key[:128]}
    await session.call("topics", "Publish", lambda sns: sns.publish(**request), lambda _: None)
