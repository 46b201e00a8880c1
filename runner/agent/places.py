"""Where output goes, by the configuration: the sinks, and the place in CloudWatch that events name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from runner.agent.events import LogPlace
from runner.sinks.cloudwatch import CloudWatch
from runner.sinks.journald import Journald
from runner.sinks.stdout import Stdout
from runner.sinks.syslog import Syslog

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.session import Session
    from runner.config import Config
    from runner.sinks import Sink, Tag


def sinks_of(config: Config, session: Session) -> list[Sink]:
    """One sink for each name in `[output] sinks`, in their order."""
    sinks: list[Sink] = []
    for name in config.output.sinks:
        if name == "cloudwatch":
            sinks.append(cloudwatch(config, session))
        elif name == "journald":
            sinks.append(Journald(config.group))
        elif name == "syslog":
            sinks.append(Syslog(config.output.syslog.address, config.group))
        elif name == "stdout":
            sinks.append(Stdout())
    return sinks


def cloudwatch(config: Config, session: Session) -> CloudWatch:
    from runner.aws.logs import Logs  # noqa: PLC0415 - only where output goes to AWS

    place = config.output.cloudwatch
    return CloudWatch(
        Logs(session),
        group=config.group,
        log_group=place.log_group,
        log_stream=place.log_stream,
        flush=place.flush,
        retention_days=place.retention_days,
    )


class Places:
    """Names the log stream of a run for its events; None where output does not go to CloudWatch."""

    def __init__(
        self, sinks: list[Sink], session: Session, stream: Callable[[str, str], str | None] = lambda *_: None
    ) -> None:
        """`stream` says where the output of a run (its key) really goes in a sink (its name), once that is known."""
        self._sink = next((sink for sink in sinks if isinstance(sink, CloudWatch)), None)
        self._session = session
        self._stream = stream

    def __call__(self, tag: Tag) -> LogPlace | None:
        if self._sink is None:
            return None
        group, stream = self._sink.log_group, self._stream(tag.key, self._sink.name) or self._sink.stream(tag)
        return LogPlace(group, stream, console_url(self._session.region, group, stream))


def console_url(region: str, group: str, stream: str) -> str:
    """The stream's page in the AWS console, which escapes names twice with `$` for `%`."""
    domain = "console.amazonaws.cn" if region.startswith("cn-") else "console.aws.amazon.com"
    return (
        f"https://{region}.{domain}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/"
        f"{_twice(group)}/log-events/{_twice(stream)}"
    )


def _twice(name: str) -> str:
    return quote(quote(name, safe=""), safe="").replace("%", "$")
