"""The least that AWS has to allow, by the configuration. Pure: no call, no import of botocore.

Three documents: what the agent needs (`agent_policy`), what somebody needs who sends jobs (`sender_policy`), and what
somebody needs who reads the output (`reader_policy`). What a configuration does not tell (the account of a queue that
is given by name, a region that is not set) is ``*`` in an ARN, which still names one queue or log group.

Actions and resources are those of the service authorization reference, list_amazonsqs and list_amazoncloudwatchlogs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runner.aws.regions import region_of_queue_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.config import Config

DEAD_LETTER_PLACEHOLDER = "NAME-OF-THE-DEAD-LETTER-QUEUE"
"""Stands for the target of the queue's redrive policy, which only AWS knows."""

TABLE_PLACEHOLDER = "NAME-OF-THE-FLEET-TABLE"
"""Stands for the fleet's table where the configuration names none."""

RECEIVER_ACTIONS = (
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:GetQueueAttributes",
)
SENDER_ACTIONS = ("sqs:SendMessage",)
LOOKUP_ACTION = "sqs:GetQueueUrl"
LOG_WRITER_ACTIONS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
RETENTION_ACTION = "logs:PutRetentionPolicy"
LOG_READER_ACTIONS = ("logs:DescribeLogStreams", "logs:FilterLogEvents", "logs:GetLogEvents")
# Directives are read by a query of their partition, claims and locks are written by conditional updates; a run that
# replaces one on another host leaves a directive.
# The page looks at jobs, runs and directives, and writes what the commands write.
WEB_TABLE_ACTIONS = (
    *("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"),
    *("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:BatchWriteItem"),
)
WEB_QUEUE_ACTIONS = ("sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage")
FLEET_ACTIONS = ("dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:BatchWriteItem")
LIFECYCLE_ACTIONS = ("autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat")
KMS_ACTIONS = ("kms:Decrypt", "kms:GenerateDataKey")
_WHOLE_ARN = re.compile(r"-[A-Za-z0-9]{6}$")


@dataclass(frozen=True, slots=True)
class Home:
    """Where things are whose place the configuration does not say; ``*`` where nobody knows."""

    region: str = "*"
    account: str = "*"

    @property
    def partition(self) -> str:
        """``aws``, or that of China or of the government's regions."""
        return partition_of(self.region)


def agent_policy(
    config: Config,
    *,
    region: str = "",
    account: str = "",
    dead_letter_arn: str = "",
    kms_keys: Sequence[str] = (),
    secret_keys: Sequence[str] = (),
) -> dict[str, Any]:
    """The policy of the role that hosts of this group run with.

    ``region`` and ``account`` fill in what neither a URL nor the configuration says. ``dead_letter_arn`` is the target
    of the job queue's redrive policy, ``kms_keys`` are ARNs of keys that encrypt the queues, ``secret_keys`` those that
    encrypt the secrets: without, any key may be used for just these secrets.
    """
    home = _home(config, region, account)
    queue, results = config.queue, config.results
    statements = [_queue("JobQueue", RECEIVER_ACTIONS, queue.url, queue.name, home)]
    if results.url or results.name:
        statements.append(_queue("Results", SENDER_ACTIONS, results.url, results.name, home))
    statements.append(_dead_letters(config, home, dead_letter_arn))
    if "cloudwatch" in config.output.sinks:
        place = config.output.cloudwatch
        actions = (*LOG_WRITER_ACTIONS, RETENTION_ACTION) if place.retention_days else LOG_WRITER_ACTIONS
        statements.append(_allow("Output", actions, _log_group(output_group(config), home)))
    if config.agent.cloudwatch_log_group:
        group = config.agent.cloudwatch_log_group
        statements.append(_allow("AgentLog", LOG_WRITER_ACTIONS, _log_group(group, home)))
    if config.fleet.table:
        statements.append(_fleet_table(config, home))
    if config.fleet.lifecycle_hook:
        # The middle of the ARN is an id that AWS gives the group.
        named = f"autoScalingGroup:*:autoScalingGroupName/{config.fleet.lifecycle_hook.rpartition('/')[0]}"
        arn = f"arn:{home.partition}:autoscaling:{home.region}:{home.account}:{named}"
        statements.append(_allow("LifecycleHook", LIFECYCLE_ACTIONS, [arn]))
    return _document([*statements, *_keys(kms_keys), *_secrets(config, home, secret_keys)])


