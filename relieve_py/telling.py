"""How one side tells the other of an error: type, text and traceback always arrive; the exception itself if it can."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from relieve_py.byvalue import MAINS
from relieve_py.serializers import Payload, Serializer
from relieve_py.texts import pack

CALL_OPTIONS = ("timeout", "queue_timeout", "retries", "poison_after", "key", "priority")
"""What is said of a call by ``options()``, and is easily taken for an argument of it."""


def error_payload(serializer: Serializer, error: BaseException) -> Payload:
    """Type, text and traceback as texts, and beside them the encoded exception, if it can be."""
    if type(error) is TypeError:
        _hint_at_options(error)
    told = pack(_told(error))
    if serializer.any_object and isinstance(error, Exception):
        try:
            payload = serializer.encode(error)
            whole = Payload(told, (payload.data, *payload.buffers))
            whole.check()
        except Exception:
            return Payload(told)
        if payload.descriptors is None:
            return whole
    return Payload(told)


def _told(error: BaseException) -> tuple[str, str, str]:
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ in ("builtins", *MAINS) else f"{cls.__module__}.{cls.__qualname__}"
    try:
        text = str(error)
    except Exception as broken:
        text = f"<its __str__ raised {type(broken).__name__}>"
    try:
        lines = "".join(traceback.format_exception(cls, error, user_traceback(error)))
    except Exception as broken:
        lines = f"<no traceback: {type(broken).__name__} while it was printed>"
    return name, text.encode("utf-8", "replace").decode(), lines.encode("utf-8", "replace").decode()


def _hint_at_options(error: TypeError) -> None:
    """Where the function took no argument of the name of an option."""
    place = user_traceback(error)
    if place is not error.__traceback__:  # raised by the user's code
        return
    for name in CALL_OPTIONS:
        if f"unexpected keyword argument '{name}'" in str(error):
            error.add_note(f"{name} is an option of the call: options({name}=...).get(...)")


def user_traceback(error: BaseException) -> TracebackType | None:
    """Where it was raised, from the user's first frame on; all of it when no frame is the user's."""
    here = os.path.dirname(os.path.abspath(__file__))
    place = error.__traceback__
    while place is not None and _is_ours(place.tb_frame.f_code.co_filename, here):
        place = place.tb_next
    return place if place is not None else error.__traceback__


def _is_ours(filename: str, here: str) -> bool:
    return filename.startswith((here, "<frozen importlib")) or os.sep + "asyncio" + os.sep in filename


def missing_payload(asked: str | None, names: tuple[str, ...]) -> Payload:
    """What was asked for (with a mark before it, so that nothing differs from an empty name), and what there is."""
    return Payload(pack(("" if asked is None else f"={asked}", *names)))
