"""Facts about this machine, for events."""

from __future__ import annotations

import platform
import re
import socket
from pathlib import Path

from runner import __version__
from runner.protocol.event import HostFacts

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# On EC2's Nitro hosts the firmware gives the instance id, so no metadata service is asked.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
_ASSET_TAG = Path("/sys/devices/virtual/dmi/id/board_asset_tag")
_CLOUD_INIT_ID = Path("/var/lib/cloud/data/instance-id")
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def host_facts() -> HostFacts:
    """What every event says of its host. Reads a few small files; never the network."""
    return HostFacts(
        name=socket.gethostname(),
        instance_id=_instance_id(),
        boot_id=_read(_BOOT_ID),
        os=_os_name(),
        agent_version=__version__,
    )


def _instance_id() -> str | None:
    for path in (_ASSET_TAG, _CLOUD_INIT_ID):
        text = _read(path)
        if _INSTANCE_ID.fullmatch(text):
            return text
    return None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
