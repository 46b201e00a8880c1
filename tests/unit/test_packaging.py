"""What the packages are made of, as far as it can be judged without making them: `tests/packaging/run` does that."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, get_args

import pytest

from runner.aws.calls import Purpose
from runner.aws.models import SERVICES
from runner.aws.session import Session
from runner.config.sections import Agent, Queue
from runner.errors import ConfigError
from runner.supervisor.__main__ import EX_CONFIG
from runner.supervisor.users import AGENT_NAME, DEFAULT_USER

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
SCRIPTS = [*sorted((PACKAGING / "scripts").glob("*/*")), PACKAGING / "build", PACKAGING / "container/entrypoint"]


@pytest.fixture
def tree() -> Iterator[ModuleType]:
    """The builder's module of that name, which is found by its directory and not by a package."""
    sys.path.insert(0, str(PACKAGING / "builder"))
    before = set(sys.modules)
    try:
        yield importlib.import_module("tree")
    finally:
        sys.path.remove(str(PACKAGING / "builder"))
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(PACKAGING) in str(sys.modules[name].__file__):
                del sys.modules[name]


def unit(name: str) -> dict[str, list[str]]:
    """Every setting of a unit with its values."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "systemd" / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def exposure(name: str, directory: Path) -> float:
    """What systemd makes of a unit's sandbox: 0 is the closest."""
    shutil.copy(ROOT / "systemd" / name, directory)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(directory / name)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    [score] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    return float(score)


