"""Containers: they run inside the child before it is ready."""

import os

ran = []


def setup(ipc):
    ran.append("setup")
    ipc.send("contained", ipc.name)


def plain():
    os.environ["CONTAINED"] = "yes"


def broken():
    raise RuntimeError("this container is broken")
