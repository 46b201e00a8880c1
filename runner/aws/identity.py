"""As whom AWS is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.aws.session import Session


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where credentials come from, never what they are.

    ``method`` is botocore's word: ``env``, ``shared-credentials-file``, ``iam-role``, ``container-role``,
    ``assume-role``… ``temporary``: they have an end. ``renewed``: botocore fetches new ones before that by itself.
    ``expires`` is unix seconds, None where they have no end or do not say it.
    """

    method: str
    temporary: bool
    renewed: bool
    expires: float | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who AWS says that we are (STS GetCallerIdentity, which needs no permission)."""

    arn: str
    account: str


def read_credentials(found: Any) -> Credentials:
    """What a botocore credentials object says of itself."""
    frozen = found.get_frozen_credentials()  # fetches those that are due
    expires = getattr(found, "_expiry_time", None)
    return Credentials(
        method=str(found.method),
        temporary=bool(frozen.token),
        renewed=hasattr(found, "refresh_needed"),
        expires=expires.timestamp() if expires is not None else None,
    )


async def caller_identity(session: Session) -> Identity:
    """Ask STS. Raises `runner.errors.AwsUnavailable`."""
    return await session.call(
        "identity",
        "GetCallerIdentity",
        lambda sts: sts.get_caller_identity(),
        lambda answer: Identity(str(answer["Arn"]), str(answer["Account"])),
    )
