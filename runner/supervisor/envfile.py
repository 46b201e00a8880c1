"""Files of ``NAME=VALUE`` lines, as systemd's EnvironmentFile= and .env files have them."""

from __future__ import annotations

import os
import re
import stat

MAX_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse(text: str, name: str) -> dict[str, str]:
    """The variables. Blank lines and lines that begin with ``#`` or ``;`` are skipped, ``export`` is allowed,
    'single' quotes are literal, in "double" ones a backslash escapes. Nothing is expanded.

    Raises ValueError naming file and line.
    """
    found = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        variable, equals, value = line.removeprefix("export ").partition("=")
        variable = variable.strip()
        if not equals or not _NAME.match(variable) or "\0" in value:
            raise ValueError(f"{name}, line {number}: is not NAME=VALUE")
        found[variable] = _unquoted(value.strip(), f"{name}, line {number}")
    return found


def _unquoted(value: str, where: str) -> str:
    if value[:1] in ("'", '"'):
        if len(value) < 2 or value[-1] != value[0]:
            raise ValueError(f"{where}: the quote is not closed")
        inner = value[1:-1]
        return inner if value[0] == "'" else _ESCAPE.sub(r"\1", inner)
    return value


def read(path: str) -> dict[str, str]:
    """The variables of one file, read with the rights of this process. A leading ``-`` allows it to be missing.

    Raises OSError and ValueError; a FIFO or device is refused rather than waited for.
    """
    optional = path.startswith("-")
    path = path.removeprefix("-")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        if optional:
            return {}
        raise
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(f"{path}: is not a regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: is larger than {MAX_BYTES} bytes")
    return parse(data.decode("utf-8", "surrogateescape"), path)
