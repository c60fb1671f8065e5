"""The built-in strategies, on fake tasks: what each one chooses, and that none keeps a removed task."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relieve_py import strategies
from relieve_py.strategies import (
    BUILT_IN,
    Candidates,
    FewestSockets,
    Filtered,
    IdleFirst,
    LeastRecentlyUsed,
    LowestRSS,
    Nobody,
    Random,
    RoundRobin,
    Sticky,
    Strategy,
    TwoChoices,
    Weighted,
)


@attrs.define(eq=False)
class FakeTask:
    name: str
    load: int = 0
    pid: int | None = None


@attrs.frozen
class FakeCall:
    key: Any = None
    method: str | None = None
    id: int = 0


CALL = FakeCall()


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def joined(strategy: Strategy, tasks: Iterable[FakeTask]) -> tuple[FakeTask, ...]:
    """The tasks, after they have joined the strategy's worker."""
    tasks = tuple(tasks)
    for task in tasks:
        strategy.push(task)
    return tasks


def named(names: str, **values: Any) -> list[FakeTask]:
    return [FakeTask(name, **values) for name in names]


def chosen(strategy: Strategy, tasks: tuple[FakeTask, ...], times: int) -> str:
    return "".join(strategy.next(tasks, CALL).name for _ in range(times))


# -- what is true of all ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", BUILT_IN)
def test_every_strategy_chooses_one_of_the_candidates_whatever_they_are(cls: type[Strategy]) -> None:
    strategy = cls()
    members = joined(strategy, (FakeTask(str(n), pid=os.getpid()) for n in range(7)))
    rng = random.Random(1)
    for n in range(300):
        candidates = tuple(sorted(rng.sample(members, rng.randint(1, 7)), key=members.index))
        call = FakeCall(key=rng.choice([None, "a", n]), id=n)
        task = strategy.next(candidates, call)
        assert any(task is candidate for candidate in candidates)
        strategy.start(task, call)
        task.load += 1
        if rng.random() < 0.7:
            strategy.end(task, call)
            task.load -= 1


@pytest.mark.parametrize("cls", BUILT_IN)
def test_nothing_is_kept_of_a_removed_task_even_if_its_calls_end_later(
    cls: type[Strategy],
) -> None:
    strategy = cls()
    members = joined(strategy, named("abcd", pid=os.getpid()))
    for n in range(50):
        strategy.next(members, FakeCall(key=n))
    for task in members:
        strategy.start(task, CALL)
        strategy.remove(task)
        strategy.end(task, CALL)
    kept = [value for value in vars(strategy).values() if isinstance(value, (dict, list, set))]
    assert not any(kept)
    seen = [weakref.ref(task) for task in members]
    del members, task
    gc.collect()
    assert [ref() for ref in seen] == [None] * 4


@pytest.mark.parametrize("cls", BUILT_IN)
def test_a_task_that_is_not_known_can_be_removed(cls: type[Strategy]) -> None:
    cls().remove(FakeTask("stranger"))


@pytest.mark.parametrize("cls", BUILT_IN)
def test_a_built_in_is_trusted_and_its_subclass_is_not(cls: type[Strategy]) -> None:
    assert cls.trusted
    assert cls().trusted
    assert not type("Mine", (cls,), {})().trusted
    assert type("Sure", (cls,), {"trusted": True})().trusted


def test_only_sticky_has_calls_wait_for_a_busy_task() -> None:
    assert [cls for cls in BUILT_IN if cls.waits] == [Sticky]


def test_the_names_are_the_documented_ones() -> None:
    documented = (
        "round-robin weighted least-recently-used idle-first lowest-rss fewest-sockets sticky random two-choices"
    )
    assert [cls.name for cls in BUILT_IN] == documented.split()


def test_a_strategy_without_next_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="next"):
        type("Lazy", (Strategy,), {})()


def test_the_module_imports_nothing_else_of_relieve_py() -> None:
    code = "import sys, relieve_py.strategies; print(*(m for m in sys.modules if m.startswith('relieve_py')))"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert {name.split(".")[1] for name in output.split() if "." in name} <= {"errors", "strategies"}


# -- RoundRobin ---------------------------------------------------------------------------------------------


