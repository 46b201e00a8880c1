"""Reads the contract's events with the CloudEvents SDK that is installed, of version 1 or 2, attribute by attribute."""

from __future__ import annotations

import json
import sys
from pathlib import Path

try:
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent
except ImportError:
    from cloudevents.http import from_json

    def read(text: str) -> tuple[dict, object]:
        """Attributes and data."""
        event = from_json(text)
        return dict(event.get_attributes()), event.get_data()
else:

    def read(text: str) -> tuple[dict, object]:
        """Attributes and data."""
        event = JSONFormat().read(CloudEvent, text)
        return event.get_attributes(), event.get_data()


def main() -> int:
    """0 where all are understood."""
    files = sorted(Path(sys.argv[1]).glob("*.json"))
    for path in files:
        told = json.loads(path.read_text("utf-8"))["event"]
        attributes, data = read(json.dumps(told))
        assert data == told.pop("data"), path.name
        at = attributes.pop("time")
        assert (at if isinstance(at, str) else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")) == told.pop("time"), path.name
        assert attributes == told, (path.name, attributes, told)
    sys.stdout.write(f"{len(files)} events read\n")
    return 0 if files else 1


if __name__ == "__main__":
    sys.exit(main())
