"""Which trace a run belongs to: W3C Trace Context's `traceparent`, and what AWS has in its place.

https://www.w3.org/TR/trace-context/#traceparent-header and
https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 256
"""Characters. Version 00 has 55; a later one may say more, and is told on as it came."""
EXAMPLE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?")
_ROOT: Final = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_PARENT: Final = re.compile(r"[0-9a-f]{16}")


def is_traceparent(text: str) -> bool:
    """Whether it names a trace and a span of it."""
    found = _TRACEPARENT.fullmatch(text) if len(text) <= LONGEST else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[4] is not None):
        return False
    return bool(found[2].strip("0") and found[3].strip("0"))  # all zeros is nobody's id


def from_xray(header: str) -> str | None:
    """The traceparent of an X-Ray header (`Root=1-…;Parent=…;Sampled=1`); None where it names no span, or is none.

    The two parts of Root are the trace id, as OpenTelemetry's propagator has it. Parent may be missing in X-Ray, and
    no traceparent is without one: nothing is made up. Whether it is sampled may be left open there (`?`); here that is
    0, and who reads it decides anew.
    """
    said = dict(part.strip().partition("=")[::2] for part in header[: 2 * LONGEST].split(";"))
    root = _ROOT.fullmatch(said.get("Root", "").lower())
    parent = said.get("Parent", "").lower()
    if root is None or not _PARENT.fullmatch(parent):
        return None
    traceparent = f"00-{root[1]}{root[2]}-{parent}-{'01' if said.get('Sampled') == '1' else '00'}"
    return traceparent if is_traceparent(traceparent) else None