@pytest.mark.feature(77)
def test_round_robin_goes_around_in_order_of_membership() -> None:
    strategy = RoundRobin()
    tasks = joined(strategy, named("abc"))
    assert chosen(strategy, tasks, 7) == "abcabca"


@pytest.mark.feature(77)
def test_round_robin_lets_a_task_that_was_busy_have_its_turn_first() -> None:
    strategy = RoundRobin()
    a, b, c = joined(strategy, named("abc"))
    assert chosen(strategy, (a, b, c), 1) == "a"
    assert chosen(strategy, (a, c), 3) == "cac"
    assert chosen(strategy, (a, b, c), 4) == "bacb"


@pytest.mark.feature(77)
def test_round_robin_starves_nobody_who_is_a_candidate_only_when_just_passed() -> None:
    strategy = RoundRobin()
    a, b, c = joined(strategy, named("abc"))
    counts = Counter("".join(chosen(strategy, (a, b, c), 1) + chosen(strategy, (a, c), 1) for _ in range(30)))
    assert counts["b"] == 15, "every other time that it could be chosen"


@pytest.mark.feature(77)
def test_round_robin_puts_a_newcomer_at_the_end_of_the_line() -> None:
    strategy = RoundRobin()
    a, b = joined(strategy, named("ab"))
    assert chosen(strategy, (a, b), 1) == "a"
    (c,) = joined(strategy, named("c"))
    assert chosen(strategy, (a, b, c), 4) == "bacb"


@pytest.mark.feature(77)
def test_round_robin_goes_on_around_the_others_when_one_is_removed() -> None:
    strategy = RoundRobin()
    a, b, c = joined(strategy, named("abc"))
    assert chosen(strategy, (a, b, c), 2) == "ab"
    strategy.remove(b)
    assert chosen(strategy, (a, c), 4) == "caca"


@pytest.mark.feature(77)
@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=60))
def test_round_robin_always_takes_the_candidate_chosen_longest_ago(rounds: list[set[int]]) -> None:
    strategy = RoundRobin()
    members = joined(strategy, named("abcdef"))
    line = list(members)  # the plain model: who was chosen goes to the end
    for indices in rounds:
        candidates = tuple(members[index] for index in sorted(indices))
        task = strategy.next(candidates, CALL)
        assert task is next(member for member in line if member in candidates)
        line.remove(task)
        line.append(task)


# -- Weighted, LeastRecentlyUsed, IdleFirst -----------------------------------------------------------------


@pytest.mark.feature(76)
def test_weighted_takes_the_task_with_the_least_calls_waiting_and_running() -> None:
    strategy = Weighted()
    tasks = joined(strategy, [FakeTask("a", load=3), FakeTask("b", load=1), FakeTask("c", load=2)])
    assert chosen(strategy, tasks, 3) == "bbb"
    tasks[1].load = 4
    assert chosen(strategy, tasks, 1) == "c"


@pytest.mark.feature(76)
def test_weighted_goes_around_among_equals() -> None:
    strategy = Weighted()
    tasks = joined(strategy, named("abc"))
    assert chosen(strategy, tasks, 6) == "abcabc"


@pytest.mark.feature(76)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 200))
def test_weighted_levels_loads_before_it_raises_the_highest(loads: list[int], calls: int) -> None:
    strategy = Weighted()
    tasks = joined(strategy, [FakeTask(str(n), load=load) for n, load in enumerate(loads)])
    for _ in range(calls):
        strategy.next(tasks, CALL).load += 1
    level = min(task.load for task in tasks)
    assert all(task.load <= max(before, level + 1) for task, before in zip(tasks, loads, strict=True))


@pytest.mark.feature(78)
def test_least_recently_used_prefers_the_task_whose_last_call_ended_longest_ago() -> None:
    strategy = LeastRecentlyUsed()
    a, b, c = joined(strategy, named("abc"))
    for task in (a, b, c):
        strategy.start(task, CALL)
    for task in (c, a, b):
        strategy.end(task, CALL)
    assert chosen(strategy, (a, b, c), 4) == "cabc"


