"""A failed AWS call → a finding with its remedy. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.aws.failures import apart
from runner.check.finding import Finding, failed, warning

if TYPE_CHECKING:
    from runner.errors import AwsUnavailable

# What concerns every call to the same place: it is said once, and the other calls are not made.
OF_THE_PLACE = frozenset(
    ("unreachable", "timeout", "credentials", "clock", "no_such_queue", "settings", "bad_answer", "server")
)

_REMEDY = {
    "unreachable": "check network, DNS, proxy and AWS_ENDPOINT_URL; in a private network add a VPC endpoint",
    "timeout": "check security groups, routes and proxy; in a private network add a VPC endpoint",
    "credentials": "renew them: instance role, AWS_PROFILE, or AWS_ACCESS_KEY_ID",
    "clock": "set the clock: enable chrony or systemd-timesyncd",
    "no_such_queue": "create the queue, or correct its url or name in the configuration, the account and AWS_REGION",
    "settings": "correct AWS_REGION, AWS_ENDPOINT_URL, AWS_PROFILE or the AWS config file",
    "bad_answer": "correct AWS_ENDPOINT_URL, or let the proxy pass AWS's answers through",
    "missing": "allow logs:CreateLogGroup, or create the log group",
    "server": "wait and check again; look at https://health.aws.amazon.com",
    "throttled": "check again later, and ask for a higher quota if it lasts",
}


def refusal(name: str, error: AwsUnavailable, *, permission: str, where: str) -> Finding:
    """The finding for a call that failed. ``permission`` is the IAM action, ``where`` the queue or log group."""
    what, remedy = apart(error)
    detail = f"cannot call {error.call} on {where}: {error.code}: {what}"
    if error.code.lower().startswith("kms"):
        return failed(
            name, detail,
            "allow kms:Decrypt and kms:GenerateDataKey on the queue's key, in the key's policy and in the host's "
            "(`cron-runner check --iam-policy --kms-key ARN`)",
        )  # fmt: skip
    if error.kind == "denied":
        return failed(
            name, detail, f"allow {permission} there in the host's IAM policy: `cron-runner check --iam-policy` has it"
        )
    if error.kind == "throttled":
        return warning(name, detail, _REMEDY["throttled"])
    return failed(name, detail, remedy or _REMEDY.get(error.kind, "correct what AWS names, or check again"))


def no_credentials(error: AwsUnavailable, environment: str = "") -> Finding:
    """The finding where no call can be made at all; ``environment`` says from where the agent has its variables."""
    what, remedy = apart(error)
    where = f"; {environment}" if environment else ""
    return failed("credentials", what, f"{remedy or _REMEDY.get(error.kind, _REMEDY['credentials'])}{where}")
