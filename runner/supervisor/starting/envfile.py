"""Files of ``NAME=VALUE`` lines in the dialect of systemd's EnvironmentFile=, as systemd 252 reads it.

Source: systemd 252, src/basic/env-file.c, and systemd.exec(5). One file, one value: the units read
/etc/cron-runner/environment by systemd, our commands by this, and jobs' env_files are of the same dialect. A line that
ends with a backslash goes on in the next one, a comment too. 'Single' quotes are literal, and so are line breaks in
quotes of either kind; in "double" ones a backslash escapes ``"``, ``\\``, `` ` ``, ``$`` and a line break, and stays in
front of anything else. Behind a closing quote the value goes on, with white space left out: ``"a" # b`` is ``a# b``.
Nothing is expanded. What systemd drops with a warning, or without one, is refused here.
"""

from __future__ import annotations

import os
import re
import stat

MAX_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NEWLINE = "\n\r"
_WHITE = " \t\n\r"
_COMMENT = re.compile(r"(?:[^\n\r\\]|\\[\s\S]?)*")
_ESCAPED = re.compile(r"\\([\"\\`$])|\\\n")


def parse(text: str, name: str) -> dict[str, str]:
    """The variables; the last of a name counts. Raises ValueError naming file and line."""
    if text.startswith("\ufeff"):
        raise ValueError(f"{name}, line 1: begins with a byte order mark, which cannot be seen; save it without one")
    if "\0" in text:
        raise ValueError(f"{name}, line {_line(text, text.index(chr(0)))}: has a NUL byte, which no variable can hold")
    found = {}
    at = 0
    while at < len(text):
        if text[at] in _WHITE:
            at += 1
        elif text[at] in "#;":
            comment = _COMMENT.match(text, at)
            at = comment.end() if comment else at + 1
        else:
            equals = _end_of_name(text, at, name)
            variable = text[at:equals].rstrip(_WHITE)
            if not _NAME.match(variable):
                raise ValueError(f"{name}, line {_line(text, at)}: {_wrong_name(variable)}")
            found[variable], at = _value(text, equals + 1, name)
    return found


def _end_of_name(text: str, at: int, name: str) -> int:
    equals = at
    while equals < len(text) and text[equals] not in _NEWLINE:
        if text[equals] == "=":
            return equals
        equals += 1
    raise ValueError(f"{name}, line {_line(text, at)}: is not NAME=VALUE")


def _wrong_name(variable: str) -> str:
    if variable.startswith("export "):
        return 'begins with "export", a shell\'s word that systemd does not know; leave it out'
    return "is not NAME=VALUE: a name holds letters, digits and _, and does not begin with a digit"


def _value(text: str, at: int, name: str) -> tuple[str, int]:
    """The value that begins at a place, and where it ends."""
    value = ""
    while at < len(text) and text[at] not in _NEWLINE:
        if text[at] in "'\"":
            end = _closing(text, at, name)
            inner = text[at + 1 : end]
            value += inner if text[at] == "'" else _ESCAPED.sub(lambda found: found[1] or "", inner)
            at = end + 1
        elif text[at] in _WHITE:
            at += 1
        else:
            plain, at = _plain(text, at)
            return value + plain, at
    return value, at


def _closing(text: str, at: int, name: str) -> int:
    """The place of the quote that closes the one at a place."""
    end = at + 1
    while end < len(text) and text[end] != text[at]:
        end += 2 if text[end] == "\\" and text[at] == '"' else 1
    if end >= len(text):
        raise ValueError(f"{name}, line {_line(text, at)}: the quote is not closed")
    return end


def _plain(text: str, at: int) -> tuple[str, int]:
    """A value without quotes to the end of its line, without the white space at its end that no backslash keeps."""
    value: list[str] = []
    kept = 0
    while at < len(text) and text[at] not in _NEWLINE:
        if text[at] == "\\":
            at += 1
            if text[at : at + 1] not in ("", *_NEWLINE):
                value.append(text[at])
            kept = len(value)
        else:
            value.append(text[at])
            kept = kept if text[at] in _WHITE else len(value)
        at += 1
    return "".join(value[:kept]), at


def _line(text: str, at: int) -> int:
    return len(re.findall(r"\r\n|\r|\n", text[:at])) + 1


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
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: is not UTF-8; save the file as UTF-8") from None
    return parse(text, path)
