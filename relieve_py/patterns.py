"""Names of events and the patterns that match them: ``*`` stands for any text, and nothing else is special."""

from __future__ import annotations


def matches(pattern: str, name: str) -> bool:
    """True when ``pattern`` matches the whole ``name``, as ``job.*`` does ``job.done``."""
    if "*" not in pattern:
        return pattern == name
    first, *middle, last = pattern.split("*")
    if not (name.startswith(first) and name.endswith(last) and len(name) >= len(first) + len(last)):
        return False
    place, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, place, end)
        if found < 0:
            return False
        place = found + len(part)
    return True