@pytest.mark.feature(78)
def test_least_recently_used_counts_calls_that_it_did_not_choose() -> None:
    strategy = LeastRecentlyUsed()
    a, b = joined(strategy, named("ab"))
    strategy.start(a, CALL)
    strategy.end(a, CALL)
    assert chosen(strategy, (a, b), 1) == "b"


@pytest.mark.feature(78)
def test_least_recently_used_does_not_choose_twice_who_has_not_begun_yet() -> None:
    strategy = LeastRecentlyUsed()
    tasks = joined(strategy, named("ab"))
    assert chosen(strategy, tasks, 2) == "ab"


@pytest.mark.feature(79)
@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ((0, 0, 0), "a"),
        ((1, 0, 0), "b"),
        ((1, 2, 0), "c"),
        ((0, 2, 0), "a"),
        ((3, 2, 2), "b"),
        ((1, 1, 1), "a"),
    ],
)
def test_idle_first_takes_the_first_idle_task_and_else_the_least_loaded(loads: tuple[int, ...], expected: str) -> None:
    strategy = IdleFirst()
    tasks = joined(strategy, [FakeTask(name, load=load) for name, load in zip("abc", loads, strict=True)])
    assert chosen(strategy, tasks, 2) == expected * 2


# -- LowestRSS ----------------------------------------------------------------------------------------------


class Memory:
    """The memory of fake children, and how often each was measured."""

    def __init__(self, **sizes: float) -> None:
        self.sizes = {int(pid[1:]): size for pid, size in sizes.items()}
        self.asked: Counter[int] = Counter()

    def __call__(self, pid: int) -> float:
        self.asked[pid] += 1
        return self.sizes[pid]


@pytest.mark.feature(80)
def test_lowest_rss_takes_the_child_with_the_least_memory() -> None:
    strategy = LowestRSS(rss=Memory(p1=300, p2=100, p3=200), clock=Clock())
    tasks = joined(strategy, [FakeTask("a", pid=1), FakeTask("b", pid=2), FakeTask("c", pid=3)])
    assert chosen(strategy, tasks, 2) == "bb"


@pytest.mark.feature(80)
def test_lowest_rss_measures_a_child_at_most_once_an_interval() -> None:
    clock, memory = Clock(), Memory(p1=1, p2=2)
    strategy = LowestRSS(rss=memory, clock=clock, interval=0.5)
    tasks = joined(strategy, [FakeTask("a", pid=1), FakeTask("b", pid=2)])
    chosen(strategy, tasks, 100)
    memory.sizes[1] = 3
    clock.now += 0.4
    assert chosen(strategy, tasks, 1) == "a"
    assert memory.asked == {1: 1, 2: 1}
    clock.now += 0.2
    assert chosen(strategy, tasks, 1) == "b"
    assert memory.asked == {1: 2, 2: 2}


@pytest.mark.feature(80)
def test_lowest_rss_measures_the_new_child_of_a_restarted_task_at_once() -> None:
    memory = Memory(p1=5, p2=2, p7=1)
    strategy = LowestRSS(rss=memory, clock=Clock())
    a, b = joined(strategy, [FakeTask("a", pid=1), FakeTask("b", pid=2)])
    assert chosen(strategy, (a, b), 1) == "b"
    a.pid = 7
    assert chosen(strategy, (a, b), 1) == "a"


@pytest.mark.feature(80)
def test_lowest_rss_parts_equals_by_load() -> None:
    strategy = LowestRSS(rss=Memory(p1=1, p2=1), clock=Clock())
    tasks = joined(strategy, [FakeTask("a", load=2, pid=1), FakeTask("b", load=1, pid=2)])
    assert chosen(strategy, tasks, 1) == "b"


@pytest.mark.feature(80)
def test_lowest_rss_takes_last_a_task_without_a_child_that_can_be_measured() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    strategy = LowestRSS()
    none, dead, alive = tasks = (
        FakeTask("none"),
        FakeTask("dead", pid=gone.pid),
        FakeTask("alive", load=9, pid=os.getpid()),
    )
    joined(strategy, tasks)
    assert strategy.next(tasks, CALL) is alive
    assert strategy.next((none, dead), CALL) is none


