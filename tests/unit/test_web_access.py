"""Who may do what on the page: tokens, roles, sessions, and the description of the API. Pure but for files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate
from starlette.requests import HTTPConnection

from runner.config.web import Allow, Web, WebProxy
from runner.errors import CronRunnerError
from runner.web.access import COOKIE, Access, Person
from runner.web.app import Application
from runner.web.openapi import OPERATIONS, description
from runner.web.tokens import Token, Tokens, hash_of, parsed

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "a" * 43


def request(client: str = "127.0.0.1", **headers: str) -> HTTPConnection:
    named = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": named, "client": (client, 1), "path": "/", "method": "GET"})


def test_a_file_of_tokens_is_read_and_a_wrong_line_lets_nobody_in(tmp_path: Path) -> None:
    good, over = Token("alice", "operate", hash_of(TOKEN)), Token("old", "run", hash_of("b" * 43), time.time() - 1)
    text = f"# who\n\n{good.line()}  # on call\n{over.line()}\n"
    assert [one.name for one in parsed(text)[0]] == ["alice", "old"]
    file = tmp_path / "tokens"
    file.write_text(text)
    tokens = Tokens(file)
    found = tokens.find(TOKEN)
    assert found is not None
    assert (found.name, found.role) == ("alice", "operate")
    assert tokens.find("b" * 43) is None
    assert tokens.find("") is None
    for line in ("bob admin " + "0" * 64, "bob read 123", "b/b read " + "0" * 64, "bob read"):
        assert parsed(line)[0] == []
        file.write_text(line)
        with pytest.raises(CronRunnerError, match="cannot use"):
            Tokens(file)


def test_a_session_ends_with_its_token_its_signing_out_and_its_process(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(Token("alice", "read", hash_of(TOKEN)).line())
    access = Access(Web(), Tokens(file))
    assert access.sign_in("wrong") is None
    session = access.sign_in(TOKEN)
    other = access.sign_in(TOKEN)
    assert session is not None
    assert TOKEN not in session
    assert (who := access.who(request(cookie=f"{COOKIE}={session}"))) is not None
    assert (who.name, who.bearer) == ("alice", False)
    said, _, mac = session.partition(".")
    for forged in (f"{said}.{'0' * 64}", f"{said[:-4]}AAAA.{mac}", "x", ".", f"{said}."):
        assert access.who(request(cookie=f"{COOKIE}={forged}")) is None
    assert Access(Web(), Tokens(file)).who(request(cookie=f"{COOKIE}={session}")) is None
    access.sign_out(request(cookie=f"{COOKIE}={session}"))
    assert access.who(request(cookie=f"{COOKIE}={session}")) is None
    assert access.who(request(cookie=f"{COOKIE}={other}")) is not None
    file.write_text("")
    tokens = Tokens(file)
    assert tokens.still("alice", hash_of(TOKEN)) is None


def test_a_proxy_is_believed_by_its_address_only() -> None:
    web = Web(
        auth="proxy",
        proxy=WebProxy(from_=("10.0.0.1",)),
        allow=(Allow(("group:oncall",), "operate", ("web/*",)), Allow(("root",), "run", ("*",))),
    )
    access = Access(web, Tokens(None))
    assert access.who(request("10.0.0.2", x_forwarded_user="root")) is None
    assert access.who(request("10.0.0.1")) is None
    assert access.who(request("10.0.0.1", authorization=f"Bearer {TOKEN}")) is None
    known = access.who(request("10.0.0.1", x_forwarded_user="bob"))
    assert known is not None
    assert (known.role, known.may("cancel", "web", "a")) == ("read", False)
    oncall = access.who(request("10.0.0.1", x_forwarded_user="eve", x_forwarded_groups="dev, oncall"))
    assert oncall is not None
    assert oncall.may("cancel", "web", "a")
    assert not oncall.may("cancel", "data", "a")
    twice = HTTPConnection(
        {
            "type": "http",
            "client": ("10.0.0.1", 1),
            "headers": [(b"x-forwarded-user", b"root"), (b"x-forwarded-user", b"bob")],
        }
    )
    assert access.who(twice) is None


@pytest.mark.parametrize(
    ("grants", "ask", "may"),
    [
        ([("read", ["*"])], ("cancel", "web", "a"), False),
        ([("operate", ["*"])], ("cancel", "web", "a"), True),
        ([("operate", ["*"])], ("drain", "", ""), True),
        ([("operate", ["web/*"])], ("pause", "web", ""), True),
        ([("operate", ["web/a"])], ("pause", "web", ""), False),  # that changes every job of the group
        ([("operate", ["web/*"])], ("pause", "data", ""), False),
        ([("operate", ["*/a"])], ("cancel", "data", "a"), True),
        ([("operate", ["web/*"])], ("drain", "", ""), False),
        ([("operate", ["web/nightly-*"])], ("run", "web", "nightly-x"), True),
        ([("operate", ["*"])], ("unheard-of", "web", "a"), False),
    ],
)
def test_roles_hold_for_the_jobs_that_they_are_given_for(grants: Any, ask: tuple[str, str, str], may: bool) -> None:
    assert Person("p", grants, "page").may(*ask) is may


def test_only_the_role_run_may_give_arguments() -> None:
    assert not Person("p", [("operate", ["*"])], "").may("run", "web", "a", given=True)
    assert Person("p", [("run", ["web/*"])], "").may("run", "web", "a", given=True)


class Nothing:
    """A source that is never asked."""

    kind = "host"


def test_the_description_has_the_routes_that_there_are() -> None:
    document = description()
    validate(document)
    app = Application(Nothing(), Web(), Tokens(None), frozenset())  # type: ignore[arg-type]
    served = {
        (method, route.path)
        for route in app.routes
        if getattr(route, "path", "").startswith("/api/v1")
        for method in route.methods - {"HEAD"}
    }
    described = {(method.upper(), path) for path, of in document["paths"].items() for method in of}
    assert served == described == {(one.method, one.path) for one in OPERATIONS}
