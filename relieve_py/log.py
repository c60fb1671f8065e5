"""Where this library logs: the logger ``relieve_py``, with handlers and filters that may raise.

They are the user's. The standard ones tell of their own failures and raise nothing; of one that does, this tells in the
same way, since what was about to be done after a log record still has to be done.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import Any

from relieve_py.interruptions import raised_by_handler


class _Logger(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log, and raise nothing but what a signal handler raises meanwhile."""
        if not self.logger.isEnabledFor(level):
            return
        try:
            self.logger.log(level, msg, *args, stacklevel=2, **kwargs)
        except BaseException as error:
            if threading.current_thread() is threading.main_thread() and not isinstance(error, Exception):
                raise
            if raised_by_handler(error):
                raise
            _tell_of(error)


def _tell_of(error: BaseException) -> None:
    """As ``logging.Handler.handleError`` does."""
    if logging.raiseExceptions and sys.stderr:
        try:
            sys.stderr.write("--- Logging error ---\n")
            traceback.print_exception(error)
        except (OSError, ValueError):  # there is nobody to tell
            return


logger = _Logger(logging.getLogger("relieve_py"), {})
