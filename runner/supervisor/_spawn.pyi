# What `_spawn.c` has. Steps without a name here need no words of their own.

CLONE: int
CUT_OFF: int
GUARD: int
PLACE_OPEN: int
NICE: int
DIRECTORY: int
EXECUTE: int

# Make a process that executes the first of `paths` that can be, with `env` of NAME=VALUE. `cgroup`, `uid`, `umask` and
# `processes` are -1 and `nice` is -2**31 to keep ours. Returns the pid, or 0 with the step that failed and its error
# number; and whether it took so long that its timer may have ended it. Raises TypeError, ValueError and MemoryError,
# before there is a process.
def start(
    paths: list[bytes],
    argv: list[bytes],
    env: list[bytes],
    cwd: bytes,
    stdin: int,
    output: int,
    cgroup: int,
    groups: list[int],
    gid: int,
    uid: int,
    umask: int,
    nice: int,
    processes: int,
    nofile: int,
    nofile_hard: int,
    /,
) -> tuple[int, int, int, bool]: ...
