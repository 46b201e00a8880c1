"""Who may control the agent."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from runner.agent.operator.peers import Peer, peer_of, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

AGENT, GROUP = 990, 991
NOBODY = 65_534


@pytest.mark.parametrize(
    ("uid", "gids", "may"),
    [
        (0, (), True),
        (AGENT, (5,), True),
        (1000, (1000, GROUP), True),
        (1000, (GROUP,), True),
        (1000, (1000, 5), False),
        (NOBODY, (), False),
    ],
)
def test_root_the_agents_user_and_the_sockets_group_may(uid: int, gids: Iterable[int], may: bool) -> None:
    assert (refusal(Peer(1, uid, frozenset(gids)), own_uid=AGENT, gid=GROUP) is None) is may


def test_a_refusal_says_who_may_and_what_to_do() -> None:
    text = refusal(Peer(1, 123_456, frozenset((7_654_321,))), own_uid=0, gid=7_654_322)
    assert text == (
        "cannot control the agent as uid 123456: only root and members of the group gid 7654322 may; "
        "use sudo, or `usermod -aG gid 7654322 uid 123456` and log in anew"
    )


def test_the_kernel_says_who_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.gids == {os.getegid(), *os.getgroups()}
