"""Modules that are loaded when something is first asked of them, and not when they are imported.

For libraries that import more than this program will ever use: what nobody asks of costs no memory and no time at the
start. It works for ``import a`` and ``from package import module``; ``from module import name`` asks at once, and so
does the second import of a module.

`importlib.util.LazyLoader` does the same, but before 3.11.9 it lets a second thread see a module that is half there.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

# One for all: a module's own code may ask for another that waits.
_lock = threading.RLock()
_loading: set[str] = set()


def defer(*names: str) -> None:
    """Let these modules wait from now on, where they are not loaded yet."""
    _finder.names.update(name for name in names if name not in sys.modules)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def is_waiting(name: str) -> bool:
    """Whether a module was imported and nothing has been asked of it yet."""
    return type(sys.modules.get(name)) is _Waiting


class _Finder:
    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        self.names.discard(fullname)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Later(spec.loader)  # type: ignore[assignment]
        return spec


_finder = _Finder()


class _Later:
    """Stands for a module's loader until the module is loaded."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self.loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None, "the import system has set it"
        spec.loader = module.__loader__ = self.loader
        module.__class__ = _Waiting


class _Waiting(ModuleType):
    """Loads itself when it is asked for anything."""

    def __getattribute__(self, name: str) -> Any:
        with _lock:
            # While it loads, this thread sees what is there already, and the others wait for the lock.
            if type(self) is _Waiting and (own := super().__getattribute__("__name__")) not in _loading:
                _loading.add(own)
                try:
                    super().__getattribute__("__loader__").exec_module(self)
                finally:
                    _loading.discard(own)
                self.__class__ = ModuleType  # type: ignore[assignment]
        return ModuleType.__getattribute__(self, name)
