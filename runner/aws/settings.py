"""The ordinary AWS settings and the metadata service, as far as botocore leaves something to decide."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.session import Session as BotocoreSession

METADATA_ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"  # the same variable as botocore's
METADATA_TIMEOUT_S = 5
METADATA_ATTEMPTS = 2
"""botocore gives the metadata service one attempt of 1 second, too little for a host that is busy booting."""


def refuse_foreign_answer(response_dict: Mapping[str, Any], **_: object) -> None:
    """botocore takes an answer 200 that is no JSON, as of a proxy's sign-in page, for an empty success.

    Events would be taken for delivered, and a poll would come back empty at once, for ever.
    """
    body = response_dict.get("body") or b""
    if response_dict.get("status_code") == 200 and isinstance(body, bytes) and body[:1] not in (b"", b"{"):
        msg = f"it begins with {body[:40]!r}"
        raise ValueError(msg)


def configured_endpoint(session: BotocoreSession, service: str) -> str:
    """The endpoint that is set for this service, in the environment or the profile; empty where there is none."""
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return ""
    # In these settings a service is called after its id.
    setting = {"logs": "cloudwatch_logs", "secretsmanager": "secrets_manager"}.get(service, service)
    profile = session.get_scoped_config()
    section = session.full_config.get("services", {}).get(profile.get("services", ""), {})
    # In botocore's order.
    return str(
        os.environ.get(f"AWS_ENDPOINT_URL_{setting.upper()}")
        or os.environ.get("AWS_ENDPOINT_URL")
        or section.get(setting, {}).get("endpoint_url")
        or profile.get("endpoint_url")
        or ""
    )


def raise_metadata_limits(session: BotocoreSession) -> None:
    """More patience with the metadata service than botocore's, unless the operator has said how much."""
    for name, default in (
        ("metadata_service_timeout", METADATA_TIMEOUT_S),
        ("metadata_service_num_attempts", METADATA_ATTEMPTS),
    ):
        if f"AWS_{name.upper()}" not in os.environ and name not in session.get_scoped_config():
            session.set_config_variable(name, default)


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
