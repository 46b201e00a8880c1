"""Environment files are read as systemd reads them: its own generator for environment.d is the oracle."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from runner.supervisor.starting import envfile

GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
NAMES = ("A", "B1", "_c")
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a"}
CERTAIN = [
    'A="a\\nb"\n',
    'A="a" # comment\n',
    "A=b # comment\n",
    'A="a\nb"\nB1=x\n',
    "A='a\nb'\n",
    'A="C:\\temp"\nB1=C:\\temp\n',
    'A="-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----\\n"\n',
    "A=a\\\nb\n",
    "A=\\\n  b\n",
    "A=x \\ \n",
    "A=x\u2028y\n",
    "A=x\x0by\x0cz\x85w\n",
    "A = x y \n",
    "# c \\\nA=1\nB1=2\n",
    ";\\\r\nA=1\n",
    "A=1\rB1=2\r\n",
    "A=\nB1=''\n_c=\"\"\n",
    "A='a'\"b\" 'c' d \"e\"\n",
    'A=x"y"\n',
    "A=1\nA=2\n",
    'A="\\a\\"\\\\\\`"\n',
    "A=x\\",
]
piece = st.sampled_from([*"\"'\\\\ \t\n\r#;=xyn`", "A=", "\nB1=", "\n_c=", "\\\n", " # ", "é"])


def by_systemd(text: str) -> dict[str, str]:
    """What the generator makes of a file. It also expands $, which EnvironmentFile= does not: leave it out."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "environment.d", "x.conf")
        path.parent.mkdir()
        path.write_bytes(text.encode())
        made = subprocess.run(
            [str(GENERATOR)], env={"XDG_CONFIG_HOME": home}, capture_output=True, text=True, check=True, timeout=20
        )
    found = dict(line.split("=", 1) for line in made.stdout.split("\n") if "=" in line)
    return {name: unescaped(value) for name, value in found.items() if name in NAMES and unescaped(value)}


def unescaped(shown: str) -> str:
    inner = shown[1:-1] if shown.startswith('"') else shown
    said = re.sub(
        r"\\(x[0-9a-f]{2}|[0-7]{3}|.)",
        lambda found: (
            chr(int(found[1][1:], 16))
            if found[1][0] == "x" and len(found[1]) == 3
            else chr(int(found[1], 8))
            if len(found[1]) == 3
            else ESCAPES.get(found[1], found[1])
        ),
        inner,
    )
    return said.encode("latin-1").decode() if re.search(r"\\[0-7]{3}", inner) else said


def ours(text: str) -> dict[str, str] | None:
    """What we make of it; None where we refuse it."""
    try:
        found = envfile.parse(text, "f")
    except ValueError:
        return None
    # An empty value unsets a variable in environment.d; in an EnvironmentFile= it is an empty one.
    return {name: value for name, value in found.items() if name in NAMES and value}


@pytest.mark.skipif(not GENERATOR.exists(), reason="no systemd here")
@pytest.mark.parametrize("text", CERTAIN)
def test_known_files_have_systemd_s_values(text: str) -> None:
    assert ours(text) == by_systemd(text)


@pytest.mark.skipif(not GENERATOR.exists(), reason="no systemd here")
@given(st.lists(piece, max_size=14).map(lambda pieces: "A=" + "".join(pieces) + "\n"))
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_any_file_has_systemd_s_values_or_is_refused(text: str) -> None:
    # environment.d keeps the value that stood before an empty one.
    assume(all(text.count(f"{name}=") <= 1 for name in NAMES))
    assert ours(text) in (None, by_systemd(text))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xef\xbb\xbfA=1\n", "line 1: begins with a byte order mark"),
        (b"A=1\nB=\xe9\n", "line 2: is not UTF-8"),
        (b"A=1\n\nB=a\0b\n", "line 3: has a NUL byte"),
        (b"A=1\nexport B=2\n", 'line 2: begins with "export"'),
        (b"A=1\r\nB\r\nC=2\r\n", "line 2: is not NAME=VALUE"),
        (b"1A=2\n", "line 1: is not NAME=VALUE"),
        (b"A='x\ny\n", "line 1: the quote is not closed"),
        (b'A="x\\"\n', "line 1: the quote is not closed"),
        (b"A=1\n=2\n", "line 2: is not NAME=VALUE"),
    ],
)
def test_what_systemd_drops_is_refused_with_its_line(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(f"{os.fspath(path)}, {says}")):
        envfile.read(str(path))
