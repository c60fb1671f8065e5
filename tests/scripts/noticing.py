"""Has something to do before it is killed."""

import os
import signal
import threading
import time

from relieve_py import ipc


def arm(*texts):
    """Tell the parent each of these in the end; one that is empty raises."""
    for text in texts:

        def tell(text=text):
            if not text:
                raise SystemExit("not me")
            ipc.send("told", text)

        ipc.before_kill(tell)


def hang():
    ipc.send("hanging")
    while True:
        time.sleep(60)


def handled_before(path):
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(5))
    arm("first")


def fork_and_end_it():
    up, says_so = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(says_so, b"!")
        signal.pause()
    os.read(up, 1)
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def arm_in_a_thread():
    found = []

    def try_it():
        try:
            arm("never")
        except ValueError as error:
            found.append(str(error))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return found[0]
