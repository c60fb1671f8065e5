"""Imports what does not exist."""

import relieve_py_does_not_exist  # noqa: F401
