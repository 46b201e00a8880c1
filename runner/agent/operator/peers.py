"""Who is at the other end of a unix socket, by the kernel's word, and what they may ask of the agent."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass, field
from typing import Literal

# The group whose members may control the agent; its socket belongs to it.
GROUP = "cron-runner"
# unix(7) has no name for it in Python: the supplementary groups of the peer, as they were when it connected.
_SO_PEERGROUPS = 59
_MOST_BYTES = 1024  # Python asks for no more: 256 groups

Role = Literal["read", "operate"]
SEEING = frozenset(("status", "run", "show", "runs", "output", "admission", "audit", "jobs", "refused"))
"""The requests that change nothing, and what a page says that it has refused somebody, which takes no other role;
whatever else there is takes the role `operate`."""


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


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may do what: users, and %groups. `gid` is the group of the agent's socket: the group `cron-runner` where the
    host has none of that name. Root and the agent's own user may everything."""

    operate: tuple[str, ...]
    read: tuple[str, ...]
    own_uid: int
    gid: int

    def refusal(self, peer: Peer, role: Role) -> str | None:
        """Why this peer may not do what the role may; None where it may."""
        if peer.uid in (0, self.own_uid):
            return None
        named = self.operate if role == "operate" else (*self.operate, *self.read)
        if any(self._is(peer, name) for name in named):
            return None
        return self._text(peer, named)

    def others(self) -> bool:
        """Whether anybody may who is neither root, nor the agent's user, nor in the socket's group."""
        for name in (*self.operate, *self.read):
            if name.startswith("%"):
                if self._gid(name[1:]) not in (None, self.gid):
                    return True
            elif _uid(name) not in (None, 0, self.own_uid):
                return True
        return False

    def _is(self, peer: Peer, name: str) -> bool:
        return self._gid(name[1:]) in peer.gids if name.startswith("%") else _uid(name) == peer.uid

    def _gid(self, name: str) -> int | None:
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return self.gid if name == GROUP else int(name) if name.isdecimal() else None

    def _text(self, peer: Peer, named: tuple[str, ...]) -> str:
        users = ["root"] if self.own_uid == 0 else ["root", user_name(self.own_uid)]
        users += [name for name in named if not name.startswith("%") and name not in users]
        gids = [gid for name in named if name.startswith("%") and (gid := self._gid(name[1:])) is not None]
        groups = list(dict.fromkeys(group_name(gid) for gid in gids))
        members = f" and members of the group {' or '.join(groups)}" if groups else ""
        join = f", or `usermod -aG {groups[-1]} {peer.name}` and log in anew" if groups else ""
        return f"cannot control the agent as {peer.name}: only {', '.join(users)}{members} may; use sudo{join}"


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return int(name) if name.isdecimal() else None


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
