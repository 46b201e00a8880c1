"""The calls of `runner.aws.sqs`, direct and by botocore's client, on another SQS: what is sent comes back, once."""

from __future__ import annotations

import asyncio
import os
import sys

from runner.aws.messages import Outgoing
from runner.aws.session import Session
from runner.aws.sqs import Queue
from runner.cli.demos.stand_in import aws_environment


async def ask(endpoint: str, *, direct: bool) -> None:
    """One queue's life."""
    import boto3

    client = boto3.client("sqs", endpoint_url=endpoint, region_name="eu-west-1")
    dead = client.create_queue(QueueName=f"dead-{direct}")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 5}}'
    client.create_queue(QueueName=f"jobs-{direct}", Attributes={"RedrivePolicy": policy})
    session = Session(direct=direct)
    queue = Queue(session, name=f"jobs-{direct}")
    facts = await queue.facts()
    assert facts.redrive is not None
    assert facts.redrive.max_receive_count == 5
    assert await queue.url_of_arn(facts.redrive.target_arn)
    bodies = [f'{{"job": "j{n}", "command": "true"}}' for n in range(10)]
    assert await queue.send([Outgoing(str(n), body) for n, body in enumerate(bodies)]) == []
    first = []
    while len(first) < 10:
        first += await queue.receive(10, 1.0, 30.0)
    assert sorted(one.body for one in first) == sorted(bodies)
    assert {one.delivery for one in first} == {1}
    assert await queue.receive(10, 0.0, 30.0) == [], "what is held is hidden"
    assert await queue.extend([(first[0].receipt, 0.0)]) == []
    (again,) = await queue.receive(10, 2.0, 30.0)
    assert (again.body, again.delivery) == (first[0].body, 2)
    assert await queue.delete([again.receipt, *(one.receipt for one in first[1:])]) == []
    assert (await queue.facts()).in_flight == 0
    session.close()
    sys.stdout.write(f"direct={direct}: 10 messages sent, received, one again, all deleted\n")


def main() -> int:
    """0 where all of it is as SQS has it."""
    os.environ.update(aws_environment(sys.argv[1], {}))
    for direct in (True, False):
        asyncio.run(ask(sys.argv[1], direct=direct))
    return 0


if __name__ == "__main__":
    sys.exit(main())
