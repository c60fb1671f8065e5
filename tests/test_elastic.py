"""Who is a member: elastic size, the decisions alone and a worker that follows them, and one task for another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from relieve_py import CallableTask, CloudWorker, ElasticSize, StartError, State, Worker
from relieve_py.elastic import Elasticity, size_of
from relieve_py.testing import Simulation

# -- what a user may say ---------------------------------------------------------------------------


def test_a_size_is_a_number_a_pair_or_a_record() -> None:
    assert size_of(3) == ElasticSize(3, 3)
    assert size_of((2, 5)) == ElasticSize(2, 5)
    assert size_of(ElasticSize(1, 2, grow_after=1.0)).grow_after == 1.0


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: size_of("3"), TypeError),
        (lambda: size_of(True), TypeError),
        (lambda: size_of(0), ValueError),
        (lambda: size_of((1, 2, 3)), ValueError),
        (lambda: size_of((0, 2)), ValueError),
        (lambda: size_of((3, 2)), ValueError),
        (lambda: size_of((1, 2.5)), TypeError),
        (lambda: size_of((True, 2)), TypeError),
        (lambda: ElasticSize(1, 2, grow_after=0), ValueError),
        (lambda: ElasticSize(1, 2, grow_after="soon"), TypeError),
        (lambda: ElasticSize(1, 2, shrink_after=-1), ValueError),
        (lambda: ElasticSize(1, 2, shrink_after=float("inf")), ValueError),
        (lambda: CloudWorker(CallableTask("any.py"), size=(1, 2), strategy="sticky"), ValueError),
        (lambda: CloudWorker(CallableTask("any.py"), size=2, strategy="sticky").resize((1, 2)), ValueError),
    ],
)
def test_a_wrong_size_is_refused_by_name(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^size"):
        make()


# -- decisions -------------------------------------------------------------------------------------


def elasticity(least: int = 1, most: int = 10) -> Elasticity:
    return Elasticity(ElasticSize(least, most, grow_after=1.0, shrink_after=10.0))


def test_it_grows_once_a_call_has_waited_long_enough() -> None:
    assert elasticity().grow(5.9, made_at=5.0, queued=1, tasks=1, coming=0) == (0, 6.0)
    assert elasticity().grow(6.0, made_at=5.0, queued=1, tasks=1, coming=0) == (1, 7.0)


def test_it_at_most_doubles_and_counts_what_is_on_its_way() -> None:
    def more(queued: int, tasks: int, coming: int) -> int:
        return elasticity().grow(9.0, made_at=0.0, queued=queued, tasks=tasks, coming=coming)[0]

    assert (more(100, 1, 0), more(100, 2, 0), more(100, 4, 0), more(100, 8, 0)) == (1, 2, 4, 2)
    assert (more(3, 4, 1), more(3, 4, 3), more(1, 4, 4)) == (2, 0, 0)


def test_at_its_largest_there_is_nothing_to_look_for() -> None:
    assert elasticity().grow(9.0, made_at=0.0, queued=5, tasks=10, coming=0) == (0, None)


def test_it_shrinks_to_what_was_needed_at_once_in_a_whole_period() -> None:
    made = elasticity()
    assert made.shrink(0.0, tasks=8, width=1, out=2) == (0, 10.0)
    made.out(3)
    made.out(1)
    assert made.shrink(9.9, tasks=8, width=1, out=0) == (0, 10.0)
    assert made.shrink(10.0, tasks=8, width=1, out=0) == (5, 20.0)
    assert made.shrink(20.0, tasks=3, width=1, out=0) == (2, None)
    assert made.shrink(21.0, tasks=1, width=1, out=0) == (0, None)


def test_it_keeps_its_size_while_calls_wait_and_counts_calls_by_what_a_task_can_have() -> None:
    made = elasticity()
    made.shrink(0.0, tasks=4, width=1, out=0)
    made.waits()
    assert made.shrink(10.0, tasks=4, width=1, out=0) == (0, 20.0)
    made.out(9)
    assert made.shrink(20.0, tasks=4, width=4, out=0) == (1, 30.0)


# -- a worker --------------------------------------------------------------------------------------


class Shop:
    """What the children export."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    async def nap(self, seconds: float) -> float:
        await self.sim.sleep(seconds)
        return seconds