@pytest.mark.feature(80)
def test_lowest_rss_sees_the_memory_of_real_processes() -> None:
    code = "import sys; kept = b'x' * int(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for size in (80_000_000, 1)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        strategy = LowestRSS()
        big, small = tasks = tuple(FakeTask(str(child.pid), pid=child.pid) for child in children)
        joined(strategy, tasks)
        assert strategy.next((big, small), CALL) is small
        assert strategies.resident_set(children[0].pid) > 80_000_000
    finally:
        for child in children:
            child.communicate("")


@pytest.mark.parametrize("options", [{"rss": lambda pid: 0.0}, {"clock": lambda: 0.0}])
def test_lowest_rss_is_not_trusted_with_a_function_of_the_user(options: dict[str, Any]) -> None:
    assert not LowestRSS(**options).trusted


# -- Sticky -------------------------------------------------------------------------------------------------

keys = st.one_of(st.text(), st.integers(), st.floats(), st.tuples(st.text(), st.integers()), st.binary())
names = st.lists(st.text(min_size=1), min_size=1, max_size=12, unique=True)


def places(strategy: Sticky, tasks: Sequence[FakeTask], of: Iterable[Any]) -> dict[Any, str]:
    return {key: strategy.next(tasks, FakeCall(key=key)).name for key in of}


def kept_up(tasks: Iterable[FakeTask]) -> Candidates[FakeTask]:
    candidates: Candidates[FakeTask] = Candidates(lambda task: True)
    for place, task in enumerate(tasks):
        candidates.look(task, place)
    return candidates


@pytest.mark.feature(84)
@given(names=names, keys=st.lists(keys, unique=True, max_size=30))
def test_sticky_gives_a_key_the_same_task_whatever_the_loads(names: list[str], keys: list[Any]) -> None:
    strategy = Sticky()
    tasks = joined(strategy, map(FakeTask, names))
    before = places(strategy, tasks, keys)
    for load, task in enumerate(tasks):
        task.load = load * 7 % 5
    assert places(strategy, tasks, keys) == before
    assert places(strategy, tasks[::-1], keys) == before, "the order of the candidates means nothing"


@pytest.mark.feature(84)
@given(names=names, newcomer=st.text(min_size=1), keys=st.lists(keys, unique=True, max_size=30))
def test_sticky_moves_keys_only_to_a_task_that_joins_and_only_from_one_that_leaves(
    names: list[str], newcomer: str, keys: list[Any]
) -> None:
    strategy = Sticky()
    few = joined(strategy, (FakeTask(name) for name in names if name != newcomer))
    many = few + joined(strategy, [FakeTask(newcomer)])
    large = places(strategy, many, keys)
    if few:
        small = places(strategy, few, keys)
        assert all(large[key] in (small[key], newcomer) for key in keys)
    strategy.remove(many[-1])
    strategy.push(many[-1])
    assert places(strategy, many, keys) == large, "a task that comes back has its keys again"


@pytest.mark.feature(84)
@pytest.mark.parametrize(
    ("size", "key_of"),
    [
        (2, str),
        (5, int),
        (16, int),
        (16, str),
        (16, lambda n: n * 2**40),
        (5, lambda n: ("user", n)),
        (16, lambda n: n / 7),
    ],
    ids=["2-texts", "5-integers", "integers", "texts", "large integers", "5-tuples", "fractions"],
)
def test_sticky_spreads_keys_evenly_and_moves_one_in_n_when_a_task_joins(
    size: int, key_of: Callable[[int], Any]
) -> None:
    strategy = Sticky()
    tasks = joined(strategy, (FakeTask(f"task-{n}") for n in range(size)))
    count = 4000
    before = places(strategy, kept_up(tasks), map(key_of, range(count)))
    shares = Counter(before.values())
    # The hash of a text, and of a tuple with one, is another in each run: the share of one of 16 tasks, some 250 keys,
    # varies by 6 % (one standard deviation).
    assert all(0.6 < shares[task.name] * size / count < 1.4 for task in tasks), shares
    more = tasks + joined(strategy, [FakeTask(f"task-{size}")])
    after = places(strategy, kept_up(more), before)
    moved = sum(before[key] != after[key] for key in before)
    assert 0.6 < moved * (size + 1) / count < 1.4


