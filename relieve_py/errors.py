"""Every error of relieve_py, on the ground floor so that any module may raise one.

::

    RelieveError
    +-- StartError (RuntimeError)         a child could not be made ready
    +-- NotRunning (RuntimeError)         the work needs a running task
    |   +-- Stopped                       ... and this one was stopped, or is stopping
    +-- AlreadyRunning (RuntimeError)     the task runs already
    +-- TaskDied (RuntimeError)           the child died while it ran the call
    |   +-- LimitExceeded                 ... because it used more than its limits allow
    +-- CallTimeout (TimeoutError)        the call passed its deadline
    +-- CallCancelled (CancelledError)    the call was cancelled
    +-- MethodNotFound (AttributeError)   the child exports no such name
    +-- WorkerFull (RuntimeError)         no room for another call
    +-- PoisonCall (RuntimeError)         the call has killed too many children
    +-- NotRepeatable (RuntimeError)      a retry was due, and a stream among the arguments was read in part
    +-- RetriesExhausted (RuntimeError)   every try failed
    +-- EncodeError (ValueError)          an object cannot be sent
    +-- DecodeError (ValueError)          what arrived cannot be rebuilt
    +-- ProtocolError                     the other side broke the protocol
    +-- StrategyError (RuntimeError)      a strategy raised, or chose a task that cannot take the call
    +-- CalledFromHandler (RuntimeError)  a signal handler interrupted relieve_py, and calls it
    +-- RemoteTraceback                   the text that is the cause of what came from a child
    +-- RemoteError                       an exception of the child that could not be rebuilt

Each survives pickling with its attributes.
"""

from __future__ import annotations

import copy
from concurrent.futures import CancelledError
from typing import Any


class RelieveError(Exception):
    """Base of every error that relieve_py raises on its own account."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def copy_of(error: RelieveError) -> RelieveError:
    """Another of the same content, for another who waits: each raise adds its own traceback to what it raises."""
    again: RelieveError = copy.copy(error)
    again.__cause__ = error.__cause__
    return again


def _rebuild(cls: type[RelieveError], args: tuple[Any, ...], state: dict[str, Any]) -> RelieveError:
    """Make an error again without running its ``__init__`` (whose parameters are not its ``args``)."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    if "__notes__" in state:
        error.__dict__["__notes__"] = list(state["__notes__"])  # add_note() to one is not said of the other
    return error


class StartError(RelieveError, RuntimeError):
    """Raised when a child could not be made ready: its script, ``start()`` or a container failed, or time ran out.

    ``task`` is the task's name. The exception of the child, where there was one, is the cause.
    """

    def __init__(self, message: str, *, task: str = "") -> None:
        super().__init__(message)
        self.task = task


class NotRunning(RelieveError, RuntimeError):
    """Raised when work is given to a task that is not running and will not start by itself.

    ``task`` is the task's name.
    """

    def __init__(self, message: str, *, task: str = "") -> None:
        super().__init__(message)
        self.task = task


class Stopped(NotRunning):
    """Raised when work is given to a task or worker that was stopped or is stopping."""


class AlreadyRunning(RelieveError, RuntimeError):
    """Raised when something that only works before a start is asked of a running task. ``task`` is its name."""

    def __init__(self, message: str, *, task: str = "") -> None:
        super().__init__(message)
        self.task = task


class TaskDied(RelieveError, RuntimeError):
    """Raised when the child died while it ran the call.

    Attributes: ``task`` (name), ``pid``, ``exit_code`` (None if killed by a signal or unknown), ``signal``
    (its name such as ``"SIGKILL"``, or None), ``uptime`` (seconds), ``restarts`` (of the task so far), ``call_id``,
    ``method``; ``stderr`` (the last lines, at most 50, that the child's Python code wrote to ``sys.stderr``),
    ``stdout`` (of its standard output, when the option ``output`` is used),
    ``stacks`` (of its threads, as ``faulthandler`` writes them, when it crashed or was asked for them before it was
    killed; or None), ``out_of_memory`` (True when the kernel's out-of-memory killer ended it). The last of ``stderr``
    and of ``stacks`` are also notes of the error, so that a traceback shows them.
    """

    def __init__(
        self,
        message: str,
        *,
        task: str = "",
        pid: int | None = None,
        exit_code: int | None = None,
        signal: str | None = None,
        uptime: float = 0.0,
        restarts: int = 0,
        call_id: int | None = None,
        method: str | None = None,
        stdout: tuple[str, ...] = (),
        stderr: tuple[str, ...] = (),
        stacks: str | None = None,
        out_of_memory: bool = False,
    ) -> None:
        super().__init__(message)
        self.task = task
        self.pid = pid
        self.exit_code = exit_code
        self.signal = signal
        self.uptime = uptime
        self.restarts = restarts
        self.call_id = call_id
        self.method = method
        self.stdout = stdout
        self.stderr = stderr
        self.stacks = stacks
        self.out_of_memory = out_of_memory


