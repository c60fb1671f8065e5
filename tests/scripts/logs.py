"""Logs in every way there is."""

import logging
import os
import threading


def talk():
    log = logging.getLogger("app.db")
    log.debug("too small")
    log.info("hello %s", "there", extra={"user": 7, "odd": {1}})
    try:
        raise ValueError("atishoo")
    except ValueError:
        log.exception("sneezed")
    threading.Thread(target=log.warning, args=("from a thread",), name="aside").start()
    logging.getLogger("other").warning("last")
    return os.getpid()


def own_handler():
    """A handler of the script's own gets its records, too; a process that it forks sends none."""
    mine = []
    handler = logging.Handler()
    handler.emit = lambda record: mine.append(record.getMessage())
    logging.root.addHandler(handler)
    logging.getLogger("app").warning("for both")
    pid = os.fork()
    if pid == 0:
        logging.root.removeHandler(handler)
        logging.lastResort = None
        logging.getLogger("app").warning("from a fork")
        os._exit(0)
    os.waitpid(pid, 0)
    logging.getLogger("app").warning("end")
    return len(mine), mine[0]
