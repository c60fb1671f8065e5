"""A plug-in of relieve_py: the strategy ``peak-ewma`` keeps calls away from children that have become slow.

The other strategies count calls. This one also measures them, so that a child that swaps, or shares its disk
with something greedy, gets less work before anything fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from relieve_py.hookspecs import hookimpl
from relieve_py_peak_ewma.strategy import PeakEwma

__all__ = ["PeakEwma"]


@hookimpl
def relieve_strategies() -> Mapping[str, Callable[[], Any]]:
    return {PeakEwma.name: PeakEwma}
