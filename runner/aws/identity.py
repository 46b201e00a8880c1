"""As whom AWS is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.aws.session import Session


@dataclass(frozen=True, slots=True)
class Identity:
    """Who AWS says that we are (STS GetCallerIdentity, which needs no permission)."""

    arn: str
    account: str


async def caller_identity(session: Session) -> Identity:
    """Ask STS. Raises `runner.errors.AwsUnavailable`."""
    return await session.call(
        "identity",
        "GetCallerIdentity",
        lambda sts: sts.get_caller_identity(),
        lambda answer: Identity(str(answer["Arn"]), str(answer["Account"])),
    )
