"""Where a run's processes are kept together: what `Run` needs of a placement, whichever it is."""

from __future__ import annotations

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from runner.supervisor.placing.processes import Snapshot

    class Place(Protocol):
        """One run's cgroup, or its session and what descends from it.

        `gone`, `kill`, `signal`, `count` and `usage` raise OSError where they cannot do or know it at this moment.
        """

        main: int
        """Pid of the main process, 0 once it has been reaped."""

        def started(self, pid: int) -> None:
            """The main process exists."""

        def gone(self) -> bool:
            """Whether no process of the run is left."""

        def kill(self) -> None:
            """SIGKILL to all there are; to be repeated until `gone`."""

        def signal(self, number: int, *, wake: bool = True) -> int:
            """Send a signal, then, to wake what is stopped, SIGCONT, to all there are; how many there were."""

        def count(self) -> int:
            """How many processes there are."""

        def usage(self, seen: Snapshot | None) -> Mapping[str, float | int]:
            """cpu_user_s, cpu_system_s, memory_bytes, processes: now, or by the look that ``seen`` was."""

        def account(self) -> Mapping[str, float | int]:
            """Fields of the record that are known better here than from wait4."""

        def oom(self) -> bool:
            """Whether the kernel killed something of it for its memory limit."""

        def remove(self) -> None:
            """The run has ended: take away what was made for it."""
