"""The stores of secrets: SSM's Parameter Store and Secrets Manager. What they answer is in no message of an error.

https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html and
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.aws.session import Session

PARAMETERS_AT_ONCE = 10
"""GetParameters takes no more names."""


async def parameter(session: Session, name: str) -> str:
    """One parameter's value, decrypted, for those that send notices; raises `AwsUnavailable`, whose code is
    ``ParameterNotFound`` for none."""
    return await session.call(
        "parameters",
        "GetParameter",
        lambda ssm: ssm.get_parameter(Name=name, WithDecryption=True),
        lambda answer: str(answer["Parameter"]["Value"]),
    )


async def parameters(session: Session, names: Sequence[str]) -> Mapping[str, str]:
    """The values of up to ten parameters, decrypted, by the names that were asked for; those that are missing there do
    not exist. Raises `AwsUnavailable`: for all of them, also where only one may not be read."""

    def read(answer: Mapping[str, Any]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for one in answer["Parameters"]:
            selector = one.get("Selector") or ""  # `:3` or `:label`, which Name is without
            for name in (one.get("Name"), one.get("ARN")):
                found[f"{name}{selector}"] = str(one["Value"])
        return {name: found[name] for name in names if name in found}

    return await session.call(
        "ssm", "GetParameters", lambda ssm: ssm.get_parameters(Names=list(names), WithDecryption=True), read
    )


async def secret(session: Session, name: str) -> str | None:
    """The text of a secret's current version; None where it is binary. Raises `AwsUnavailable`."""

    def read(answer: Mapping[str, Any]) -> str | None:
        text = answer.get("SecretString")
        return None if text is None else str(text)

    return await session.call(
        "secretsmanager", "GetSecretValue", lambda client: client.get_secret_value(SecretId=name), read
    )
