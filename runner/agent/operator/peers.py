"""Who is at the other end of a unix socket, by the kernel's word, and whether they may control the agent."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass, field

# The group whose members may control the agent; its socket belongs to it.
GROUP = "cron-runner"
# unix(7) has no name for it in Python: the supplementary groups of the peer, as they were when it connected.
_SO_PEERGROUPS = 59
_MOST_BYTES = 1024  # Python asks for no more: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected. `gids` are all its groups."""

    pid: int
    uid: int
    gids: frozenset[int] = field(default=frozenset())

    @property
    def name(self) -> str:
        """The user's name, as it stands in events and logs."""
        return user_name(self.uid)


def peer_of(connection: socket.socket) -> Peer:
    """Whoever connected, as the kernel noted it at connect(2). Raises OSError for a connection that is gone."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError:  # more groups than that, or a kernel before 4.13: what the host says of the user has to do
        return Peer(pid, uid, frozenset((gid, *_groups_of(uid, gid))))
    return Peer(pid, uid, frozenset((gid, *struct.unpack(f"{len(packed) // 4}I", packed))))


def _groups_of(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return []


def refusal(peer: Peer, *, own_uid: int, gid: int) -> str | None:
    """Why this peer may not control the agent; None where it may. `gid` is the group of the agent's socket."""
    if peer.uid in (0, own_uid) or gid in peer.gids:
        return None
    users = "root" if own_uid == 0 else f"root, {user_name(own_uid)}"
    return (
        f"cannot control the agent as {peer.name}: only {users} and members of the group {group_name(gid)} may; "
        f"use sudo, or `usermod -aG {group_name(gid)} {peer.name}` and log in anew"
    )


def group_of_socket() -> int | None:
    """The id of the group that may control the agent; None where the host has no such group."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"


def own_uid() -> int:
    """Whose agent this is."""
    return os.geteuid()