def sender_policy(
    config: Config, *, region: str = "", account: str = "", kms_keys: Sequence[str] = ()
) -> dict[str, Any]:
    """What `cron-runner send` needs, or anything else that puts jobs on the queue."""
    home = _home(config, region, account)
    queue = config.queue
    return _document([_queue("SendJobs", SENDER_ACTIONS, queue.url, queue.name, home), *_keys(kms_keys)])


def reader_policy(config: Config, *, region: str = "", account: str = "") -> dict[str, Any]:
    """What `cron-runner logs` needs on a machine that is not the host of the run."""
    home = _home(config, region, account)
    return _document([_allow("ReadOutput", LOG_READER_ACTIONS, _log_group(output_group(config), home))])


def web_policy(config: Config, *, region: str = "", account: str = "", kms_keys: Sequence[str] = ()) -> dict[str, Any]:
    """What the page of the fleet needs (`cron-runner web`). Queues of other groups are added as they are named."""
    home = _home(config, region, account)
    name = config.fleet.table or TABLE_PLACEHOLDER
    table = f"arn:{home.partition}:dynamodb:{home.region}:{home.account}:table/{name}"
    dead = (
        queue_arn(config.queue.dead_letter_url, "", home)
        if config.queue.dead_letter_url
        else f"{queue_arn(config.queue.url, config.queue.name, home).rpartition(':')[0]}:{DEAD_LETTER_PLACEHOLDER}"
    )
    statements = [
        _allow("FleetTable", WEB_TABLE_ACTIONS, [table, f"{table}/index/by-job", f"{table}/index/by-state"]),
        _allow("JobQueue", WEB_QUEUE_ACTIONS, [queue_arn(config.queue.url, config.queue.name, home)]),
        _allow("DeadLetters", WEB_QUEUE_ACTIONS[:2], [dead]),
        _allow("ReadOutput", LOG_READER_ACTIONS, _log_group(output_group(config), home)),
    ]
    return _document([*statements, *_keys(kms_keys)])


def output_group(config: Config) -> str:
    """The log group that jobs' output goes to."""
    return config.output.cloudwatch.log_group.replace("{group}", config.group)


def queue_arn(url: str, name: str = "", home: Home | None = None) -> str:
    """The ARN of a queue given by URL or by name; what is not known of it is from ``home``."""
    home = home or Home()
    account, last = home.account, name
    if url:
        parts = [part for part in urlsplit(url).path.split("/") if part]
        last = parts[-1]
        if len(parts) > 1:
            account = parts[-2]
    region = region_of_queue_url(url) or home.region
    return f"arn:{partition_of(region)}:sqs:{region}:{account}:{last}"


def partition_of(region: str) -> str:
    """The partition that a region is in; ARNs of other partitions are refused in a policy."""
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("eusc-", "aws-eusc")):
        if region.startswith(prefix):
            return partition
    return "aws"


def _home(config: Config, region: str, account: str) -> Home:
    """The job queue's own account and region stand for what is not said of the others: they mostly share them."""
    of_queue = queue_arn(config.queue.url).split(":") if config.queue.url else [""] * 6
    return Home(
        region=region or (of_queue[3] if of_queue[3] != "*" else "") or "*",
        account=account or (of_queue[4] if of_queue[4].isdecimal() else "") or "*",
    )


def _queue(sid: str, actions: Sequence[str], url: str, name: str, home: Home) -> dict[str, Any]:
    # A name is looked up; a URL needs no lookup.
    return _allow(sid, actions if url else (*actions, LOOKUP_ACTION), [queue_arn(url, name, home)])


