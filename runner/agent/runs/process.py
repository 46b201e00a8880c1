"""What the agent and the supervisor tell each other, as values.

Every ``from_json`` takes the supervisor's JSON object, ignores keys it does not know (a newer supervisor may say
more) and fills in what an older one did not say. Times that end in ``_at`` are unix seconds of the wall clock,
``_s`` are seconds, ``_bytes`` and ``bytes_*`` are bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

Cause = Literal["timeout", "no_output", "cancel", "replace", "shutdown", "lost_lease"]


@cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


def _known(cls: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    names = _names(cls)
    return {name: value for name, value in data.items() if name in names}


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How one attempt ended, kept by the supervisor until it is acknowledged.

    ``exit_code`` and ``signal`` (``"SIGKILL"``) exclude each other; both are None with ``start_error``
    (errno, text), which says that the command could not be executed. ``cause`` is why the supervisor stopped the
    run (a `Cause`), None where it ended by itself. ``finished_at`` is ``started_at`` plus ``duration_s``: a jump of
    the wall clock does not reach it. ``bytes_total`` is all that the job wrote = ``bytes_written`` (the logical size
    of the spool file) + ``disk_full_dropped``; ``gap`` is the [start, end) of the file that was given up for
    ``max_bytes`` and now is a hole; ``bytes_dropped`` = the gap's length + ``disk_full_dropped``. ``marks`` say when
    the file grew, for output/marks.py. ``faults`` says in words what the system refused on the way: the run ended
    all the same. ``rest`` is the end of what the disk refused, where that was the last of the output (bytes that are no
    UTF-8 as surrogates).
    """

    key: str
    pid: int = 0
    wait_status: int | None = None
    exit_code: int | None = None
    signal: str | None = None
    start_error: tuple[int, str] | None = None
    cause: str | None = None
    cause_detail: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    duration_s: float = 0.0
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    max_rss_bytes: int = 0
    oom: bool = False
    leftovers: int = 0
    bytes_total: int = 0
    bytes_written: int = 0
    bytes_dropped: int = 0
    gap: tuple[int, int] | None = None
    disk_full_dropped: int = 0
    faults: tuple[str, ...] = ()
    marks: tuple[int, ...] = ()
    rest: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = _known(cls, data)
        known["marks"] = tuple(known.get("marks") or ())
        if known.get("start_error") is not None:
            number, text = known["start_error"]
            known["start_error"] = (int(number), str(text))
        if known.get("gap") is not None:
            start, end = known["gap"]
            known["gap"] = (int(start), int(end))
        known["faults"] = tuple(known.get("faults") or ())
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StartSpec:
    """One attempt to be started. ``key`` is ``EXECUTION/ATTEMPT``: a second start with it starts nothing.

    ``env`` is what the agent adds to ``PATH HOME SHELL USER LOGNAME LANG`` of the target user and to the variables
    of ``env_files``, and wins over both. ``user`` "" is the supervisor's default. Durations are seconds, None is no
    limit. ``limits`` has any of ``memory`` (bytes), ``cpu`` (cores), ``pids``. ``redact`` are globs of variable
    names whose values in ``env_files`` are wanted back as ``Started.secrets``. A ``tied`` run is stopped, and its
    record dropped, when this client's connection closes. ``note`` is given back with `Known`, unread: what an agent
    that has lost its journal needs to answer for the run. The output leaves ``keep_free`` bytes of the disk free, as if
    it were full before. ``secrets`` are variables too, which win over ``env``, and whose values are masked before the
    output is written; only a supervisor that says so (`Hello.secrets`) may be given some.
    """

    key: str
    job: str
    run_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_files: tuple[str, ...] = ()
    user: str = ""
    group: str | None = None
    umask: int | None = None
    nice: int | None = None
    cwd: str = "/"
    stdin: str | None = None
    timeout: float | None = None
    grace: float = 10.0
    stop_signal: str = "TERM"
    no_output_timeout: float | None = None
    max_bytes: int = 1 << 30
    limits: Mapping[str, float | int | None] = field(default_factory=dict)
    leftovers: str = "kill"
    redact: tuple[str, ...] = ()
    tied: bool = False
    note: str = ""
    keep_free: int = 0

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {name: getattr(self, name) for name in _names(StartSpec)}
        data["env"], data["secrets"] = dict(self.env), dict(self.secrets)
        data["limits"] = {name: value for name, value in self.limits.items() if value is not None}
        return data


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to a start. ``exit`` is the record where the command could not be executed, or had already ended.

    ``warnings`` say what was asked for and could not be had, such as a limit without its cgroup controller.
    """

    key: str
    pid: int = 0
    started_at: float = 0.0
    started_boottime: float = 0.0
    user: str = ""
    secrets: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    exit: ExitRecord | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = _known(cls, data)
        known["secrets"] = tuple(known.get("secrets") or ())
        known["warnings"] = tuple(known.get("warnings") or ())
        if known.get("exit") is not None:
            known["exit"] = ExitRecord.from_json(known["exit"])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Known:
    """A run that the supervisor has: alive (``exit`` is None), or ended and not yet acknowledged.

    ``pid`` and ``start_ticks`` (field 22 of ``/proc/PID/stat``) name the process, ``start_ticks`` only while it lives;
    ``bytes`` is the logical size of its spool file so far; ``marks`` say when it grew, and are the record's once
    it has ended. ``note`` is that of its start; "" from an older supervisor. ``pending``: whether its command can be
    executed is not known yet; who starts it again is told.
    """

    key: str
    pid: int = 0
    start_ticks: int = 0
    started_at: float = 0.0
    started_boottime: float = 0.0
    user: str = ""
    job: str = ""
    run_id: str = ""
    bytes: int = 0
    secrets: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    note: str = ""
    exit: ExitRecord | None = None
    marks: tuple[int, ...] = ()
    pending: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = _known(cls, data)
        known["marks"] = tuple(known.get("marks") or ())
        known["secrets"] = tuple(known.get("secrets") or ())
        known["warnings"] = tuple(known.get("warnings") or ())
        if known.get("exit") is not None:
            known["exit"] = ExitRecord.from_json(known["exit"])
        return cls(**known)

    def as_started(self) -> Started:
        """The answer that the start of it got, or would have got."""
        return Started(
            key=self.key,
            pid=self.pid,
            started_at=self.started_at,
            started_boottime=self.started_boottime,
            user=self.user,
            secrets=self.secrets,
            warnings=self.warnings,
            exit=self.exit,
        )


@dataclass(frozen=True, slots=True)
class Hello:
    """Who the supervisor is. ``instance`` names this supervisor's life and is kept over self-replacement.

    ``default_user`` is whom a job without ``user`` runs as, None with ``default_user_error`` saying why there is
    nobody. ``placement`` is ``"cgroup"`` or ``"session"``; ``controllers`` are those that limits can use. ``fds`` is
    how many descriptors it can take at once. ``start`` is how it makes processes: ``"direct"``, or ``"fork: WHY"``, and
    empty from one that knows one way only.
    """

    protocol: int
    version: str
    pid: int
    boot_id: str
    instance: str
    uid: int
    default_user: str | None = None
    default_user_error: str | None = None
    placement: str = "session"
    controllers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    fds: int = 200  # the kernel takes 253 (SCM_MAX_FD)
    start: str = ""
    secrets: bool = False  # whether it masks them in what it writes

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = _known(cls, data)
        known["controllers"] = tuple(known.get("controllers") or ())
        known["warnings"] = tuple(known.get("warnings") or ())
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a running attempt uses now: all its processes with cgroups, else those of its session and mark."""

    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    memory_bytes: int = 0
    processes: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**_known(cls, data))
