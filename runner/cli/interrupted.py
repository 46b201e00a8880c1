"""What an interrupt does until a command says otherwise: the process ends at once."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing is not imported before interrupts are heeded (start.py)
if TYPE_CHECKING:
    from typing import Final, NoReturn

INTERRUPTED: Final = 130


def leave_at_once(_number: int, _frame: object) -> NoReturn:
    """End here and now, as an interrupt's status says: 128 + SIGINT."""
    os._exit(INTERRUPTED)