class LimitExceeded(TaskDied):
    """Raised when the child was killed over the call because it used more than its ``Limits`` allow.

    Attributes beside those of TaskDied: ``limit`` (``"rss"`` or ``"cpu_seconds"``), ``allowed`` (bytes or seconds).
    """

    def __init__(self, message: str, *, limit: str = "", allowed: float | None = None, **of_the_death: Any) -> None:
        super().__init__(message, **of_the_death)
        self.limit = limit
        self.allowed = allowed


class CallTimeout(RelieveError, TimeoutError):
    """Raised when a call passed its deadline.

    Attributes: ``task`` (name), ``call_id``, ``method``, ``timeout`` (seconds), ``stacks`` (of all threads of the child
    at that time, as ``faulthandler`` writes them; None when it could not be asked, did not answer, or never had the
    call). The stack of the child's main thread is also a note of the error, so that a traceback shows it.
    """

    def __init__(
        self,
        message: str,
        *,
        task: str = "",
        call_id: int | None = None,
        method: str | None = None,
        timeout: float | None = None,
        stacks: str | None = None,
    ) -> None:
        super().__init__(message)
        self.task = task
        self.call_id = call_id
        self.method = method
        self.timeout = timeout
        self.stacks = stacks


class CallCancelled(RelieveError, CancelledError):
    """Raised when the result of a cancelled call is asked for. ``call_id``, ``method``."""

    def __init__(self, message: str, *, call_id: int | None = None, method: str | None = None) -> None:
        super().__init__(message)
        self.call_id = call_id
        self.method = method


class MethodNotFound(RelieveError, AttributeError):
    """Raised when the child exports no such name. ``asked`` is the name, ``available`` what there is."""

    def __init__(self, message: str, *, asked: str | None = None, available: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.asked = asked
        self.available = available


class WorkerFull(RelieveError, RuntimeError):
    """Raised when a worker holds ``max_pending`` calls already. ``worker``, ``max_pending``."""

    def __init__(self, message: str, *, worker: str = "", max_pending: int | None = None) -> None:
        super().__init__(message)
        self.worker = worker
        self.max_pending = max_pending


class PoisonCall(RelieveError, RuntimeError):
    """Raised when a call has killed as many children as one call may. ``deaths``, ``call_id``, ``method``.

    The last ``TaskDied`` is its cause.
    """

    def __init__(self, message: str, *, deaths: int = 0, call_id: int | None = None, method: str | None = None) -> None:
        super().__init__(message)
        self.deaths = deaths
        self.call_id = call_id
        self.method = method


class NotRepeatable(RelieveError, RuntimeError):
    """Raised when a call would be tried again, but had read of a stream among its arguments. ``call_id``, ``method``.

    What it had read cannot be produced again. The failure that asked for another try is its cause.
    """

    def __init__(self, message: str, *, call_id: int | None = None, method: str | None = None) -> None:
        super().__init__(message)
        self.call_id = call_id
        self.method = method


class RetriesExhausted(RelieveError, RuntimeError):
    """Raised when every try of a call failed. ``causes`` holds the error of each try, oldest first."""

    def __init__(
        self,
        message: str,
        *,
        causes: tuple[BaseException, ...] = (),
        call_id: int | None = None,
        method: str | None = None,
    ) -> None:
        super().__init__(message)
        self.causes = causes
        self.call_id = call_id
        self.method = method


class EncodeError(RelieveError, ValueError):
    """Raised when an object cannot be sent. ``path`` names the part that cannot, such as ``args[0].lock``."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class DecodeError(RelieveError, ValueError):
    """Raised when what arrived cannot be rebuilt here. What went wrong is its cause."""


class ProtocolError(RelieveError):
    """Raised when the other side of a channel broke the protocol: a wrong version, size or kind of frame."""


class CalledFromHandler(RelieveError, RuntimeError):
    """Raised when a signal handler calls relieve_py, or waits for it, where it has interrupted relieve_py itself.

    To go on would be to wait for itself. Raise an exception in the handler, set a flag, or have another thread do it.
    """


class StrategyError(RelieveError, RuntimeError):
    """Raised when a strategy raised, or chose a task that cannot take the call. ``strategy`` is its name."""

    def __init__(self, message: str, *, strategy: str = "") -> None:
        super().__init__(message)
        self.strategy = strategy


class RemoteError(RelieveError):
    """Raised when an exception of the child could not be rebuilt here.

    Attributes: ``type`` (its full name), ``text`` (its message), ``traceback`` (as the child printed it).
    """

    def __init__(self, type: str, text: str, traceback: str = "") -> None:
        super().__init__(f"{type}: {text}" if text else type)
        self.type = type
        self.text = text
        self.traceback = traceback


class RemoteTraceback(RelieveError):
    """The child's traceback as text: the cause of every exception that came from a child."""

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'\n"""\n{self.traceback.rstrip()}\n"""'
