"""The file system tree of a package: our code, the wheels, units, configuration and documentation."""

from __future__ import annotations

import ast
import gzip
import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import compiled
import elf
import lock
import paper
import tools

if TYPE_CHECKING:
    from pathlib import Path

HOME = "usr/lib/cron-runner"
_DROPPED_SUFFIXES = (".pyi", ".c", ".h", ".cc", ".typed")
_DROPPED_FILES = (
    "RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json", ".gitignore",
    "dateutil-zoneinfo.tar.gz",  # of the time zones only UTC and the host's own are used
    "rrule.py", "_psaix.py", "_psbsd.py", "_psosx.py", "_pssunos.py", "_pswindows.py",
)  # fmt: skip
# Of the wheels what nothing here imports.
_DROPPED = (
    "bin", "boto3/examples", "boto3/data", "psutil/tests", "urllib3/contrib/emscripten", "prometheus_client/twisted",
    "prometheus_client/django", "prometheus_client/aiohttp", "__pycache__",
)  # fmt: skip
# Whose library in C is used by loaders that nothing here asks for, and has another library within it.
_WITHOUT_C = {"pyyaml": ("yaml/_yaml.*.so", "_yaml/*.py")}
# What botocore needs beside the services themselves.
_COMMON_DATA = ("_retry.json", "endpoints.json", "partitions.json", "sdk-default-configuration.json")


@dataclass(frozen=True, slots=True)
class Made:
    """A finished tree. ``epoch`` is the moment that all its files bear; ``installed`` its bytes on a host."""

    root: Path
    arch: str
    version: str
    epoch: int
    installed: int


def make(source: Path, work: Path, arch: str, version: str | None) -> Made:
    """Put everything together under ``work``."""
    root = work / "root"
    home = root / HOME
    wheels(source, home, arch, work)
    services = constant(source / "runner/aws/models.py", "SERVICES")
    cut_botocore(home / "botocore" / "data", services)
    elf.strip_all(home)
    unwanted = shutil.ignore_patterns("__pycache__", "*.c", "*.pyi", "*.so")
    shutil.copytree(source / "runner", home / "runner", ignore=unwanted)
    compiled.start(source, home, arch)
    cut_services(home)
    if version is not None:
        stamp = home / "runner/__init__.py"
        stamp.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', stamp.read_text()))
    version = constant(home / "runner/__init__.py", "__version__")
    launchers(root, "/usr/bin/python3")
    (home / "supervisor.id").write_text(_supervisor_id(home))
    shutil.copytree(source / "packaging/linux", root, dirs_exist_ok=True)
    for unit in sorted((source / "systemd").iterdir()):
        kind = {".service": "systemd/system", ".sysusers": "sysusers.d", ".tmpfiles": "tmpfiles.d"}[unit.suffix]
        name = unit.name if unit.suffix == ".service" else f"{unit.stem}.conf"
        _copy(unit, root / "usr/lib" / kind / name)
    (root / "etc/cron-runner/jobs.d").mkdir(parents=True, exist_ok=True)
    epoch = moment(source)
    paper.write(source, root, home, version, epoch)
    compile_all(home)
    installed = settle(root, epoch)
    return Made(root, arch, version, epoch, installed)


def constant(file: Path, name: str) -> object:
    """The value of a constant in a module, computed from nothing but the module's other constants."""
    names: dict[str, object] = {"frozenset": frozenset}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            code = compile(ast.Expression(node.value), str(file), "eval")
            try:
                names[node.targets[0].id] = eval(code, {"__builtins__": {}}, names)  # noqa: S307 - our own constants
            except NameError:
                continue
    if name not in names:
        raise tools.BuildError(f"cannot build: {file} has no constant {name}")
    return names[name]


def wheels(source: Path, home: Path, arch: str, work: Path) -> None:
    """Unpack the wheels of the lock file, and beside them the libraries for later Pythons."""
    home.mkdir(parents=True)
    tools.run(*tools.pip(), "install", "--no-deps", "--no-compile", "--require-hashes", "--ignore-installed",
              "--target", home, *lock.selection(arch, lock.PYTHON), "--requirement", lock.path(source))  # fmt: skip
    for info in sorted(home.glob("*.dist-info")):
        name = info.name.partition("-")[0].replace("_", "-").lower()
        if name not in _WITHOUT_C and "cpython-311" in (info / "RECORD").read_text():
            _later_libraries(source, home, arch, work, name)
    _drop(home)


def _drop(home: Path) -> None:
    """Of the wheels what nothing here imports."""
    for pattern in (pattern for patterns in _WITHOUT_C.values() for pattern in patterns):
        for path in home.glob(pattern):
            path.unlink()
            if path.parent.name == "_yaml":
                path.parent.rmdir()
    for name in _DROPPED:
        for path in sorted(home.rglob(name)) if "/" not in name else [home / name]:
            shutil.rmtree(path, ignore_errors=True)
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        if path.suffix in _DROPPED_SUFFIXES or path.name in _DROPPED_FILES:
            path.unlink()
        elif path.suffix == ".py" and (code := path.read_bytes()).startswith(b"#!"):
            path.write_bytes(b"#" + code.partition(b"\n")[1] + code.partition(b"\n")[2])  # no program; as many lines


