"""``cron-runner web``: the page and the HTTP API; ``cron-runner web token`` makes who may see it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.cli import agent_socket, printing, remedy
from runner.errors import CronRunnerError, WrongUsage

if TYPE_CHECKING:
    import argparse

    from runner.config import Config

EXAMPLE: Final = """\
cron-runner web
cron-runner web --listen 127.0.0.1:8080 --source host
cron-runner web token alice --role operate
"""
ROLES: Final = ("read", "operate", "run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is served, and where; or a token."""
    parser.add_argument("what", metavar="token", nargs="?", choices=("token",), help="make a token instead")
    parser.add_argument("name", metavar="NAME", nargs="?", help="whose token it is")
    parser.add_argument("--role", choices=ROLES, default="read", help="what the token allows (read)")
    parser.add_argument("--until", metavar="DURATION", type=agent_socket.duration, help="how long the token is valid")
    parser.add_argument("--listen", metavar="HOST:PORT", help="instead of [web] listen; port 0 takes any")
    parser.add_argument("--source", choices=("auto", "host", "fleet"), help="instead of [web] source")
    parser.add_argument("--table", metavar="NAME", default="", help="the fleet's table, instead of [fleet] table")
    parser.add_argument(
        "--socket", type=Path, metavar="PATH", help="the agent's control socket (default: [paths] runtime/agent.sock)"
    )


def execute(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C; or print a token."""
    if args.what == "token":
        return _token(args)
    if todo := remedy.missing("web", ("starlette", "uvicorn", "jinja2")):
        raise CronRunnerError(f"cannot serve the page: Starlette, uvicorn or Jinja2 is not installed; {todo}")
    from runner.web.serve import serve  # noqa: PLC0415 - `--help` needs none of it

    config = _config(args)
    web = config.web
    if args.listen:
        web = replace(web, listen=args.listen)
    if args.source:
        web = replace(web, source=args.source)
    serve(replace(config, web=web), agent_socket.socket_of(args, os.environ), printing.lines, table=args.table)
    return 0


def _config(args: argparse.Namespace) -> Config:
    """The configuration; on a machine that is no host there is none."""
    from runner import config  # noqa: PLC0415 - `--help` needs none of it
    from runner.cli import unit_environment  # noqa: PLC0415 - as above

    unit_environment.take(args.config)
    return config.load(args.config, os.environ, offline=args.config is None)


def _token(args: argparse.Namespace) -> int:
    from runner.web.tokens import NAME, Token, hash_of, new_token  # noqa: PLC0415 - `--help` needs none of it

    if not args.name:
        raise WrongUsage("cannot make a token for nobody: give a NAME, as in `cron-runner web token alice --role read`")
    if not NAME.fullmatch(args.name):
        raise WrongUsage(f"cannot make a token for {args.name!r}: a name has letters, digits and . _ @ -, at most 64")
    token = new_token()
    until = None if args.until is None else time.time() + args.until
    line = Token(args.name, args.role, hash_of(token), until).line()
    file = _config(args).web.tokens_file
    if file:
        _append(Path(file), line)
        printing.note(f"added to {file}; this is the only time that the token is shown")
    else:
        printing.note(f"add this line to the file that [web] tokens_file names: {line}")
    printing.lines(token)
    return 0


def _append(file: Path, line: str) -> None:
    """One more line, of a file that its owner and group alone may read."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "ab") as opened:
            opened.write(line.encode() + b"\n")
    except OSError as error:
        raise CronRunnerError(f"cannot add to {file}: {error.strerror}; use sudo, or set [web] tokens_file") from error
