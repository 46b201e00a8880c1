"""A run's output as CloudWatch has it, found and read from any machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import AwsUnavailable, CronRunnerError, NotThere
from runner.sinks.cloudwatch import SHARED_STREAM, readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from runner.aws.logs import Logs

LIST_PAGES = 200
"""Of 50 streams each, the last written to first: 10,000 runs are looked through for one whose job is not known."""
_AT_LENGTH_PAGES = 10  # some seconds, at a quota of 5 to 25 a second
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class NoSuchGroup(NotThere):
    """The log group, or a stream that was named, is not there, or not yet."""


@dataclass(frozen=True, slots=True)
class Line:
    """An event. `ms` is unix milliseconds."""

    ms: int
    text: str


class CloudOutput:
    """`template` is `[output.cloudwatch] log_stream`; `group` the log group's name; `at_length` is
    called once where a search takes long."""

    def __init__(self, logs: Logs, group: str, template: str, *, at_length: Callable[[], None] = lambda: None) -> None:
        self._at_length = at_length
        self._logs = logs
        self._group = group
        self._template = template

    async def streams(self, run_id: str, job: str | None) -> list[str]:
        """The run's own streams, in order of their names; none where it has none, or shares one."""
        if "{run_id}" not in self._template:
            return []
        values = {"run_id": run_id, **({"job": job} if job else {})}
        begin = _beginning(self._template, values)
        pattern = _pattern(self._template, values)
        if begin == self._template.format_map(_Kept(values)):
            return [begin] if await self._exists(begin) else []
        token: str | None = None
        for pages in range(LIST_PAGES):
            if pages == _AT_LENGTH_PAGES:
                self._at_length()
            try:
                page = await self._logs.streams(self._group, prefix=begin, token=token)
            except AwsUnavailable as error:
                raise self._explained(error) from error
            # Without a prefix they come by time: all attempts of a run are near each other, and the first page that
            # holds one of them is enough for runs with one stream.
            if found := [name for name in page.names if pattern.fullmatch(name)]:
                return sorted(found)
            token = page.token
            if token is None:
                break
        return []

    async def read(self, run_id: str, stream: str, token: str | None) -> tuple[list[Line], str]:
        """A page from the stream's beginning, or from where the last one ended, and where this one ends.

        Of a stream that many runs share, the run's own lines.
        """
        try:
            page = await self._logs.get_events(self._group, stream, token)
        except AwsUnavailable as error:
            raise self._explained(error) from error
        mark = f"{run_id} " if self._is_shared(stream) else ""
        lines = [Line(ms, readable(text.removeprefix(mark))) for ms, text in page.events if text.startswith(mark)]
        return lines, page.token

    async def shared(self, run_id: str) -> AsyncIterator[Line]:
        """The run's lines in streams that many runs share, where each line begins with its run id."""
        prefixes = [_beginning(SHARED_STREAM, {})]
        if "{run_id}" not in self._template:
            prefixes.append(_beginning(self._template, {}))
        for prefix in prefixes:
            async for line in self._search(run_id, prefix):
                yield line

    async def _search(self, run_id: str, prefix: str) -> AsyncIterator[Line]:
        mark, token = f"{run_id} ", None
        while True:
            try:
                page = await self._logs.find_events(self._group, prefix=prefix, words=run_id, token=token)
            except AwsUnavailable as error:
                if error.code == "ResourceNotFoundException":
                    return
                raise self._explained(error) from error
            for ms, text, _ in page.events:
                if text.startswith(mark):
                    yield Line(ms, readable(text.removeprefix(mark)))
            token = page.token
            if token is None:
                return

    def _is_shared(self, stream: str) -> bool:
        return "{run_id}" not in self._template or stream.startswith(_beginning(SHARED_STREAM, {}))

    async def _exists(self, stream: str) -> bool:
        try:
            return stream in (await self._logs.streams(self._group, prefix=stream)).names
        except AwsUnavailable as error:
            if error.code == "ResourceNotFoundException":
                return False
            raise self._explained(error) from error

    def _explained(self, error: AwsUnavailable) -> CronRunnerError:
        if error.code == "ResourceNotFoundException":
            return NoSuchGroup(f"cannot read log group {self._group}: {error.detail}; check region and group")
        return CronRunnerError(f"cannot read log group {self._group}: {error.code}: {error.detail}")


class _Kept(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def _beginning(template: str, values: Mapping[str, str]) -> str:
    """The template up to the first placeholder whose value is not known."""
    return template.format_map(_Kept(values)).partition("{")[0]


def _pattern(template: str, values: Mapping[str, str]) -> re.Pattern[str]:
    parts = _PLACEHOLDER.split(template)
    unknown = {"attempt": r"\d+", "date": r"\d{4}-\d\d-\d\d", "job": r"[A-Za-z0-9._-]+"}
    return re.compile(
        "".join(
            re.escape(part) if n % 2 == 0 else re.escape(values[part]) if part in values else unknown.get(part, ".+")
            for n, part in enumerate(parts)
        )
    )
