"""The script of the rehearsal: as small as a script can be."""


def nothing() -> None:
    """Return."""