@pytest.mark.feature(84)
def test_sticky_treats_equal_keys_as_one() -> None:
    class Folded(str):
        """Text that is equal to itself in any case."""

        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return isinstance(other, str) and self.lower() == other.lower()

        def __hash__(self) -> int:
            return hash(self.lower())

    strategy = Sticky()
    tasks = joined(strategy, (FakeTask(str(n)) for n in range(100)))
    for one, other in [(1, 1.0), (1, True), (Folded("Key"), Folded("kEY")), ((1, "a"), (1.0, "a"))]:
        assert places(strategy, tasks, [one])[one] == places(strategy, tasks, [other])[other]


@pytest.mark.feature(84)
def test_sticky_gives_texts_and_numbers_the_same_task_in_every_run() -> None:
    code = (
        "from types import SimpleNamespace as N; from relieve_py.strategies import Sticky; s = Sticky()\n"
        "tasks = [N(name=f'task-{n}', load=0) for n in range(9)]\n"
        "print([s.next(tasks, N(key=key)).name for key in ['a', 'b', '', 'ü', 7, 2.5, -1, *range(20)]])"
    )
    runs = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, text=True)
        for seed in ("1", "2")
    }
    assert len(runs) == 1


@pytest.mark.feature(84)
def test_sticky_gives_a_call_without_a_key_to_the_least_loaded() -> None:
    strategy = Sticky()
    tasks = joined(strategy, [FakeTask("a", load=2), FakeTask("b", load=1), FakeTask("c", load=2)])
    assert chosen(strategy, tasks, 2) == "bb"


# -- Random -------------------------------------------------------------------------------------------------


def test_random_chooses_all_about_equally_often() -> None:
    strategy = Random(seed=3)
    counts = Counter(chosen(strategy, tuple(named("abcd")), 4000))
    assert all(850 < counts[name] < 1150 for name in "abcd")


def test_random_repeats_itself_with_the_same_seed_only() -> None:
    tasks = tuple(named("abcd"))
    assert chosen(Random(seed=5), tasks, 50) == chosen(Random(seed=5), tasks, 50)
    assert chosen(Random(seed=5), tasks, 50) != chosen(Random(seed=6), tasks, 50)


# -- TwoChoices, Filtered -----------------------------------------------------------------------------------


def test_two_choices_takes_the_less_loaded_of_two_and_repeats_itself_with_the_same_seed() -> None:
    tasks = joined(TwoChoices(), [FakeTask("a", load=9), FakeTask("b"), FakeTask("c", load=1)])
    counts = Counter(chosen(TwoChoices(seed=1), tasks, 9000))
    shares = {"b": 5 / 9, "c": 3 / 9, "a": 1 / 9}
    assert all(abs(counts[name] / 9000 - share) < 0.03 for name, share in shares.items())
    assert chosen(TwoChoices(seed=5), tasks, 50) == chosen(TwoChoices(seed=5), tasks, 50)


def test_two_choices_levels_loads_better_than_chance() -> None:
    def longest(strategy: Strategy) -> int:
        tasks = joined(strategy, (FakeTask(str(n)) for n in range(100)))
        for _ in range(1000):
            strategy.next(tasks, CALL).load += 1
        return max(task.load for task in tasks)

    assert longest(TwoChoices(seed=1)) <= 13 < longest(Random(seed=1))


@pytest.mark.feature(85)
def test_filtered_lets_another_strategy_choose_among_those_that_are_admitted() -> None:
    strategy = Filtered(lambda task, call: task.name in call.key, RoundRobin())
    tasks = joined(strategy, named("abc"))
    assert [strategy.next(tasks, FakeCall(key="ac")).name for _ in range(4)] == ["a", "c", "a", "c"]
    with pytest.raises(LookupError, match="admitted"):
        strategy.next(tasks, FakeCall(key="x"))


@pytest.mark.parametrize("wrong", [("admits",), (print, "weighted")])
def test_filtered_refuses_what_it_cannot_use(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="admits" if len(wrong) == 1 else "strategy"):
        Filtered(*wrong)


# -- candidates that are kept up ----------------------------------------------------------------------------


