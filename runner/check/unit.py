"""What systemd gives to the packaged agent and a shell does not have: its user, its directories, its environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.check.finding import Finding, ok, warning
from runner.supervisor.starting import envfile

if TYPE_CHECKING:
    from collections.abc import MutableMapping

AGENT_UNIT = "cron-runner.service"
SUPERVISOR_UNIT = "cron-runner-supervisor.service"
FOLDERS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
MADE_BY_UNIT = (Path("/var/lib/cron-runner"), Path("/run/cron-runner"))


def installed(unit: str, folders: tuple[Path, ...] = FOLDERS) -> bool:
    """Whether systemd has this unit."""
    return any((folder / unit).exists() for folder in folders)


def environment_file(config: Path) -> Path:
    """The file beside the configuration that both units have as EnvironmentFile=."""
    return config.parent / "environment"


def environment_of_units(file: Path = Path("/etc/cron-runner/environment"), folders: tuple[Path, ...] = FOLDERS) -> str:
    """From where the packaged agent has its variables, or could have them; "" where it is not installed."""
    if file.exists():
        return f"the packaged agent takes its environment from {file}"
    if installed(AGENT_UNIT, folders):
        return f"the packaged agent would take its environment from {file}, which is not there: make it, for root alone"
    return ""


def environment(path: Path) -> dict[str, str]:
    """What stands in it; raises OSError and ValueError."""
    return envfile.read(str(path))


def add_environment(config: Path, environ: MutableMapping[str, str]) -> list[Finding]:
    """Take what the units take from the file beside the configuration; what is set already wins, as it is asked for.

    No line where there is no such file.
    """
    path = environment_file(config)
    try:
        found = environment(path)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        detail = f"cannot read {path}: {why}; the agent has what is in it and this check has not"
        return [warning("environment", detail, "check again as root, or correct the file")]
    added = [name for name in found if name not in environ]
    other = [name for name in found if environ.get(name, found[name]) != found[name]]
    for name in added:
        environ[name] = found[name]
    if other:
        detail = f"{', '.join(other)} of this shell differ from {path}, which is what the agent has"
        return [warning("environment", detail, f"unset them (`env -u {other[0]} cron-runner check`) and check again")]
    return [ok("environment", f"{', '.join(added) or 'nothing'} taken from {path}, as the agent has it")]
