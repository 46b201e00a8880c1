"""The supervisor's command line. By hand: argparse would cost it a tenth of its memory."""

from __future__ import annotations

USAGE = """\
usage: cron-runner-supervisor --socket PATH [--config FILE] [--linger SECONDS] [--placement auto|cgroup|session]
                              [--cgroup PATH] [--start auto|fork] [--agent COMMAND [ARG...]]

Owns the processes of jobs, so that they outlive the agent. Example:
  cron-runner-supervisor --socket /run/cron-runner-supervisor/supervisor.sock --config /etc/cron-runner/config.toml
"""


class UsageError(Exception):
    """The command line is wrong."""


class Options:
    """What was asked for."""

    __slots__ = ("agent", "cgroup", "config", "linger", "placement", "probe", "socket", "start", "state_fd")

    def __init__(self, arguments: list[str]) -> None:
        values: dict[str, str] = {}
        self.agent: list[str] = []
        self.probe = False
        rest = iter(arguments)
        for argument in rest:
            if argument == "--agent":
                self.agent = list(rest)
                if not self.agent:
                    raise UsageError("--agent needs a command")
            elif argument == "--probe":
                self.probe = True
            else:
                name, equals, value = argument.partition("=")
                if name not in ("--socket", "--config", "--linger", "--placement", "--cgroup", "--start", "--state-fd"):
                    raise UsageError(f"knows no option {name!r}")
                values[name] = value if equals else next(rest, "")
                if not values[name]:
                    raise UsageError(f"{name} needs a value")
        self.socket = values.get("--socket", "")
        if not self.socket and not self.probe:
            raise UsageError("--socket is needed")
        self.config = values.get("--config")
        self.cgroup = values.get("--cgroup")
        self.placement = values.get("--placement", "auto")
        if self.placement not in ("auto", "cgroup", "session"):
            raise UsageError("--placement must be auto, cgroup or session")
        self.start = values.get("--start", "auto")
        if self.start not in ("auto", "fork"):
            raise UsageError("--start must be auto or fork")
        self.linger = _number(values["--linger"]) if "--linger" in values else None
        self.state_fd = int(_number(values["--state-fd"])) if "--state-fd" in values else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number") from None
