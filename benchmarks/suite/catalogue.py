"""All works by name, and what each figure is that they give."""

from __future__ import annotations

import attrs

from benchmarks.suite.works import Work, calls, children, echoes, scale

WORKS: dict[str, Work] = {work.name: work for module in (calls, echoes, children, scale) for work in module.WORKS}


@attrs.frozen(kw_only=True)
class Metric:
    """One figure, or a series of them."""

    title: str
    unit: str
    more: bool = False
    """True when more is better."""
    along: str = ""
    """Of a series: what grows."""


METRICS = {
    "trip": Metric(title="Round trip of a no-op, 1 child", unit="µs"),
    "trip on two": Metric(title="Round trip, parent and child on a processor each", unit="µs"),
    "trip on one": Metric(title="Round trip, parent and child on one processor", unit="µs"),
    "trip cpu": Metric(title="Parent's CPU for a round trip", unit="µs"),
    "trip child cpu": Metric(title="Child's CPU for a round trip", unit="µs"),
    "submits": Metric(title="20,000 single submits, 2 children", unit="calls/s", more=True),
    "submits cpu": Metric(title="Parent's CPU for a submitted call", unit="µs"),
    "map": Metric(title="map of 200,000 items, 2 children", unit="items/s", more=True),
    "map cpu": Metric(title="Parent's CPU for a mapped item", unit="µs"),
    "echo 64 KiB": Metric(title="Echo of 64 KiB of bytes", unit="ms"),
    "echo 1 MiB": Metric(title="Echo of 1 MiB of bytes", unit="ms"),
    "echo 64 MiB": Metric(title="Echo of 64 MiB of bytes", unit="ms"),
    "echo array": Metric(title="Echo of an array of 64 MiB", unit="ms"),
    "start 1": Metric(title="Warm start to the first result of 1 child", unit="ms"),
    "start 8": Metric(title="Warm start to a result of each of 8 children", unit="ms"),
    "kill": Metric(title="Next result after SIGKILL of an idle child", unit="ms"),
    "kill busy": Metric(title="Next result after SIGKILL of a child that runs a call", unit="ms"),
    "storm": Metric(title="A result of each of 8 after SIGKILL of all 8", unit="ms"),
    "memory of a child": Metric(title="Memory of an idle child (PSS), 8 children", unit="MB"),
    "wake-ups": Metric(title="Wake-ups of an idle pool of 8 in 10 s", unit=""),
    "memory of a call": Metric(title="Memory of a call that waits", unit="bytes"),
    "latency p50": Metric(title="Latency at 2,000 calls a second, p50", unit="ms"),
    "latency p99": Metric(title="Latency at 2,000 calls a second, p99", unit="ms"),
    "latency p99.9": Metric(title="Latency at 2,000 calls a second, p99.9", unit="ms"),
    "trip by tasks": Metric(title="Round trip among idle tasks", unit="µs", along="tasks"),
    "queued call": Metric(title="A call among calls that wait, 2 children", unit="µs", along="calls that wait"),
    "echo by size": Metric(title="Echo of bytes", unit="ms", along="bytes"),
    "calls under await": Metric(title="Calls under await, 2 children", unit="calls/s", more=True, along="coroutines"),
}


def metric_of(key: str) -> Metric:
    """The metric of a figure, or of a point of a series."""
    return METRICS[key.partition(" @ ")[0]]
