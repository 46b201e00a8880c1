"""One TOML file, read with errors that a person can act on."""

from __future__ import annotations

import os
import pwd
import re
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# tomllib puts the place at the end of its message: "Expected '=' … (at line 3, column 5)".
_PLACE = re.compile(r"\s*\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")


class Unreadable(ValueError):
    """The file cannot be read at all. ``origin`` is the file, with the line where one is known."""

    def __init__(self, origin: str, text: str) -> None:
        self.origin = origin
        super().__init__(text)


def read_toml(file: Path) -> dict[str, object]:
    """The file's content. Raises Unreadable, and FileNotFoundError for the caller to explain."""
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise Unreadable(
            str(file), f"is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from None
    except PermissionError:
        raise Unreadable(str(file), f"cannot read the file: permission denied; {denied(file)}") from None
    except OSError as error:
        raise Unreadable(str(file), f"cannot read the file: {error.strerror}; name a file of TOML") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _explained(file, str(error), text) from None
    except RecursionError:
        raise Unreadable(
            str(file), "is nested too deeply to be a configuration; start again from config.example.toml"
        ) from None


def denied(path: Path) -> str:
    """What to do where a file of the configuration cannot be read: who may type this, and how the daemon may."""
    try:
        owner = path.owner()
    except (OSError, KeyError):  # its folder is closed too, or nobody has that number
        owner = "root"
    if "INVOCATION_ID" in os.environ:  # a unit of systemd's: nobody types it
        try:
            own = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            own = str(os.geteuid())
        return f"give it and its folder to a group of {own}, which may read it (chgrp, chmod g+rX)"
    return f"type it behind sudo, as {owner} may read it"


def _explained(file: Path, message: str, text: str) -> Unreadable:
    place = _PLACE.search(message)
    if place is None:
        return Unreadable(str(file), f"is not TOML: {message}")
    what = message[: place.start()]
    if what == "Illegal character '\\n'":
        what = 'a text is not closed: put a " at its end'
    elif what == "Unterminated string" or what.startswith("Expected \"'"):
        closing = what.partition('"')[2].removesuffix('"') or '"'
        what = f"a text is not closed: put a {closing} at its end"
    elif what.startswith("Unescaped '\\'"):
        what += r" (write \\, or put the text into '...')"
    if what == "Invalid value":
        what += ' (a text needs quotes: key = "text")'
    if place["line"] is None:
        return Unreadable(f"{file}:{len(text.splitlines())}", f"is not TOML: {what}, at the end of the file")
    return Unreadable(f"{file}:{place['line']}", f"is not TOML: {what}, column {place['column']}")
