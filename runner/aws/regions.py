"""Where a queue lives, read off its URL. Pure.

The forms of host are those of botocore's endpoint data and of the SQS developer guide:
``sqs.REGION.amazonaws.com`` (``.com.cn`` in China, ``.api.aws`` for dual stack, other suffixes in the
isolated partitions), ``sqs-fips.REGION.…``, ``REGION.queue.amazonaws.com`` and ``queue.amazonaws.com``
(legacy), ``vpce-ID.sqs.REGION.vpce.amazonaws.com`` (an interface endpoint).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_REGION = r"(?P<region>[a-z]{2,5}(?:-[a-z]+)+-\d+)"
_SQS_HOST = re.compile(rf"(?:vpce-[a-z0-9-]+\.)?sqs(?:-fips)?\.{_REGION}\.[a-z0-9.-]+")
_LEGACY_HOST = re.compile(rf"(?:{_REGION}\.)?queue\.amazonaws\.com(?:\.cn)?")
# The hosts that botocore itself would call for their region; any other host has to be called by its own name.
_ORDINARY_HOST = re.compile(
    rf"sqs\.{_REGION}\."
    r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
)


def region_of_queue_url(url: str) -> str | None:
    """The region that a queue URL names, or None where its host names none (a stand-in, an IP address)."""
    host = _host(url)
    if match := _SQS_HOST.fullmatch(host):
        return match["region"]
    if match := _LEGACY_HOST.fullmatch(host):
        return match["region"] or "us-east-1"
    return None


def endpoint_of_queue_url(url: str) -> str | None:
    """The endpoint to call for this queue, or None where the region's ordinary endpoint serves it.

    Interface endpoints, FIPS and dual-stack hosts and stand-ins are called as the URL says: botocore sends
    the queue URL as a parameter and would otherwise always call the region's public host.
    """
    host = _host(url)
    if not host or _ORDINARY_HOST.fullmatch(host) or _LEGACY_HOST.fullmatch(host):
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
