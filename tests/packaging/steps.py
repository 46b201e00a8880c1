"""What an operator does on a host, as the parts of the test share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cloud import Cloud
    from guest import Guest

AGENT, SUPERVISOR = "cron-runner.service", "cron-runner-supervisor.service"
CONFIG = """\
group = "web"
queue.url = "{jobs}"
queue.wait = "2s"
queue.visibility = "20s"
results.url = "{results}"
admission.policy = "free-for-all"
agent.listen = ""
run.allowed_users = ["app"]
{more}
"""
# A job that counts, writes each number, and ends with status 7: what it wrote tells whether anything disturbed it.
COUNT = "i=0; while [ $i -lt {n} ]; do i=$((i+1)); echo line $i; sleep 0.1; done; exit 7"


def counting(seconds: int) -> str:
    """A job of that length; `counted` is what it writes."""
    return COUNT.format(n=seconds * 10)


def counted(seconds: int) -> str:
    """The whole output of `counting`."""
    return "\n".join(f"line {number}" for number in range(1, seconds * 10 + 1))


def endless(end: str) -> str:
    """As `counting`, until a file of that name exists. `unbroken` tells whether its output is whole."""
    return f"i=0; while [ ! -e {end} ]; do i=$((i+1)); echo line $i; sleep 0.1; done; exit 7"


def unbroken(output: str, least: int = 20) -> bool:
    """Whether these are the numbered lines from the first on, in order, none missing and none twice."""
    lines = output.splitlines()
    return len(lines) >= least and lines == [f"line {number}" for number in range(1, len(lines) + 1)]


def install(guest: Guest, deb: Path) -> str:
    """By apt, without a network."""
    return guest.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -qy {guest.put(deb)}", timeout=180)


def configure(guest: Guest, cloud: Cloud, more: str = "") -> None:
    """Group, queues and the stand-in's address."""
    text = CONFIG.format(jobs=cloud.jobs, results=cloud.results, more=more)
    environment = (
        f"AWS_ENDPOINT_URL={cloud.endpoint}\nAWS_REGION=us-east-1\nAWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\n"
    )
    guest.run(
        f"cat > /etc/cron-runner/config.toml <<'END'\n{text}END\n"
        f"cat > /etc/cron-runner/environment <<'END'\n{environment}END\n"
        "chmod 600 /etc/cron-runner/environment; id app >/dev/null 2>&1 || useradd -m app"
    )


def pid(guest: Guest, unit: str) -> int:
    """The main process of a unit."""
    return int(guest.property(unit, "MainPID"))


def log(guest: Guest, unit: str = AGENT, lines: int = 30) -> str:
    """The unit's last words."""
    return guest.run(f"journalctl -u {unit} -o cat --no-pager -n {lines}")


def last_stop(guest: Guest) -> str:
    """How the agent stopped the last time."""
    return guest.run(f"journalctl -u {AGENT} -o cat --no-pager | grep agent_stopping | tail -n 1")
