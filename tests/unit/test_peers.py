"""Who may control the agent."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from runner.agent.operator.peers import Peer, Role, Rules, peer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

AGENT, GROUP = 990, 991
NOBODY = 65_534


RULES = Rules(("root", "%cron-runner"), ("%cron-runner-read",), AGENT, GROUP)


@pytest.fixture(autouse=True)
def a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with these users and groups, and with none of our names."""
    users = {"root": 0, "anna": 1000, "nobody": NOBODY}
    groups = {"wheel": 10, "cron-runner-read": 992}
    monkeypatch.setattr("pwd.getpwnam", lambda name: SimpleNamespace(pw_uid=users[name]))
    monkeypatch.setattr("grp.getgrnam", lambda name: SimpleNamespace(gr_gid=groups[name]))


def may(rules: Rules, uid: int, *gids: int) -> str:
    """The roles of a peer."""
    peer = Peer(1, uid, frozenset(gids))
    roles: tuple[Role, ...] = ("read", "operate")
    return " ".join(role for role in roles if rules.refusal(peer, role) is None)


@pytest.mark.parametrize(
    ("uid", "gids", "roles"),
    [
        (0, (), "read operate"),
        (AGENT, (5,), "read operate"),
        (1000, (1000, GROUP), "read operate"),
        (1000, (GROUP,), "read operate"),
        (1000, (1000, 992), "read"),
        (1000, (1000, 5), ""),
        (NOBODY, (), ""),
    ],
)
def test_without_rules_root_the_agents_user_and_the_sockets_group_operate(
    uid: int, gids: Iterable[int], roles: str
) -> None:
    assert may(RULES, uid, *gids) == roles


def test_rules_name_users_and_groups_and_what_is_not_there_is_nobody() -> None:
    rules = Rules(("anna", "%wheel", "eve", "%staff", "1234", "%4321"), ("nobody",), AGENT, GROUP)
    assert may(rules, 1000) == may(rules, 5, 10) == may(rules, 1234) == may(rules, 5, 4321) == "read operate"
    assert may(rules, NOBODY) == "read"
    assert may(rules, 0) == may(rules, AGENT) == "read operate"  # nobody locks these out
    assert may(rules, 1001, 1000, GROUP) == ""
    assert may(Rules((), (), AGENT, GROUP), 1000, GROUP) == ""


def test_the_group_of_the_package_is_the_sockets_own_where_the_host_has_none_of_the_name() -> None:
    assert may(Rules(("%cron-runner",), (), AGENT, 77), 1000, 77) == "read operate"
    assert may(Rules(("%cron-runner",), (), AGENT, 77), 1000, GROUP) == ""


def test_others_need_a_way_to_the_socket() -> None:
    def others(*operate: str, read: tuple[str, ...] = ()) -> bool:
        return Rules(operate, read, AGENT, GROUP).others()

    assert not others("root", "%cron-runner", "0", str(AGENT), "eve", "%staff", f"%{GROUP}")
    assert others("anna")
    assert others("%wheel")
    assert others("root", read=("%cron-runner-read",))


def test_a_refusal_says_who_may_and_what_to_do() -> None:
    peer = Peer(1, 123_456, frozenset((7_654_321,)))
    rules = Rules(("root", "%cron-runner"), (), 0, 7_654_322)
    assert rules.refusal(peer, "operate") == (
        "cannot control the agent as uid 123456: only root and members of the group gid 7654322 may; "
        "use sudo, or `usermod -aG gid 7654322 uid 123456` and log in anew"
    )
    rules = Rules(("root", "anna"), ("nobody",), 0, 7_654_322)
    assert (
        rules.refusal(peer, "read") == "cannot control the agent as uid 123456: only root, anna, nobody may; use sudo"
    )


def test_the_kernel_says_who_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.gids == {os.getegid(), *os.getgroups()}
