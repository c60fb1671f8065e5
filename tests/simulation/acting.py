"""The code in simulated children of random histories: what it does is drawn anew for each call."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from relieve_py.calls import Mode
from relieve_py.child.calling import Interrupted
from relieve_py.serializers import Payload, PickleSerializer
from relieve_py.testing.children import Answer, Death, SimulatedChild, Wait
from relieve_py.texts import pack
from relieve_py.wire import Frame, Kind

if TYPE_CHECKING:
    from worlds import World

NAMES = Payload(pack(("work",)))
SERIALIZER = PickleSerializer()
NOTHING = SERIALIZER.encode(None)
ERROR = Payload(pack(("ValueError", "no", "")), (SERIALIZER.encode(ValueError("no")).data,))
EVENT = SERIALIZER.encode(("news", ()))

# What may happen in a call; the first is what happens when all is well, and what a failing history is shrunk to.
DEEDS = (
    *("returns",) * 9,
    *("raises",) * 2,
    *("dies", "exits", "sys.exit", "dies after the answer", "dies in the answer"),
    *("sleeps", "sleeps", "hangs", "is stubborn"),
    *("tells", "is busy", "stays busy", "wants another", "wants to leave", "writes garbage", "freezes", "hangs up"),
)
WISHES = {"stays busy": Kind.BUSY, "wants another": Kind.DRAIN, "wants to leave": Kind.RETIRE}
STARTS = (*("ready",) * 12, "slow", "fails", "exits", "dies", "hangs", "writes garbage", "sys.exit")


class Actor:
    """One child's code."""

    def __init__(self, world: World, child: SimulatedChild) -> None:
        self.world = world
        self.child = child
        self.garbled = False

    # -- the start ---------------------------------------------------------------------------------

    def start(self, boot: Frame) -> Generator[Wait, None, Payload]:
        yield None
        match self.world.draw(STARTS):
            case "slow":
                yield 1.0
            case "fails":
                raise ValueError("it cannot start")
            case "exits":
                raise Death(3, None)
            case "dies":
                raise Death(None, 11)
            case "sys.exit":
                raise SystemExit(4)
            case "hangs":
                yield lambda: self.world.calm
            case "writes garbage":
                self.garble()
        return NAMES

    def stop(self) -> Generator[Wait, None, None]:
        yield None

    def warned(self) -> None:
        """It has nothing to save."""

    def failure(self, error: BaseException) -> Payload:
        return ERROR

    def garble(self) -> None:
        self.garbled = True
        self.child.garble()

    # -- events ------------------------------------------------------------------------------------

    def told(self, frame: Frame) -> None:
        if frame.kind == Kind.EVENT:
            self.world.entry_of(frame).begins(self.child).answered = True

    # -- calls -------------------------------------------------------------------------------------

    def perform(self, frame: Frame) -> Generator[Wait, None, Answer]:
        entry = self.world.entry_of(frame)
        this = entry.begins(self.child)
        self.world.begins(entry)
        if entry.mode is Mode.CALL:
            self.child.send(Frame(Kind.ACCEPTED, frame.number))
        yield None
        deed = self.world.draw(DEEDS)
        if deed in WISHES and (deed != "stays busy" or self.world.busy_timeout is not None):  # else it is out for ever
            self.child.send(Frame(WISHES[deed]))
        try:
            yield from self._before(deed, frame)
        except Interrupted:
            this.answered = self._arrives
            raise
        if entry.mode is Mode.STREAM:
            yield from self._items(frame)
        this.answered = self._arrives and deed != "dies in the answer"
        if deed == "raises":
            entry.raised += 1
            return Kind.ERROR, ERROR
        if deed == "dies in the answer":  # half of a frame is no frame
            raise Death(None, 9)
        entry.returned += 1
        kind = Kind.RESULT if entry.mode is Mode.GET else Kind.END
        value = SERIALIZER.encode(entry.index)
        if deed == "dies after the answer":
            self.child.answer(frame.number, kind, value)
            raise Death(None, 9)
        return kind, value if kind is Kind.RESULT else None

    @property
    def _arrives(self) -> bool:
        """Whether the parent will know the answer: not by a channel that is out of order, but from memory."""
        return not self.garbled or self.child.bundled

    def _before(self, deed: str, frame: Frame) -> Generator[Wait, None, None]:
        match deed:
            case "dies":
                raise Death(None, 11)
            case "exits":
                raise Death(self.world.draw((0, 3)), None)
            case "sys.exit":
                raise SystemExit(3)
            case "sleeps":
                yield self.world.draw((0.1, 2.0, 20.0))
            case "hangs":
                yield lambda: self.world.calm
            case "is stubborn":
                yield from self._stubborn()
            case "tells":
                self.child.send(EVENT.to_frame(Kind.EVENT, 0))
            case "is busy":
                self.child.send(Frame(Kind.BUSY))
                try:
                    yield 1.0
                finally:
                    self.child.send(Frame(Kind.IDLE))
            case "writes garbage":
                self.garble()
            case "freezes":
                self.child.freeze()
                yield None
            case "hangs up":
                self.garbled = True
                self.child.hang_up()

    def _stubborn(self) -> Generator[Wait, None, None]:
        """Heed no interrupt."""
        while not self.world.calm:
            try:
                yield lambda: self.world.calm
            except Interrupted:
                continue

    def _items(self, frame: Frame) -> Generator[Wait, None, None]:
        for _ in range(self.world.draw((0, 1, 3, 40))):
            outflow = self.child.outflows[frame.number]
            while not outflow.has_room():
                yield outflow.has_room
            outflow.sent(len(NOTHING))
            self.child.send(NOTHING.to_frame(Kind.ITEM, frame.number))
            yield None
