"""Secrets from AWS's parameter store."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.aws.session import Session


async def parameter(session: Session, name: str) -> str:
    """A parameter's value, decrypted; raises `AwsUnavailable`, whose code is ``ParameterNotFound`` for none."""
    return await session.call(
        "parameters",
        "GetParameter",
        lambda ssm: ssm.get_parameter(Name=name, WithDecryption=True),
        lambda answer: str(answer["Parameter"]["Value"]),
    )
