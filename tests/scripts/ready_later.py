"""A program that is ready when it says so, after it has read the named pipe of its first argument."""

from relieve_py import ipc

ipc.send("before")
with open(ipc.argv[0]) as file:
    file.read()
ipc.ready()
