"""[signing] of a configuration: its keys are read at once with every fault, and nothing is loaded where none is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runner.check.signing import looks
from runner.config import load
from runner.errors import ConfigError
from runner.signing.load import trust_of

from signers import NOW, pair, pem, public_pem

BASE = 'group = "web"\n[queue]\nname = "cron"\n'


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(BASE + text)
    return file


def faults(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        trust_of(load(write(tmp_path, text), {}))
    return caught.value.faults


def test_keys_are_read_with_what_they_may_sign(tmp_path: Path) -> None:
    for name, kind in (("ops", "ed25519"), ("kms", "p256")):
        (tmp_path / f"{name}.pem").write_bytes(public_pem(name, kind))
    text = f"""
    [signing]
    require = true
    [[signing.keys]]
    file = "{tmp_path}/ops.pem"
    [[signing.keys]]
    file = "{tmp_path}/kms.pem"
    jobs = ["web-*"]
    users = ["app"]
    until = "2030-03-17T17:46:40Z"
    [[signing.keys]]
    file = "{tmp_path}/kms.pem"
    until = 2030-03-18
    """
    trust = trust_of(load(write(tmp_path, text), {}))
    assert trust is not None
    first, second, third = trust.keys
    assert (first.keyid, first.jobs, first.users, first.until) == (pair().keyid, ("*",), ("*",), None)
    assert (second.keyid, second.jobs, second.users, second.until) == (
        pair("kms", "p256").keyid,
        ("web-*",),
        ("app",),
        NOW,
    )
    assert third.until == 1_900_022_400.0
    assert (trust.group, trust.require, trust.fresh) == ("web", True, False)


def test_keys_may_come_from_a_variable(tmp_path: Path) -> None:
    (tmp_path / "ops.pem").write_bytes(public_pem())
    variables = {"CRON_RUNNER_SIGNING__KEYS": f'[{{"file": "{tmp_path}/ops.pem"}}]'}
    trust = trust_of(load(write(tmp_path, ""), variables))
    assert trust is not None
    assert [key.keyid for key in trust.keys] == [pair().keyid]


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("x = 1", '"x"'),
        ("", "file"),
        ('file = "ops.pem"', "absolute"),
        ('file = "/x"\njob = ["a"]', 'did you mean "jobs"'),
        ('file = "/x"\njobs = "a"', "list"),
        ('file = "/x"\nusers = []', "users"),
        ('file = "/x"\nuntil = "tomorrow"', "until"),
        ('file = "/x"\nuntil = 2030-01-01T00:00:00', "offset"),
    ],
)
def test_a_key_that_is_said_wrongly_is_a_fault_that_names_it(tmp_path: Path, entry: str, names: str) -> None:
    [fault] = faults(tmp_path, f"[[signing.keys]]\n{entry}\n")
    assert "signing.keys: key 1: " in fault
    assert names in fault


def test_all_files_that_hold_no_key_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    (tmp_path / "private.pem").write_bytes(pem())
    files = ("missing.pem", "text.pem", "private.pem", "")
    text = "".join(f'[[signing.keys]]\nfile = "{tmp_path}/{name}"\n' for name in files)
    found = faults(tmp_path, text)
    assert [f"key {number}: " in fault for number, fault in enumerate(found, 1)] == [True] * 4
    assert "private key" in found[2]


def test_nothing_is_loaded_where_no_key_is_used(tmp_path: Path) -> None:
    """Not by the daemon's modules, nor by a host that only refuses what is not signed."""
    script = (
        "import sys, pathlib; import runner.agent.daemon; from runner.config import load; "
        "from runner.signing.load import trust_of; "
        "made = trust_of(load(pathlib.Path(sys.argv[1]), {})); "
        "print(made is None, 'cryptography' in sys.modules, 'runner.control' in sys.modules)"
    )
    for text, none in (("", True), ("[signing]\nfresh = true\n", True), ("[signing]\nrequire = true\n", False)):
        command = [sys.executable, "-c", script, str(write(tmp_path, text))]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said == f"{none} False False\n"


def test_a_host_without_cryptography_says_so(tmp_path: Path) -> None:
    (tmp_path / "ops.pem").write_bytes(public_pem())
    script = (
        "import sys, pathlib; sys.modules['cryptography'] = None; from runner.config import load; "
        "from runner.signing.load import trust_of; trust_of(load(pathlib.Path(sys.argv[1]), {}))"
    )
    file = write(tmp_path, f'[[signing.keys]]\nfile = "{tmp_path}/ops.pem"\n')
    said = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert "cryptography is not installed; `cron-runner check`" in said.stderr


def test_check_says_who_may_sign_and_what_is_wrong_with_keys(tmp_path: Path) -> None:
    (tmp_path / "ops.pem").write_bytes(public_pem())
    key = f'[[signing.keys]]\nfile = "{tmp_path}/ops.pem"\n'

    def lines(text: str, install: str = "") -> list[str]:
        return [found.line() for found in looks(load(write(tmp_path, text), {}), install)]

    assert lines("") == []
    [line] = lines(key)
    assert line == f"ok       signing       {pair().keyid} may sign; unsigned messages are taken too"
    [line] = lines(f"[signing]\nrequire = true\n{key}")
    assert line.endswith("unsigned messages are rejected")
    first, second = lines(f'[signing]\nrequire = true\n{key}until = "2001-01-01"\n')
    assert first.startswith("warning  signing       key ")
    assert second.startswith("failed   signing       no key may sign")
    [line] = lines(key, "type: pip install x")
    assert line.startswith("failed")
    assert line.endswith("; type: pip install x")
    [line] = lines(key.replace("ops", "gone"))
    assert line.endswith("; let the agent's user read it")
