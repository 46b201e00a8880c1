#!/bin/sh
# A file of NAME=value lines has no one meaning. Seven variables, read by systemd 252 (its environment.d generator uses
# the parser of EnvironmentFile=), python-dotenv 1.1.1 and django-environ 0.12.0: no two agree on more than three of
# them. A comment behind a quoted value is part of the value for systemd; \n in double quotes stays two characters for
# it and is a line break for python-dotenv, so that a PEM key which works with one breaks with the other; a # behind white
# space ends an unquoted value for python-dotenv alone; an unquoted backslash is eaten by systemd alone.
set -eu
generator=/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator
[ -x "$generator" ] || { echo "needs systemd's 30-systemd-environment-d-generator (Debian: systemd)"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'python-dotenv==1.1.1' 'django-environ==0.12.0'
mkdir "$folder/environment.d"
cat > "$folder/environment.d/x.conf" <<'FILE'
BEHIND="a" # note
KEY="-----BEGIN\nabc"
PLAIN=x # y
PATH_LIKE=C:\temp
LINES="one
two"
JOINED="a"'b'
GLUED=a\
b
FILE
XDG_CONFIG_HOME=$folder "$generator" > "$folder/systemd"
FOLDER=$folder "$folder/venv/bin/python" - <<'PYTHON'
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

import environ
from dotenv import dotenv_values

folder = Path(os.environ["FOLDER"])
file = folder / "environment.d" / "x.conf"
names = ("BEHIND", "KEY", "PLAIN", "PATH_LIKE", "LINES", "JOINED", "GLUED")
raw = dict(line.split("=", 1) for line in (folder / "systemd").read_text().splitlines() if "=" in line)
unescape = lambda text: re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text[1:-1] if text[:1] == '"' else text)
systemd = {name: unescape(raw[name]) for name in names if name in raw}
dotenv = {name: value for name, value in dotenv_values(file, interpolate=False).items() if name in names}
for name in names:
    os.environ.pop(name, None)
environ.Env.read_env(str(file))
django = {name: os.environ[name] for name in names if name in os.environ}
print("python-dotenv", version("python-dotenv"), "django-environ", version("django-environ"))
EXPECTED = {
    "BEHIND": ("a# note", "a", '"a" # note'),
    "KEY": ("-----BEGIN\\nabc", "-----BEGIN\nabc", "-----BEGIN\\nabc"),
    "PLAIN": ("x # y", "x", "x # y"),
    "PATH_LIKE": ("C:temp", "C:\\temp", "C:\\temp"),
    "LINES": ("one\ntwo", "one\ntwo", '"one'),
    "JOINED": ("ab", None, "\"a\"'b'"),
    "GLUED": ("ab", "a\\", "a\\"),
}
for name in names:
    print(f"{name:10} systemd {systemd.get(name)!r:22} python-dotenv {dotenv.get(name)!r:22} django-environ {django.get(name)!r}")
found = {name: (systemd.get(name), dotenv.get(name), django.get(name)) for name in names}
if found != EXPECTED:
    sys.exit(f"changed: {[name for name in names if found[name] != EXPECTED[name]]}")
PYTHON
