"""Where the configuration is, and what those need of it who need no more."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEFAULT_PATH: Final = Path("/etc/cron-runner/config.toml")


def table_in(file: Path) -> str | None:
    """`[fleet] table` as it stands in the file, "" where there is none; None where only all checks say why."""
    from runner.config.names import table_name  # noqa: PLC0415 - for those who ask
    from runner.config.toml import read_toml  # noqa: PLC0415

    try:
        fleet = read_toml(file).get("fleet")
        table = fleet.get("table") if isinstance(fleet, dict) else None
        if not isinstance(table, str):
            return "" if fleet is None or (isinstance(fleet, dict) and table is None) else None
        table_name(table)
    except (FileNotFoundError, ValueError):
        return None
    return table
