"""The output of one child, read on the I/O thread and passed on by a strand, so that nothing that takes it is waited
for."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from relieve_py.output import Output, OutputLine
from relieve_py.sinks import Sink, sink_for
from relieve_py.strands import Strand
from relieve_py.supervisor import Supervisor, Timer

CHUNK = 1 << 16
"""Bytes read at a time: what a pipe holds."""
MOST_AHEAD = 1 << 20
"""Bytes that were read and not yet passed on, at most. More: memory for a slow disk or log handler; less: a child that
prints in bursts waits for it."""
PATIENCE = 5.0
"""Seconds that a child may be kept waiting because nothing takes what it printed. Then it is left out, and that is
said: a log handler that hangs must not hang the child."""
LAST_WORDS = 1.0
"""Seconds that the news of a child's death may wait until what it printed is passed on."""
LONGEST_LINE = 1 << 16
"""Bytes after which a line without an end is passed on in parts."""
KEPT_LINES = 50
"""Lines of each stream that the record of a death carries."""
LONGEST_KEPT = 4096
"""Bytes of each of these."""


class Tail:
    """The last lines of a task's children, within a number of bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.RLock()  # owner: whoever touches the lines, also in a signal handler
        self._lines: deque[tuple[float, str, bytes]] = deque()
        self._size = 0

    def keep(self, stream: str, lines: list[bytes]) -> None:
        """The newest."""
        now = time.time()
        with self._lock:
            for line in lines[-self._most - 1 :]:
                self._lines.append((now, stream, line))
                self._size += len(line) + 1
            while self._size > self._most and self._lines:
                self._size -= len(self._lines.popleft()[2]) + 1

    def lines(self, task: str) -> tuple[OutputLine, ...]:
        """All that is kept, in the order it was read, as of a task of that name."""
        with self._lock:
            kept = list(self._lines)
        return tuple(
            OutputLine(task=task, stream=stream, text=line.decode("utf-8", "replace"), at=at)
            for at, stream, line in kept
        )


class _Stream:
    """One stream of the child: its pipe, and where its lines go."""

    def __init__(self, name: str, sink: Sink | None) -> None:
        self.name = name
        self.sink = sink
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.rest = b""
        self.last: deque[bytes] = deque(maxlen=KEPT_LINES)

    def split(self, data: bytes) -> list[bytes]:
        """The lines that have an end now."""
        *lines, self.rest = (self.rest + data).split(b"\n") if b"\n" in data else (self.rest + data,)
        if len(self.rest) > LONGEST_LINE:
            lines.append(self.rest)
            self.rest = b""
        return lines


class Outlet:
    """The pipes of one child. Made and used on the I/O thread, unless it is said otherwise."""

    def __init__(self, supervisor: Supervisor, output: Output, tail: Tail, task: str, script: str) -> None:
        self._supervisor = supervisor
        self._tail = tail
        self._strand = Strand()
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.Lock()  # owner: whoever changes the numbers below
        self._ahead = self._taken = self._left_out = 0
        self._paused = self._leaves_out = False
        self._open = self._closed = False
        self._finished: Callable[[], object] | None = None
        self._patience: Timer | None = None
        targets = output.targets
        shared = len(targets) == 2 and isinstance(output.to, str) and targets["stdout"] == targets["stderr"]
        try:
            for name, target in targets.items():
                if name == "stderr" and shared and output.to not in ("capture", "log"):
                    self._streams[name] = self._streams["stdout"]  # of one file, in the order it was printed
                else:
                    self._streams[name] = _Stream(name, sink_for(target, output, task, script))
        except BaseException:
            self.discard()
            raise

    def end_of(self, stream: str) -> int | None:
        """The descriptor that the child has to have for that stream; None: it inherits the parent's."""
        found = self._streams.get(stream)
        return found.write_end if found is not None else None

    def discard(self) -> None:
        """There will be no child."""
        self.hand_over()
        self.close()

    def hand_over(self) -> None:
        """The child has its ends, or there will be none: close the copies."""
        for stream in self._all():
            if stream.write_end >= 0:
                os.close(stream.write_end)
                stream.write_end = -1

    def _all(self) -> Iterator[_Stream]:
        return iter({id(stream): stream for stream in self._streams.values()}.values())

    # -- reading -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Read from now on."""
        self._open = True
        for stream in self._all():
            self._supervisor.watch(stream.read_end, lambda stream=stream: self._read(stream))  # type: ignore[misc]

    def _read(self, stream: _Stream) -> bool:
        """Read once; False when nothing is there."""
        if stream.read_end < 0:
            return False
        try:
            data = os.read(stream.read_end, CHUNK)
        except BlockingIOError:
            return False
        if not data:  # nobody has the other end any more
            self._stop_reading(stream)
            return False
        self._put(stream, data)
        return True

    def _put(self, stream: _Stream, data: bytes) -> None:
        with self._lock:
            if self._leaves_out:
                self._left_out += len(data)
                return
            self._ahead += len(data)
            pause = self._ahead >= MOST_AHEAD and not self._paused and self._open
            self._paused |= pause
            taken = self._taken
        self._strand.submit(self._pass_on, stream, data)
        if pause:
            self._read_on(False)
            self._supervisor.at(self._supervisor.now() + PATIENCE, self._look, taken)

    def _read_on(self, yes: bool) -> None:
        for stream in self._all():
            if stream.read_end >= 0 and self._open:
                self._supervisor.interest(stream.read_end, yes, False)

    def _look(self, taken: int) -> None:
        """The child has waited for some time: if nothing was taken meanwhile, do without."""
        with self._lock:
            if not self._paused:
                return
            now_taken = self._taken
            self._leaves_out = taken == now_taken
        if self._leaves_out:
            self._read_on(True)
        else:
            self._supervisor.at(self._supervisor.now() + PATIENCE, self._look, now_taken)

    def _resume(self) -> None:
        with self._lock:
            left_out, self._left_out = self._left_out, 0
            self._paused = self._leaves_out = False
        self._read_on(True)
        if left_out:
            self._put(next(self._all()), _note(left_out) + b"\n")

    def _stop_reading(self, stream: _Stream) -> None:
        if stream.read_end >= 0:
            if self._open:
                self._supervisor.unwatch(stream.read_end)
            os.close(stream.read_end)
            stream.read_end = -1

    # -- passing on: on the strand -----------------------------------------------------------------

    def _pass_on(self, stream: _Stream, data: bytes) -> None:
        try:
            self._deliver(stream, stream.split(data))
        finally:
            with self._lock:
                self._ahead -= len(data)
                self._taken += len(data)
                resume = self._paused and self._ahead <= MOST_AHEAD // 2
            if resume:
                self._supervisor.post(self._resume)

    def _deliver(self, stream: _Stream, lines: list[bytes]) -> None:
        if lines:
            self._tail.keep(stream.name, lines)
            stream.last.extend(line[:LONGEST_KEPT] for line in lines[-KEPT_LINES:])
            if stream.sink is not None:
                stream.sink.take(stream.name, lines)

    def _end(self) -> None:
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            self._deliver(next(self._all()), [_note(left_out)])
        for stream in self._all():
            try:
                if stream.rest:
                    self._deliver(stream, [stream.rest])
                    stream.rest = b""
            finally:
                if stream.sink is not None:
                    stream.sink.close()
                    stream.sink = None
        self._supervisor.post(self._tell_finished)

    # -- the end -----------------------------------------------------------------------------------

    def finish(self, finished: Callable[[], object]) -> None:
        """The child was reaped: read what it had still printed, and call ``finished`` on the I/O thread when that is
        passed on, or in a moment."""
        self._finished = finished
        self._patience = self._supervisor.at(self._supervisor.now() + LAST_WORDS, self._tell_finished)
        self.close()

    def _tell_finished(self) -> None:
        finished, self._finished = self._finished, None
        if self._patience is not None:
            self._patience.cancel()
        if finished is not None:
            finished()

    def close(self) -> None:
        """Read no more than what is there."""
        for stream in self._all():
            for _ in range(MOST_AHEAD // CHUNK):  # ends, whatever a process that the child has left behind prints
                if not self._read(stream):
                    break
            self._stop_reading(stream)
        if not self._closed:
            self._closed = True
            self._strand.submit(self._end)

    def last_lines(self, stream: str) -> tuple[str, ...] | None:
        """The last that the child printed there; None when that is not known here. Once it is finished."""
        found = self._streams.get(stream)
        if found is None or found.name != stream or found is self._streams.get("stderr" if stream == "stdout" else ""):
            return None
        return tuple(line.decode("utf-8", "replace").rstrip("\r") for line in list(found.last))

    def forget(self) -> None:
        """In a process that was just forked: close the copies."""
        for stream in self._all():
            for fd in (stream.read_end, stream.write_end):
                if fd >= 0:
                    os.close(fd)
            stream.read_end = stream.write_end = -1
        self._closed = True


def _note(left_out: int) -> bytes:
    return b"relieve_py: %d bytes of output were left out here, which nothing took in time" % left_out
