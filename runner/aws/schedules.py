"""EventBridge Scheduler: schedules by name within a schedule group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.session import Session


class Schedules:
    """Puts, deletes and lists schedules. Every method raises `AwsUnavailable`; none retries."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def put(self, request: Mapping[str, Any]) -> None:
        """Make a schedule what the request says, whether it exists or not."""
        try:
            await self._call("UpdateSchedule", lambda client: client.update_schedule(**request))
        except AwsUnavailable as error:
            if error.code != "ResourceNotFoundException":
                raise
            await self._call("CreateSchedule", lambda client: client.create_schedule(**request))

    async def delete(self, name: str, group: str) -> None:
        """Delete a schedule; nothing where there is none."""
        try:
            await self._call("DeleteSchedule", lambda client: client.delete_schedule(Name=name, GroupName=group))
        except AwsUnavailable as error:
            if error.code != "ResourceNotFoundException":
                raise

    async def names(self, group: str, prefix: str) -> set[str]:
        """The names in the group that begin with the prefix."""
        found: set[str] = set()
        request: dict[str, Any] = {"GroupName": group, "NamePrefix": prefix, "MaxResults": 100}
        while True:
            page = await self._session.call("schedules", "ListSchedules", _list(dict(request)), dict)
            found |= {schedule["Name"] for schedule in page["Schedules"]}
            if not page.get("NextToken"):
                return found
            request["NextToken"] = page["NextToken"]

    async def make_group(self, name: str) -> None:
        """Create the schedule group where there is none, for a stand-in; templates make the real one."""
        try:
            await self._call("CreateScheduleGroup", lambda client: client.create_schedule_group(Name=name))
        except AwsUnavailable as error:
            if error.code != "ConflictException":
                raise

    async def _call(self, action: str, do: Any) -> None:
        await self._session.call("schedules", action, do, lambda _: None)


def _list(request: Mapping[str, Any]) -> Any:
    return lambda client: client.list_schedules(**request)