@pytest.fixture(params=range(3))
def sim(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(request.param) as simulation:
        simulation.exports = Shop(simulation)
        yield simulation


def elastic(least: int = 1, most: int = 8, **options: Any) -> CloudWorker:
    size = ElasticSize(least, most, grow_after=1.0, shrink_after=10.0)
    return CloudWorker(CallableTask("any.py"), size=size, **options)


@pytest.mark.parametrize("strategy", ["round-robin", "weighted", "idle-first"])
def test_a_worker_grows_while_calls_wait_and_shrinks_when_not_all_are_needed(sim: Simulation, strategy: str) -> None:
    with elastic(strategy=strategy) as worker:
        replies = [worker.get("nap", 5.0) for _ in range(40)]
        sizes = []
        for _ in range(5):
            sizes.append(len(worker))
            sim.advance(1.001)
        assert sizes == [1, 2, 4, 8, 8]
        assert [reply.result() for reply in replies] == [5.0] * 40
        for _ in range(60):  # one call a second: one task can do that, and round-robin gives it to each in turn
            worker.get("nap", 0.5).result()
            sim.advance(0.5)
        assert len(worker) == 1
        assert len(sim.children) == 1


def test_running_work_is_never_ended(sim: Simulation) -> None:
    task = CallableTask("any.py", kill_timeout=1.0)
    with CloudWorker(task, size=ElasticSize(1, 4, grow_after=0.5, shrink_after=2.0)) as worker:
        long = [worker.get("nap", 100.0) for _ in range(3)]
        sim.advance(5.0)
        size = len(worker)
        direct = list(worker)[-1].get("nap", 100.0)  # not by way of the worker, which does not count it
        assert size >= 3
        assert [reply.result() for reply in (*long, direct)] == [100.0] * 4
        sim.advance(10.0)
        assert (len(worker), len(sim.children)) == (1, 1)


def test_a_resize_waits_for_what_the_leaving_tasks_run(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py", kill_timeout=1.0), size=3) as worker:
        replies = [worker.get("nap", 60.0) for _ in range(3)]
        sim.run()
        resized = worker.resize(1)
        sim.advance(30.0)
        assert not resized.done()
        assert [reply.result() for reply in replies] == [60.0] * 3
        assert resized.result() is worker
        assert len(sim.children) == 1


def test_a_stop_ends_also_what_was_let_go_and_still_runs(sim: Simulation) -> None:
    worker = CloudWorker(CallableTask("any.py", kill_timeout=1.0), size=3)
    replies = [worker.get("nap", 600.0) for _ in range(3)]
    sim.run()
    worker.resize(1).mark_seen()
    exits = worker.stop().result()
    assert (len(exits), sim.children) == (1, ())
    assert all(isinstance(reply.exception(), Exception) for reply in replies)
    assert sim.now < 100


def test_a_number_fixes_an_elastic_size_and_a_pair_frees_it(sim: Simulation) -> None:
    with elastic() as worker:
        worker.resize(2).result()
        replies = [worker.get("nap", 3.0) for _ in range(8)]
        sim.advance(5.0)
        assert len(worker) == 2
        worker.resize((3, 4)).result()
        assert len(worker) >= 3
        replies += [worker.get("nap", 3.0) for _ in range(20)]
        sim.advance(2.0)
        assert len(worker) == 4
        assert [reply.result() for reply in replies] == [3.0] * 28
        worker.resize(1).result()
        assert len(worker) == 1


def test_a_paused_or_stopped_worker_does_not_grow(sim: Simulation) -> None:
    worker = elastic()
    with worker:
        worker.pause()
        replies = [worker.get("nap", 1.0) for _ in range(8)]
        sim.advance(20.0)
        assert len(worker) == 1
        worker.resume()
        assert [reply.result() for reply in replies] == [1.0] * 8
        assert len(worker) > 1
    sim.advance(60.0)
    assert {task.state for task in worker} == {State.STOPPED}
    assert sim.children == ()


def test_a_task_that_cannot_start_is_no_reason_to_add_more_than_there_may_be(sim: Simulation) -> None:
    class Fails:
        children = 0

        def start(self) -> None:
            Fails.children += 1
            if Fails.children > 1:
                raise ValueError("no more")

        async def nap(self, seconds: float) -> float:
            await sim.sleep(seconds)
            return seconds

    sim.exports = Fails
    with elastic(most=3) as worker:
        replies = [worker.get("nap", 5.0) for _ in range(10)]
        assert [reply.result() for reply in replies] == [5.0] * 10
        assert Fails.children == 3
        sim.advance(30.0)
        assert len(worker) == 1
        assert next(iter(worker)).state is State.READY


def test_an_elastic_worker_that_nobody_has_any_more_is_stopped() -> None:
    with Simulation() as sim:
        sim.exports = Shop(sim)
        elastic().get("nap", 1.0).result()
        sim.advance(30.0)
        assert sim.children == ()


# -- one task in the place of another --------------------------------------------------------------


def test_a_task_takes_the_place_of_another_without_a_gap(sim: Simulation) -> None:
    old, other = CallableTask("any.py", name="old", kill_timeout=1.0), CallableTask("any.py", name="other")
    with CloudWorker(old, other) as worker:
        running = old.get("nap", 60.0)
        new = CallableTask("any.py", name="new")
        replaced = worker.replace("old", new)
        sim.run()
        assert (list(worker.tasks), new.state, replaced.done()) == (["new", "other"], State.READY, False)
        assert [worker.get("nap", 1.0).result() for _ in range(2)] == [1.0, 1.0]
        assert running.result() == 60.0
        assert replaced.result() is new
        assert old.state is State.STOPPED
        worker.resize(3).result()
    assert sim.children == ()


def test_a_successor_may_have_the_same_name(sim: Simulation) -> None:
    with Worker(CallableTask("any.py", name="web")) as worker:
        sim.run()
        heard: list[Any] = []
        worker.on("ready", heard.append)
        new = CallableTask("any.py", name="web")
        assert worker.replace("web", new).result() is new
        assert worker.task("web") is new
        sim.run()
        assert len(heard) == 1, "the worker hears the new one from its start on"


def test_a_successor_that_cannot_start_leaves_all_as_it_was(sim: Simulation) -> None:
    class Fails:
        def start(self) -> None:
            raise ValueError("no")

    with CloudWorker(CallableTask("any.py", name="old")) as worker:
        sim.exports = Fails
        new = CallableTask("any.py", name="new")
        with pytest.raises(StartError):
            worker.replace("old", new).result()
        assert list(worker.tasks) == ["old"]
        assert worker.get("nap", 1.0).result() == 1.0
        sim.run()
        assert (new.state, len(sim.children)) == (State.STOPPED, 1)


def test_who_left_meanwhile_has_no_successor(sim: Simulation) -> None:
    with CloudWorker(CallableTask("any.py", name="old"), CallableTask("any.py", name="other")) as worker:
        new = CallableTask("any.py", name="new")
        replaced = worker.replace("old", new)
        worker.remove("old").mark_seen()
        with pytest.raises(KeyError, match="left worker"):
            replaced.result()
        sim.run()
        assert list(worker.tasks) == ["other"]
        assert new.state is State.STOPPED


def test_a_task_that_does_not_run_is_followed_by_one_that_does_not_either(sim: Simulation) -> None:
    worker = CloudWorker(CallableTask("any.py", name="old"))
    new = CallableTask("any.py", name="new")
    assert worker.replace("old", new).result() is new
    assert (new.state, list(worker.tasks)) == (State.NEW, ["new"])
    assert worker.get("nap", 1.0).result() == 1.0
    worker.resize(2).result()
    assert all(task.name.startswith(("new", "any")) for task in worker)
    worker.stop().result()


def test_a_wrong_successor_is_refused_at_once(sim: Simulation) -> None:
    old, other = CallableTask("any.py", name="old"), CallableTask("any.py", name="other")
    worker = CloudWorker(old, other)
    for name, new, error in (
        ("none", CallableTask("any.py"), KeyError),
        ("old", CallableTask("any.py", name="other"), ValueError),
        ("old", old, ValueError),
        ("old", "new", TypeError),
        ("old", CallableTask("any.py", serializer="json"), ValueError),
    ):
        with pytest.raises(error):
            worker.replace(name, new)  # type: ignore[arg-type]
    assert list(worker.tasks) == ["old", "other"]
