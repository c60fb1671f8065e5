"""How every child of one task is made."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from relieve_py.birth import Cradle
from relieve_py.child.boot import Plan, boot_frame
from relieve_py.launchers.base import Launcher
from relieve_py.serializers import Payload
from relieve_py.surroundings import Surroundings
from relieve_py.wire import Frame


@attrs.frozen
class Recipe:
    """What does not change from one child to the next."""

    launcher: Launcher
    plan: Plan
    """What the child has to load and to run."""
    objects: Callable[[], Payload]
    """Gives the user's objects for the child. Raises EncodeError."""
    surroundings: Surroundings
    """What each child is put into."""

    def first_frame(self) -> Frame:
        """What a child is told first. Raises EncodeError, and OSError when a descriptor in it was closed."""
        return boot_frame(self.plan, self.objects())

    def cradle(self) -> Cradle:
        """What the next child will share with its parent. Raises OSError."""
        cradle: Cradle = getattr(self.launcher, "cradle", Cradle)(self.plan.name, self.surroundings)
        return cradle
