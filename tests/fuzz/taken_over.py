"""A child that somebody else has taken over: it speaks to the channel behind the back of its runtime."""

import os
import pickle

from relieve_py import ipc
from relieve_py.texts import pack
from relieve_py.wire import Frame, Kind


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def attack(way, path):
    """Send a pickle where it might be read."""
    bomb = pickle.dumps(Bomb(path))
    error = pack(["ValueError", "text", "Traceback"])
    number = ipc.request()._number
    frames = {
        "result": Frame(Kind.RESULT, number, bomb, [bomb]),
        "error": Frame(Kind.ERROR, number, error, [bomb]),
        "event": Frame(Kind.EVENT, 0, bomb, [bomb]),
        "question": Frame(Kind.EVENT, 7, bomb, [bomb]),
        "missing": Frame(Kind.MISSING, number, bomb, [bomb]),
        "item": Frame(Kind.ITEM, number, bomb, [bomb]),
    }
    ipc._runtime._channel.send(frames[way])
    return []


def fine():
    """Nothing happened."""
    return 1
