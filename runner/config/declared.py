"""Declared jobs: the tables ``[jobs.NAME]`` of the configuration, and the files of ``jobs.d`` beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.config.kinds import expected
from runner.config.toml import Unreadable, denied, read_toml
from runner.protocol.message import Declaration, InvalidMessage, parse_declaration

if TYPE_CHECKING:
    from pathlib import Path

    from runner.config.sections import Run

FOLDER = "jobs.d"


@dataclass(slots=True)
class DeclaredJobs:
    """Collects declarations; every fault goes to ``fault(origin, key, text)`` and the reading goes on."""

    fault: Callable[[str, str, str], None]
    jobs: dict[str, Declaration] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def read_tables(self, tables: object, origin: str) -> None:
        """Take the value of ``jobs`` in one file: a table of tables."""
        if not isinstance(tables, Mapping):
            self.fault(origin, "jobs", str(expected("tables such as [jobs.NAME]", tables)))
            return
        for name, table in tables.items():
            if not isinstance(table, Mapping):
                self.fault(origin, f"jobs.{name}", str(expected("a table of the job's fields", table)))
            elif table.get("job", name) != name:
                self.fault(origin, f"jobs.{name}.job", "differs from the table's name: take it out")
            else:
                self._declare(name, table, origin, f"jobs.{name}")

    def read_folder(self, folder: Path) -> None:
        """Take every ``*.toml`` of a folder, by name; a folder that is not there holds none."""
        try:
            files = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.fault(str(folder), "", f"cannot list the folder: {error.strerror}; {denied(folder)}")
            return
        for file in files:
            # Editors and package managers leave hidden files beside the real ones.
            if file.suffix == ".toml" and not file.name.startswith("."):
                self._read_file(file)

    def _read_file(self, file: Path) -> None:
        try:
            content = read_toml(file)
        except Unreadable as error:
            self.fault(error.origin, "", str(error))
            return
        if "jobs" not in content:
            # The file is one job: the fields of a message, under the name of its `job` field or of the file.
            name = content.get("job", file.stem)
            if isinstance(name, str):
                self._declare(name, content, str(file), "")
            else:
                self.fault(str(file), "job", str(expected("a text in quotes", name)))
            return
        for other in content.keys() - {"jobs"}:
            self.fault(str(file), other, "stands beside [jobs.NAME]: a file holds either one job or such tables")
        self.read_tables(content["jobs"], str(file))

    def _declare(self, name: str, table: Mapping[str, object], origin: str, key: str) -> None:
        if name in self.origins:
            self.fault(origin, key, f'the job "{name}" is declared a second time, first in {self.origins[name]}')
            return
        self.origins[name] = origin
        fields = {field: value for field, value in table.items() if field != "job"}
        try:
            self.jobs[name] = parse_declaration(name, fields)
        except InvalidMessage as error:
            for text in error.faults:
                self.fault(origin, key, text)

    def refused(self, run: Run) -> Iterator[tuple[str, str, str]]:
        """Declared jobs whose user or nice this host does not allow: (origin, key, text)."""
        for name, declaration in self.jobs.items():
            nice = declaration.nice
            if nice is not None and nice < run.min_nice:
                yield (
                    self.origins[name],
                    f"jobs.{name}.nice",
                    f"{nice} is not allowed here: set min_nice of [run] to {nice}",
                )
            user = declaration.user
            if user and user != run.user and user not in run.allowed_users:
                yield (
                    self.origins[name],
                    f"jobs.{name}.user",
                    f'"{user}" is not allowed here: add it to allowed_users of [run]',
                )