def _dead_letters(config: Config, home: Home, arn: str) -> dict[str, Any]:
    if config.queue.dead_letter_url:
        return _queue("DeadLetters", SENDER_ACTIONS, config.queue.dead_letter_url, "", home)
    # The redrive policy names a queue of the job queue's own account and region, whose URL the agent looks up.
    job_queue = queue_arn(config.queue.url, config.queue.name, home)
    target = arn or f"{job_queue.rpartition(':')[0]}:{DEAD_LETTER_PLACEHOLDER}"
    return _allow("DeadLetters", (*SENDER_ACTIONS, LOOKUP_ACTION), [target])


def _fleet_table(config: Config, home: Home) -> dict[str, Any]:
    # Every key of the table begins with the group, so a host is held to its own.
    arn = f"arn:{home.partition}:dynamodb:{home.region}:{home.account}:table/{config.fleet.table}"
    keys = {"dynamodb:LeadingKeys": f"{config.group}#*"}
    return {**_allow("FleetTable", FLEET_ACTIONS, [arn]), "Condition": {"ForAllValues:StringLike": keys}}


def _log_group(group: str, home: Home) -> list[str]:
    # "For most API actions" a group's ARN ends in :*, and the authorization reference gives it without.
    arn = f"arn:{home.partition}:logs:{home.region}:{home.account}:log-group:{group}"
    return [arn, f"{arn}:*"]


def secret_references(config: Config) -> list[str]:
    """What jobs of this host may fetch: references of declared jobs, and the globs of `[run] allowed_secrets`."""
    named = [reference for job in config.jobs.values() for reference in (job.secrets or {}).values()]
    return list(dict.fromkeys([*named, *config.run.allowed_secrets]))


def _secrets(config: Config, home: Home, keys: Sequence[str]) -> Iterable[dict[str, Any]]:
    """By name in each store; and to decrypt, what the store says in KMS's encryption context that it is."""
    for store, sid, action, context in (
        ("ssm", "Parameters", "ssm:GetParameters", "PARAMETER_ARN"),
        ("secretsmanager", "Secrets", "secretsmanager:GetSecretValue", "SecretARN"),
    ):
        arns = sorted({_secret_arn(store, name, home) for name in _names_in(store, secret_references(config))})
        if not arns:
            continue
        yield _allow(sid, [action], arns)
        conditions = {
            "kms:ViaService": f"{store}.{home.region}.amazonaws.com",
            f"kms:EncryptionContext:{context}": arns,
        }
        parts = [arn.split(":") for arn in arns]  # a key is where the secret is
        used = list(keys) or sorted({f"{':'.join([*of[:2], 'kms', *of[3:5]])}:key/*" for of in parts})
        yield {**_allow(f"{sid}Keys", ["kms:Decrypt"], used), "Condition": {"StringLike": conditions}}


def _names_in(store: str, references: Iterable[str]) -> Iterable[str]:
    for reference in references:
        before, colon, name = reference.partition(":")
        if before == store and colon:
            yield name
        elif "*" in before:  # a glob over all stores
            yield "*"


def _secret_arn(store: str, name: str, home: Home) -> str:
    """Of a name, an ARN or a glob: IAM has `*` and `?` too, and no `[…]`."""
    name = re.sub(r"\[[^]]*]", "?", name.partition("#")[0])
    here = f"arn:{home.partition}:{store}:{home.region}:{home.account}"
    if store == "ssm":
        if name.startswith("arn:"):  # behind the sixth colon there is a version or a label
            return ":".join(name.split(":")[:6])
        return f"{here}:parameter/{name.partition(':')[0].removeprefix('/')}"
    arn = name if name.startswith("arn:") else f"{here}:secret:{name}"
    # Behind the name AWS puts a dash and six characters; an ARN may have them already.
    return arn if arn.endswith("*") or (name.startswith("arn:") and _WHOLE_ARN.search(arn)) else f"{arn}-??????"


def _keys(arns: Sequence[str]) -> Iterable[dict[str, Any]]:
    return [_allow("QueueKeys", KMS_ACTIONS, list(arns))] if arns else []


def _allow(sid: str, actions: Sequence[str], resources: list[str]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": resources[0] if len(resources) == 1 else resources,
    }


def _document(statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}
