"""Where output goes, by the configuration: the sinks, and the place in CloudWatch that events name."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from runner.agent.runs.output import LogPlace
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


def reloaded(config: Config) -> Callable[[Sink], Sink]:
    """The change of each sink that this configuration asks for."""
    place = config.output.cloudwatch

    def change(sink: Sink) -> Sink:
        if not isinstance(sink, CloudWatch):
            return sink
        return sink.reloaded(
            group=config.group,
            log_group=place.log_group,
            log_stream=place.log_stream,
            flush=place.flush,
            retention_days=place.retention_days,
        )

    return change


class Places:
    """Names the log stream of a run for its events; None where output does not go to CloudWatch."""

    def __init__(self, session: Session, destination: Callable[[Tag, str], tuple[Sink, str] | None]) -> None:
        """`destination` gives the sink of a name and the stream there that the output goes to (`Shipper`)."""
        self._session = session
        self._destination = destination

    def __call__(self, tag: Tag) -> LogPlace | None:
        sink, stream = self._destination(tag, CloudWatch.name) or (None, "")
        if not isinstance(sink, CloudWatch):
            return None
        return LogPlace(sink.log_group, stream, console_url(self._session.region, sink.log_group, stream))


@lru_cache(maxsize=64)
def console_url(region: str, group: str, stream: str) -> str:
    """The stream's page in the AWS console, which escapes names twice with `$` for `%`."""
    domain = "console.amazonaws.cn" if region.startswith("cn-") else "console.aws.amazon.com"
    return (
        f"https://{region}.{domain}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/"
        f"{_twice(group)}/log-events/{_twice(stream)}"
    )


def _twice(name: str) -> str:
    return quote(quote(name, safe=""), safe="").replace("%", "$")