def test_the_agent_is_hardened(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze (apt-get install systemd)")
    assert exposure("cron-runner.service", tmp_path) <= 2.5


def test_the_page_is_off_hardened_and_a_user_of_its_own(tmp_path: Path) -> None:
    page = unit("cron-runner-web.service")
    assert page["DynamicUser"] == ["yes"]
    assert page["SupplementaryGroups"] == [AGENT_NAME]
    assert page["CapabilityBoundingSet"] == [""]
    assert page["ExecStart"][0].endswith(" web")
    for name in ("cron-runner.service", "cron-runner-supervisor.service"):
        assert "cron-runner-web" not in (ROOT / "systemd" / name).read_text()
    for script in (PACKAGING / "scripts").rglob("*"):
        assert script.is_dir() or "enable cron-runner-web" not in script.read_text()
    if shutil.which("systemd-analyze") is None:
        return
    assert exposure("cron-runner-web.service", tmp_path) <= 2.0


def test_a_stop_of_the_agent_has_the_time_that_it_takes() -> None:
    agent, queue = Agent(), Queue()
    assert unit("cron-runner.service")["TimeoutStopSec"] == ["15min"]
    assert agent.drain_timeout + queue.wait + 60 < 15 * 60


def test_nothing_restricts_the_supervisors_unit() -> None:
    """Jobs inherit it."""
    allowed = {
        "Description", "Documentation", "After", "StartLimitIntervalSec",
        "Type", "NotifyAccess", "ExecStart", "ExecReload", "Group", "EnvironmentFile", "Environment", "Restart",
        "RestartSec", "RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve",
        "RestartPreventExitStatus",
        "LogRateLimitIntervalSec", "Delegate", "TasksMax", "OOMPolicy", "KillMode", "TimeoutStopSec", "SendSIGKILL",
    }  # fmt: skip
    found = unit("cron-runner-supervisor.service")
    assert set(found) <= allowed
    wanted = {"Delegate": "yes", "KillMode": "mixed", "OOMPolicy": "continue", "TasksMax": "infinity"}
    assert {name: found[name] for name in wanted} == {name: [value] for name, value in wanted.items()}


def test_a_fault_of_the_configuration_ends_the_restarts_and_fails_a_reload() -> None:
    for name in ("cron-runner.service", "cron-runner-supervisor.service"):
        assert unit(name)["RestartPreventExitStatus"] == [str(ConfigError.exit_status)] == [str(EX_CONFIG)]
    agent = unit("cron-runner.service")
    look, signal = agent["ExecReload"]
    assert look == f"{agent['ExecStart'][0]} --check-config", "the same file as the daemon"
    assert signal.startswith("/bin/kill -HUP")


def test_the_users_are_those_that_the_code_names() -> None:
    made = re.findall(r"^u (\S+)", (ROOT / "systemd/cron-runner.sysusers").read_text(), re.MULTILINE)
    assert made == [AGENT_NAME, DEFAULT_USER]
    assert unit("cron-runner.service")["User"] == [AGENT_NAME]


def test_the_lock_file_has_every_dependency_with_hashes() -> None:
    text = (PACKAGING / "requirements.lock").read_text()
    locked = dict(re.findall(r"^(\S+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["control"], *extras["web"], *extras["sign"]]
    names = [re.split(r"[<>=!~\[;]", line)[0].strip().lower().replace("_", "-") for line in wanted]
    assert [name for name in names if name not in locked] == [], "run packaging/build --lock"


async def test_the_services_in_the_packages_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: ModuleType
) -> None:
    """A client for every purpose can be made of what the packages have of botocore's data."""
    import botocore
    from botocore import loaders

    whole, cut = Path(botocore.__file__).parent / "data", tmp_path / "data"
    shutil.copytree(
        whole, cut, ignore=lambda at, names: [n for n in names if at == str(whole) and n[0] > "a" and n not in kept]
    )
    # The lowest botocore that is allowed knows no login; a package holds the locked one, of which all are asked for.
    services = tuple(name for name in SERVICES if name != "signin" or (whole / name).is_dir())
    tree.cut_botocore(cut, services)
    assert sorted(path.name for path in cut.iterdir() if path.is_dir()) == sorted(services)
    monkeypatch.setattr(loaders.Loader, "BUILTIN_DATA_PATH", str(cut))
    for name, value in {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    session = Session()
    made: list[str] = []
    for purpose in get_args(Purpose):
        await session.call(
            purpose, "Nothing", lambda client: made.append(client.meta.service_model.service_name) or {}, dict
        )
    assert set(made) <= set(SERVICES)
    plain = botocore.session.Session()
    for service in services:
        plain.create_client(service, region_name="eu-west-1")


# What the copy above needs to be a copy, and not 30 MB.
kept = {*SERVICES, "_retry.json", "endpoints.json", "partitions.json", "sdk-default-configuration.json", "s3", "ec2"}


def test_the_builder_reads_the_services_from_the_code(tree: ModuleType) -> None:
    assert tree.constant(ROOT / "runner/aws/models.py", "SERVICES") == SERVICES


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)


def test_the_shipped_configuration_has_only_keys_that_there_are() -> None:
    shipped = tomllib.loads((PACKAGING / "linux/etc/cron-runner/config.toml").read_text())
    example = (ROOT / "config.example.toml").read_text()
    for section, value in shipped.items():
        for key in value if isinstance(value, dict) else (section,):
            assert re.search(rf"^#? ?{key} = ", example, re.MULTILINE), key


def test_the_container_copies_what_exists_and_starts_what_it_copies() -> None:
    recipe = (PACKAGING / "container/Dockerfile").read_text()
    [entrypoint] = re.findall(r"^ENTRYPOINT (.+)$", recipe, re.MULTILINE)
    copied = dict(re.findall(r"^COPY (packaging/\S+) (\S+)$", recipe, re.MULTILINE))
    assert [path for path in copied if not (ROOT / path).stat().st_mode & 0o111] == []
    assert json.loads(entrypoint) == [*copied.values()]


def test_modes_and_times_do_not_depend_on_who_builds(tmp_path: Path, tree: ModuleType) -> None:
    program = tmp_path / "usr/bin/program"
    program.parent.mkdir(parents=True, mode=0o700)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    (tmp_path / "module.py").write_text("")
    (tmp_path / "module.py").chmod(0o755)
    assert tree.settle(tmp_path, 1_700_000_000) == len("#!/bin/sh\n")
    modes = {str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*")}
    assert modes == {"usr": "0o755", "usr/bin": "0o755", "usr/bin/program": "0o755", "module.py": "0o644"}
    assert {path.stat().st_mtime for path in tmp_path.rglob("*")} == {1_700_000_000}


def test_an_rpm_marks_what_may_be_left_out_and_says_what_changed(tmp_path: Path, tree: ModuleType) -> None:
    package, paper = importlib.import_module("package"), importlib.import_module("paper")
    names = {
        "usr/share/doc/cron-runner/copyright": "license",
        "usr/share/doc/cron-runner/changelog.gz": "doc",
        "usr/share/man/man1/cron-runner.1.gz": "doc",
        "etc/cron-runner/config.toml": "config|noreplace",
        "usr/lib/cron-runner/runner/__init__.py": None,
    }
    for name in (*names, "usr/share/doc/cron-runner/changelog.Debian.gz", "usr/lib/cron-runner/runner/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    made = tree.Made(tmp_path, "amd64", "1.2.3", 1_900_000_000, 5)

    def marks(kind: str) -> dict[str, str | None]:
        entries = package.contents(made, kind)
        return {entry["dst"][1:]: entry.get("type") for entry in entries if entry.get("type") != "dir"}

    assert marks("rpm") == names | {"usr/lib/cron-runner/runner/a.pyc": None}
    assert marks("deb")["usr/share/doc/cron-runner/copyright"] is None
    assert "usr/lib/cron-runner/runner/a.pyc" not in marks("deb")
    changes = tmp_path / "changes.json"
    assert package.description(ROOT, made, "rpm", changes)["changelog"] == str(changes)
    [entry] = paper.rpm_changelog("1.2.3", "2030-03-17T17:46:40Z")
    assert (entry["semver"], entry["changes"][0]["note"].startswith("Release 1.2.3; ")) == ("1.2.3", True)


def test_a_stripped_library_still_loads(tmp_path: Path, tree: ModuleType) -> None:
    import psutil

    [library] = Path(psutil.__file__).parent.glob("_psutil_linux*.so")
    whole = library.read_bytes()
    shutil.copytree(library.parent, tmp_path / "psutil")
    tree.elf.strip_all(tmp_path)
    assert (tmp_path / "psutil" / library.name).stat().st_size < len(whole)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import psutil; print(psutil.__file__, psutil.cpu_count())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path))
    with pytest.raises(ValueError, match="not a 64-bit"):
        tree.elf.stripped(b"#!/bin/sh\n")