class Pool:
    """Tasks with room for two calls each, and a strategy, as a worker keeps them."""

    def __init__(self, strategy: Strategy, size: int) -> None:
        self.strategy, self.asked = strategy, 0
        self.tasks = joined(strategy, (FakeTask(f"t{n}", pid=n + 1) for n in range(size)))
        self.candidates: Candidates[FakeTask] = Candidates(self.takes)
        self.places = {task.name: place for place, task in enumerate(self.tasks)}
        self.open = set(self.places)
        for task in self.tasks:
            self.look(task)

    def takes(self, task: FakeTask) -> bool:
        self.asked += 1
        return task.name in self.open and (self.strategy.waits or task.load < 2)

    def look(self, task: FakeTask) -> None:
        self.candidates.look(task, self.places[task.name])

    def end(self, task: FakeTask) -> None:
        task.load -= 1
        self.strategy.end(task, CALL)
        self.look(task)


ACTS = ("call", "call", "end", "shut", "open")


def indexed(cls: type[Strategy]) -> Strategy:
    measures: dict[type[Strategy], Callable[[], Strategy]] = {
        LowestRSS: lambda: LowestRSS(rss=lambda pid: pid * 7 % 5),
        FewestSockets: lambda: FewestSockets(sockets=lambda pid: pid * 7 % 5),
        Random: lambda: Random(seed=2),
        TwoChoices: lambda: TwoChoices(seed=2),
    }
    return measures.get(cls, cls)()


@pytest.mark.parametrize("cls", BUILT_IN)
@settings(max_examples=40)
@given(
    acts=st.lists(st.tuples(st.sampled_from(["call", "call", "end", "shut", "open"]), st.integers(0, 5)), max_size=40)
)
def test_a_choice_of_candidates_that_are_kept_up_is_the_one_of_looking_at_all(
    cls: type[Strategy], acts: list[tuple[str, int]]
) -> None:
    kept, seen = Pool(indexed(cls), 6), Pool(indexed(cls), 6)
    if cls in (LowestRSS, FewestSockets):
        for pool in (kept, seen):
            pool.strategy.next(pool.tasks, CALL)  # all are measured
    for what, n in acts:
        if what == "call":
            there = seen.candidates.ordered()
            assert bool(kept.candidates) == bool(there)
            if there:
                call = FakeCall(key=n if cls is Sticky else None)
                task, other = kept.strategy.next(kept.candidates, call), seen.strategy.next(there, call)
                assert task.name == other.name or cls in (Random, TwoChoices)
                assert kept.takes(task)
                for pool, of_it in ((kept, task), (seen, seen.tasks[kept.tasks.index(task)])):
                    pool.strategy.start(of_it, call)
                    of_it.load += 1
        else:
            for pool in (kept, seen):
                task = pool.tasks[n]
                if what == "end" and task.load:
                    pool.end(task)
                elif what == "shut":
                    pool.open.discard(task.name)  # nobody says so
                elif what == "open":
                    pool.open.add(task.name)
                    pool.look(task)
    assert kept.candidates.ordered() == tuple(task for task in kept.tasks if kept.takes(task))


@pytest.mark.parametrize("cls", BUILT_IN)
def test_a_choice_among_ten_thousand_looks_at_a_few(cls: type[Strategy]) -> None:
    pool = Pool(indexed(cls), 10_000)
    for _ in range(700 if cls in (LowestRSS, FewestSockets) else 10):
        pool.strategy.next(pool.candidates, FakeCall(key=1)).load += 1
    pool.asked, most = 0, 0
    for n in range(200):
        before = pool.asked
        task = pool.strategy.next(pool.candidates, FakeCall(key=n))
        pool.strategy.start(task, CALL)
        task.load += 1
        most = max(most, pool.asked - before)
    assert most <= 64
    assert pool.asked < 200 * 30


def test_who_has_left_is_not_kept_by_the_candidates() -> None:
    pool = Pool(Weighted(), 3)
    pool.strategy.next(pool.candidates, CALL)
    gone = weakref.ref(pool.tasks[0])
    pool.candidates.discard(pool.tasks[0])
    pool.tasks = pool.tasks[1:]
    gc.collect()
    assert gone() is None
    with pytest.raises(Nobody):
        Pool(Weighted(), 0).candidates.lowest(lambda task: 0)
    with pytest.raises(Nobody):
        Pool(Weighted(), 0).candidates.draw(lambda below: 0)
