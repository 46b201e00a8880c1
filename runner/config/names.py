"""Names and addresses: of the group, in AWS, and of what is listened on or sent to.

Each check refuses with a ValueError that says what is right.
"""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
STREAM_PLACEHOLDERS = ("job", "run_id", "host", "date", "attempt")

_GROUP = re.compile(r"[A-Za-z0-9._-]{1,128}")
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_QUEUE_ARN = re.compile(r"arn:aws:sqs:([a-z0-9-]+):(\d{12}):([A-Za-z0-9_.-]+)")
_LOG_GROUP = re.compile(r"[A-Za-z0-9._/#-]{1,512}")
_LOG_STREAM = re.compile(r"[^:*\x00-\x1f]{1,512}")


def group(value: str) -> None:
    # An empty one is not set: told with what else is missing.
    if value and not _GROUP.fullmatch(value):
        raise ValueError(f'"{value}" must be 1 to 128 of the characters A-Z a-z 0-9 . _ -')


def queue_url(value: str) -> None:
    if not value:
        return
    parts = _split(value)
    if arn := _QUEUE_ARN.fullmatch(value):
        raise ValueError(f"is an ARN; give the queue's URL: https://sqs.{arn[1]}.amazonaws.com/{arn[2]}/{arn[3]}")
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.strip("/"):
        raise ValueError(f'"{value}" is not a queue URL, such as https://sqs.eu-west-1.amazonaws.com/123456789012/cron')


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises ValueError for a port that is no number
    except ValueError as error:
        raise ValueError(f'"{address}" is not an address: {error}') from None
    return parts


def queue_name(value: str) -> None:
    if value and not _QUEUE_NAME.fullmatch(value):
        raise ValueError(f'"{value}" is not a queue name: up to 80 of A-Z a-z 0-9 _ -, with .fifo at the end for FIFO')


def table_name(value: str) -> None:
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
    if value and not re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", value):
        raise ValueError(f'"{value}" cannot be the name of a table: use 3 to 255 of A-Z a-z 0-9 . _ -')


def lifecycle_hook(value: str) -> None:
    group, _, hook = value.rpartition("/")
    if value and not (group and ":" not in group and re.fullmatch(r"[A-Za-z0-9_-]{1,255}", hook)):
        raise ValueError(f'"{value}" is not the name of an Auto Scaling group and of its hook: write GROUP/HOOK')


def _fields_of(template: str) -> Iterator[str]:
    """The placeholders of a template. Raises ValueError for a lone brace or a format behind a name."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError:
        raise ValueError(f'"{template}" has a brace without its partner') from None
    for _literal, name, format_spec, conversion in parsed:
        if name is not None:
            yield name + (f"!{conversion}" if conversion else "") + (f":{format_spec}" if format_spec else "")


def _template(value: str, placeholders: Collection[str], alphabet: re.Pattern[str], what: str) -> None:
    filled = value
    for name in _fields_of(value):
        if name not in placeholders:
            known = " ".join("{" + placeholder + "}" for placeholder in placeholders)
            raise ValueError(f"{{{name}}} is not known here: use {known}")
        filled = filled.replace("{" + name + "}", "x")
    if not alphabet.fullmatch(filled):
        raise ValueError(f'"{value}" cannot be a {what}')


def log_group(value: str) -> None:
    _template(value, ("group",), _LOG_GROUP, "log group: use A-Z a-z 0-9 . _ / # - only, up to 512 of them")


def log_stream(value: str) -> None:
    _template(
        value,
        STREAM_PLACEHOLDERS,
        _LOG_STREAM,
        'log stream: ":" and "*" are not allowed, nor more than 512 characters',
    )


def plain_log_group(value: str) -> None:
    if value and not _LOG_GROUP.fullmatch(value):
        raise ValueError(f'"{value}" cannot be a log group: use A-Z a-z 0-9 . _ / # - only, up to 512 of them')


def retention(value: int) -> None:
    if value not in RETENTION_DAYS:
        nearest = min(RETENTION_DAYS, key=lambda days: abs(days - value))
        known = ", ".join(map(str, RETENTION_DAYS))
        raise ValueError(f"CloudWatch does not know {value} days: the nearest is {nearest} (of {known})")


def syslog_address(value: str) -> None:
    parts = _split(value)
    if parts.scheme == "unix":
        good = not parts.netloc and len(parts.path) > 1
    else:
        good = parts.scheme in ("udp", "tcp") and bool(parts.hostname) and bool(parts.port)
    if not good:
        raise ValueError(f'"{value}" is not an address: expected udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH')


def listen_address(value: str) -> None:
    if not value:
        return
    parts = _split(f"//{value}")
    if parts.netloc != value or not parts.hostname or parts.port is None or parts.username is not None:
        raise ValueError(f'"{value}" is not HOST:PORT, such as 127.0.0.1:9747 or [::1]:9747; "" turns it off')
