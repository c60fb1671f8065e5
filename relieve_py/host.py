"""A slot as its parts see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from relieve_py.guard import MemoryGuard
from relieve_py.instructions import Instruction
from relieve_py.lifecycle import Lifecycle

Deeds = list[Callable[[], object]]
"""What runs code of others, and so has to wait until the lock is free."""


class Host(Protocol):
    """Where decisions about one task are made and carried out."""

    life: Lifecycle
    guard: MemoryGuard | None

    def act(self, decide: Callable[[float], list[Instruction]]) -> None:
        """Decide under the lock, and do what was decided."""
        ...

    def carry_out(self, instructions: list[Instruction], after: Deeds) -> None:
        """Under the lock: do what was decided."""
        ...

    def do(self, after: Deeds) -> None:
        """Without the lock: the deeds that run code of others."""
        ...