def _later_libraries(source: Path, home: Path, arch: str, work: Path, name: str) -> None:
    """A wheel's library has the Python's version in its name, so those for several Pythons do not collide."""
    wanted = work / "later.lock"
    blocks = re.split(r"\n(?=\S)", lock.path(source).read_text())
    wanted.write_text(next(block for block in blocks if block.startswith(f"{name}==")) + "\n")
    for python in lock.LATER:
        found = work / f"later-{name}-{python}"
        tools.run(*tools.pip(), "download", "--no-deps", "--require-hashes", "--dest", found,
                  *lock.selection(arch, python), "--requirement", wanted)  # fmt: skip
        [wheel] = found.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.endswith(".so"):
                    archive.extract(member, home)


def cut_botocore(data: Path, services: tuple[str, ...]) -> None:
    """Of AWS's services those that are used, without their examples."""
    missing = [name for name in (*services, *_COMMON_DATA) if not (data / name).exists()]
    if missing:
        raise tools.BuildError(f"cannot build: this botocore has no {', '.join(missing)}")
    for path in sorted(data.iterdir()):
        if path.is_dir() and path.name not in services:
            shutil.rmtree(path)
        elif path.is_file() and path.name not in _COMMON_DATA:
            path.unlink()
    for path in sorted(data.rglob("examples-*.json*")):
        path.unlink()
    for path in sorted(data.rglob("*.json")):  # botocore reads both; uncompressed they are a tenth of the package
        path.with_suffix(".json.gz").write_bytes(gzip.compress(path.read_bytes(), compresslevel=9, mtime=0))
        path.unlink()


def cut_services(home: Path) -> None:
    """Of each service what is called: the agent would leave out the rest when it reads it (`runner.aws.models`)."""
    code = (
        "import gzip, json, pathlib, sys; home = sys.argv[1]; sys.path.insert(0, home)\n"
        "from runner.aws.models import OPERATIONS, cut_service\n"
        "for name, operations in OPERATIONS.items():\n"
        "    for path in sorted(pathlib.Path(home, 'botocore/data', name).glob('*/service-2.json.gz')):\n"
        "        model = cut_service(json.loads(gzip.decompress(path.read_bytes())), operations)\n"
        "        path.write_bytes(gzip.compress(json.dumps(model).encode(), compresslevel=9, mtime=0))\n"
    )
    tools.run(sys.executable, "-ISB", "-c", code, home)


def launchers(root: Path, python: str) -> None:
    """The two programs. -I: no variable, directory or module of a user's has a say; -S: nor the distribution's own
    modules; -B: root leaves no compiled files behind."""
    for path, name, code in (
        ("usr/bin/cron-runner", "runner.cli.start", "entry"),
        (f"{HOME}/cron-runner-supervisor", "runner.supervisor.__main__", "main"),
    ):
        program = root / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f'#!{python} -ISB\nimport sys\n\nsys.path.insert(0, "/{HOME}")\nfrom {name} import {code}\n\n{code}()\n'
        )
        program.chmod(0o755)


def _supervisor_id(home: Path) -> str:
    """Changes when the code of the supervisor does: then the running one is replaced."""
    digest = hashlib.sha256()
    code = [path for path in (home / "runner/supervisor").rglob("*") if path.suffix in (".py", ".so")]
    for path in [home / "runner/__init__.py", *sorted(code)]:
        if path.name == "__init__.py" and path.parent.name == "runner":
            continue  # the version alone is no reason
        digest.update(str(path.relative_to(home)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest() + "\n"


def compile_all(home: Path) -> None:
    """Compiled code whose source is not looked at when it is loaded: a start needs no time for that."""
    files = sorted(path for path in home.rglob("*.py") if "__pycache__" not in path.parts)
    for file in files:
        try:
            py_compile.compile(
                str(file), dfile=f"/{HOME}/{file.relative_to(home)}", doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )  # fmt: skip
        except py_compile.PyCompileError as error:
            raise tools.BuildError(f"cannot build: {error}") from error


def moment(source: Path) -> int:
    """SOURCE_DATE_EPOCH, else the commit's time, else one that is always the same."""
    if text := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(text)
    try:
        return int(tools.run("git", "-C", source, "log", "-1", "--format=%ct").strip())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return 1_700_000_000


def settle(root: Path, epoch: int) -> int:
    """The same modes and times whoever builds. Returns the bytes that are installed."""
    total = 0
    for path in sorted(root.rglob("*"), reverse=True):
        executable = path.is_dir() or bool(path.stat().st_mode & 0o100 and path.suffix != ".py")
        path.chmod(0o755 if executable and path.suffix != ".so" else 0o644)
        os.utime(path, (epoch, epoch))
        total += path.stat().st_size if path.is_file() else 0
    return total


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
