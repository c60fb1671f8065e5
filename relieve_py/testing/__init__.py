"""What users need to test their own programs against; every name is loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relieve_py.testing.chaos import Chaos as Chaos
    from relieve_py.testing.chaos import ChaosCounts as ChaosCounts
    from relieve_py.testing.children import SimulatedChild as SimulatedChild
    from relieve_py.testing.scheduler import Stuck as Stuck
    from relieve_py.testing.simulation import Simulation as Simulation

_HOMES = {
    "chaos": ("Chaos", "ChaosCounts"),
    "children": ("SimulatedChild",),
    "scheduler": ("Stuck",),
    "simulation": ("Simulation",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'relieve_py.testing' has no attribute {name!r}")
    value = getattr(import_module(f"relieve_py.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
