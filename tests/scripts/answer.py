"""A program that answers each question, and stays for more."""

from relieve_py import ipc


@ipc.on("question")
def answer(n):
    ipc.send("answer", n * 2)


ipc.send("argv", *ipc.argv)
