"""Which placement this supervisor can have, and the making of a run's place."""

from __future__ import annotations

import os

from runner.supervisor import libc
from runner.supervisor.placing import strays
from runner.supervisor.placing.cgroup import CgroupPlace, CgroupPlacement
from runner.supervisor.placing.delegation import NoCgroup, find
from runner.supervisor.placing.session import SessionPlace
from runner.supervisor.request import HOME_MARK, MARK

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from collections.abc import Set as AbstractSet

    from runner.supervisor.notes import Note
    from runner.supervisor.placing.place import Place
    from runner.supervisor.request import StartRequest


class Placement:
    """Cgroups where they are ours to use, else sessions. ``others`` gives the pids of main processes alive."""

    def __init__(self, wish: str, named: str | None, identity: str, others: Callable[[], AbstractSet[int]]) -> None:
        self._others = others
        self._identity = identity
        self.warnings: list[str] = []
        self.cgroups: CgroupPlacement | None = None
        if not libc.become_subreaper():
            self.warnings.append("cannot adopt orphaned processes: PR_SET_CHILD_SUBREAPER was refused")
        if wish != "session":
            try:
                self.cgroups = CgroupPlacement(find(named or os.environ.get("CRON_RUNNER_CGROUP"), identity))
            except (NoCgroup, OSError) as error:
                self.warnings.append(
                    f"no cgroup for jobs: {error}; a job that leaves its session, wipes its environment and then "
                    "orphans itself escapes a kill"
                )

    @property
    def name(self) -> str:
        return "cgroup" if self.cgroups else "session"

    @property
    def description(self) -> str:
        """In words, for `systemctl status`."""
        if self.cgroups is None:
            return "sessions, as there is no cgroup for them"
        limits = ", ".join(self.controllers)
        return f"cgroups, {f'with limits of {limits}' if limits else 'without limits: there are no controllers'}"

    @property
    def controllers(self) -> tuple[str, ...]:
        return self.cgroups.controllers if self.cgroups else ()

    @property
    def made(self) -> int:
        """How many cgroups have been made: their names count on over self-replacement."""
        return self.cgroups.made if self.cgroups else 0

    @made.setter
    def made(self, number: int) -> None:
        if self.cgroups is not None:
            self.cgroups.made = number

    def make(self, request: StartRequest, uid: int) -> tuple[Place, list[str]]:
        """A place for one run, and warnings for the limits that it cannot be held to. Raises OSError."""
        if self.cgroups is not None:
            place = self.cgroups.make(keep=request.keep_leftovers)
            return place, place.limit(request.limits) if request.limits else []
        warnings = [
            f"cannot limit {name}: without cgroups only pids can be limited, and only for a user other than root "
            "and the supervisor's own; the run is not held to it"
            for name in request.limits
            if name != "pids" or self.process_limit(request.limits, uid) is None
        ]
        if self.process_limit(request.limits, uid) is not None:
            warnings.append("limiting pids by RLIMIT_NPROC: it counts all processes of the user, not the run's alone")
        return self.session(request.key), warnings

    def session(self, key: str) -> SessionPlace:
        return SessionPlace(f"{MARK}={key}".encode(), self._others)

    def restore(self, key: str, path: str | None) -> Place:
        """The place of a run from before self-replacement."""
        if path is not None and self.cgroups is not None:
            return self.cgroups.adopt(path)
        return self.session(key)

    def process_limit(self, limits: Mapping[str, float], uid: int) -> int | None:
        """RLIMIT_NPROC for a run without cgroups. It would count the supervisor's own processes too if they shared
        a user, and does not hold root."""
        if self.cgroups is None and "pids" in limits and uid not in (0, os.geteuid()):
            return max(int(limits["pids"]), 1)
        return None

    def clear(self, spare: set[str], noted: Collection[Note] = (), *, taken_over: bool) -> None:
        """Kill what a supervisor of this socket left behind when it died: its runs count as lost, and come again."""
        if self.cgroups is not None:
            self.cgroups.clear(spare)
        if taken_over:
            return
        strays.end([f"{HOME_MARK}={self._identity}".encode()], noted)

    @property
    def left(self) -> int:
        """How many cgroups ended runs have left, to be looked at by `sweep`."""
        return self.cgroups.left if self.cgroups else 0

    def sweep(self) -> None:
        """Take away what ended runs have left, as far as it is empty."""
        if self.cgroups is not None:
            self.cgroups.sweep()

    def close(self) -> None:
        if self.cgroups is not None:
            self.cgroups.close()


def cgroup_path(place: Place) -> str | None:
    """What `Placement.restore` needs to know of a place."""
    return place.path if isinstance(place, CgroupPlace) else None
