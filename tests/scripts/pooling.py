"""A child that has children of its own, by the same library."""

import os
import queue
import signal

from relieve_py import CallableTask, CloudWorker, TaskDied

DEADLINE = 20
_kept = []


def same(value):
    return value


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def pool(launcher, depth):
    """What a pool gives, what became of a call that killed its child, and whether those that were stopped had to be
    forced; that of a child of a child, if ``depth`` says so."""
    if depth > 1:
        with CallableTask(__file__, launcher=launcher) as task:
            return task.get("pool", launcher, depth - 1).result(DEADLINE)
    exits = queue.SimpleQueue()
    worker = CloudWorker(CallableTask(__file__, launcher=launcher), size=2)
    worker.on("exit", exits.put)
    with worker:
        total = sum(worker.map("same", range(100)))
        try:
            worker.get("die").result(DEADLINE)
        except TaskDied as error:
            died = error.signal
        exits.get(timeout=DEADLINE)
        assert worker.get("same", 1).result(DEADLINE) == 1
    return total, died, [exits.get(timeout=DEADLINE).forced for _ in range(2)]


def keep_pool(launcher):
    """The numbers of the processes of a pool that stays."""
    worker = CloudWorker(CallableTask(__file__, launcher=launcher), size=2)
    _kept.append(worker)
    worker.start().result(DEADLINE)
    return [task.pid for task in worker]
