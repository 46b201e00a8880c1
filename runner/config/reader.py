"""TOML file, ``jobs.d`` and environment → Config, with every fault listed at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from runner.config.checks import CHECKS, across
from runner.config.declared import FOLDER, DeclaredJobs
from runner.config.keys import KEYS, PREFIX, SECTIONS, VARIABLES, Key, key_name
from runner.config.kinds import expected
from runner.config.model import OFFLINE_GROUP, Config
from runner.config.place import DEFAULT_PATH
from runner.config.toml import Unreadable, read_toml
from runner.errors import ConfigError
from runner.protocol.suggest import nearest, unknown

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path | None, environ: Mapping[str, str], *, offline: bool = False) -> Config:
    """Read and check the whole configuration.

    Args:
        path: the file; None for `DEFAULT_PATH`, which may be missing where the environment
            gives group and queue.
        environ: where ``CRON_RUNNER_SECTION__KEY`` overrides are looked up.
        offline: nothing is received or sent, so group, queue and the default file may be missing.

    Raises ConfigError with every fault that was found.
    """
    return traced(path, environ, offline=offline)[0]


def traced(
    path: Path | None, environ: Mapping[str, str], *, offline: bool = False
) -> tuple[Config, dict[str, str], dict[str, str]]:
    """The same, with where each key that is set was set (a file, or a variable in words), and each job declared."""
    reading = _Reading(str(path or DEFAULT_PATH))
    reading.read_environment(environ)
    source = reading.read_file(path, offline=offline)
    config = reading.config(offline=offline)
    jobs = reading.jobs
    jobs.read_folder((path or DEFAULT_PATH).parent / FOLDER)
    if not reading.faulty & {"run.user", "run.allowed_users", "run.min_nice"}:
        for fault in jobs.refused(config.run):
            reading.fault(*fault)
    if reading.faults:
        raise ConfigError(dict.fromkeys(reading.faults))
    return replace(config, jobs=dict(sorted(jobs.jobs.items())), source=source), reading.origins, jobs.origins


@dataclass(slots=True)
class _Reading:
    """One reading in progress: values by key path, where each came from, and the faults so far."""

    file: str
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)
    jobs: DeclaredJobs = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = DeclaredJobs(self.fault)

    def fault(self, origin: str, key: str, text: str) -> None:
        line = ": ".join(part for part in (origin, key, text) if part)
        # One fault is one line on a terminal, whatever a quoted key or value holds.
        shown = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
        self.faults.append("".join(shown))
        self.faulty.add(key)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for variable, text in environ.items():
            if not variable.startswith(PREFIX) or "__" not in variable:
                continue  # CRON_RUNNER_JOB and its like belong to the jobs
            key = VARIABLES.get(variable)
            if key is None:
                self.fault("environment", "", _unknown_variable(variable))
                continue
            origin = f"environment variable {variable}"
            try:
                value = key.setting.kind.decode(text)
            except ValueError as error:
                self.fault(origin, key.path, str(error))
            else:
                self._take(key, value, origin)

    def read_file(self, path: Path | None, *, offline: bool) -> Path | None:
        """Take the file's tables; returns the file, or None where only the environment is used."""
        file = path or DEFAULT_PATH
        try:
            content = read_toml(file)
        except Unreadable as error:
            self.fault(error.origin, "", str(error))
            raise ConfigError(self.faults) from None
        except FileNotFoundError:
            given = self.values.keys() | self.faulty
            if path is None and (offline or ("group" in given and {"queue.url", "queue.name"} & given)):
                return None
            self.fault(self.file, "", _missing_file(default=path is None))
            raise ConfigError(self.faults) from None
        if "jobs" in content:
            self.jobs.read_tables(content.pop("jobs"), self.file)
        self._read_section(content, "")
        return file.absolute()

    def _read_section(self, table: Mapping[str, object], section: str) -> None:
        for name, value in table.items():
            path = f"{section}.{name}" if section else name
            if path in KEYS:
                # The environment was read first, and wins.
                if path not in self.values and path not in self.faulty:
                    self._take(KEYS[path], value, self.file)
            elif path not in SECTIONS:
                self.fault(self.file, path, _unknown_key(section, name))
            elif isinstance(value, Mapping):
                self._read_section(value, path)
            else:
                self.fault(self.file, path, str(expected(f"a table: [{path}]", value)))

    def _take(self, key: Key, value: object, origin: str) -> None:
        try:
            parsed = key.setting.kind.parse(value)
            if key.path in CHECKS:
                CHECKS[key.path](parsed)
        except ValueError as error:
            self.fault(origin, key.path, str(error))
        else:
            self.values[key.path] = parsed
            self.origins[key.path] = origin

    def config(self, *, offline: bool) -> Config:
        """The configuration without declared jobs.

        A key with a fault has its default here, and is not faulted again.
        """
        config: Config = self._build(Config, "")
        for path, text in across(config, offline=offline):
            if not _alternatives(path) & self.faulty:
                self.fault(self.origins.get(path, self.file), path, text)
        if not config.group and offline:
            return replace(config, group=OFFLINE_GROUP)
        return config

    def _build(self, section_class: Any, section: str) -> Any:
        values: dict[str, Any] = {}
        for entry in fields(section_class):
            path = f"{section}.{key_name(entry.name)}" if section else entry.name
            if path in SECTIONS:
                values[entry.name] = self._build(entry.default_factory, path)
            elif path in self.values:
                values[entry.name] = self.values[path]
        return section_class(**values)


def _alternatives(path: str) -> set[str]:
    """The keys that say the same thing as this one: a queue has a URL or a name."""
    section, _, name = path.rpartition(".")
    return {path, f"{section}.url", f"{section}.name"} if name in ("url", "name") else {path}


def _missing_file(*, default: bool) -> str:
    if default:
        return (
            "no such file; copy config.example.toml there and set group and queue,"
            " name another file with --config, or set CRON_RUNNER__GROUP and CRON_RUNNER_QUEUE__URL"
        )
    return "no such file; give --config a file that exists, or start one from config.example.toml"


def _unknown_key(section: str, name: str) -> str:
    elsewhere = [key for key in KEYS.values() if key.name == name]
    known = [key.name for key in KEYS.values() if key.section == section]
    below = f"{section}." if section else ""
    known += [path.removeprefix(below) for path in SECTIONS if path and path.rpartition(".")[0] == section]
    if len(elsewhere) != 1:
        near = nearest(name, known)
        return f'unknown key, did you mean "{near}"?' if near else f"unknown key; known here: {', '.join(known)}"
    if not elsewhere[0].section:
        return f'unknown key in [{section}]: "{name}" belongs at the top of the file, before the first [table]'
    return f'unknown key here: "{name}" belongs to [{elsewhere[0].section}]'


def _unknown_variable(variable: str) -> str:
    if variable.startswith(f"{PREFIX}JOBS__"):
        return f"{variable}: a job cannot be declared by a variable; put a file into {FOLDER}"
    return unknown("variable", variable, list(VARIABLES))
