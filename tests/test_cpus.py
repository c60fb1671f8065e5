"""The kernel's texts on control groups are read right, and the processors that they leave a program are counted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from relieve_py import CallableTask, cpus, usable_cpus
from relieve_py.cgroups import directories_of, group_of
from relieve_py.cpus import THREAD_VARIABLES, least_quota

KITCHEN = str(Path(__file__).parent / "scripts" / "kitchen.py")
V2 = "0::/user.slice/user-1000.slice/session.scope\n"
V1 = "9:name=systemd:/\n4:memory:/jobs/7\n3:cpu,cpuacct:/\n0::/\n"
MOUNTS = r"""
23 1 8:1 / / rw - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/uni\040fied rw,relatime - cgroup2 cgroup2 rw,nsdelegate
""".strip()


@pytest.mark.parametrize(
    ("text", "group"),
    [
        (V2, (2, "/user.slice/user-1000.slice/session.scope")),
        (V1, (1, "/jobs/7")),
        ("5:hugetlb,memory:/both\n0::/x\n", (1, "/both")),
        ("0::/with:colon\n", (2, "/with:colon")),
        ("1:name=systemd:/\n", None),
        ("", None),
    ],
)
def test_the_group_that_counts_memory(text: str, group: tuple[int, str] | None) -> None:
    assert group_of(text, "memory") == group


@pytest.mark.parametrize(
    ("version", "path", "mounts", "folder"),
    [
        (1, "/jobs/7", MOUNTS, "/sys/fs/cgroup/memory/jobs/7"),
        (2, "/user.slice", MOUNTS, "/sys/fs/cgroup/uni fied/user.slice"),
        (2, "/", MOUNTS, "/sys/fs/cgroup/uni fied"),
        (2, "/docker/12/sub", "1 2 0:1 /docker/12 /sys/fs/cgroup ro - cgroup2 cgroup rw", "/sys/fs/cgroup/sub"),
        (2, "/docker/12", "1 2 0:1 /docker/12 /sys/fs/cgroup ro - cgroup2 cgroup rw", "/sys/fs/cgroup"),
        (2, "/docker/123", "1 2 0:1 /docker/12 /sys/fs/cgroup ro - cgroup2 cgroup rw", None),
        (1, "/", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", None),
        (2, "/", "", None),
    ],
)
def test_where_its_files_are(version: int, path: str, mounts: str, folder: str | None) -> None:
    assert directories_of(version, path, mounts, "memory")[:1] == ([folder] if folder else [])


def test_the_groups_around_it() -> None:
    assert directories_of(1, "/a/b", MOUNTS, "cpu") == [
        "/sys/fs/cgroup/cpu/a/b",
        "/sys/fs/cgroup/cpu/a",
        "/sys/fs/cgroup/cpu",
    ]


def folders(tmp_path: Path, version: int, *limits: tuple[str, str]) -> list[str]:
    """Directories of groups with those quotas and periods."""
    made = []
    for number, (quota, period) in enumerate(limits):
        folder = tmp_path / str(number)
        folder.mkdir()
        if version == 2:
            (folder / "cpu.max").write_text(f"{quota} {period}\n")
        else:
            (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
        made.append(str(folder))
    return made


@pytest.mark.parametrize(
    ("version", "limits", "least"),
    [
        (2, [("max", "100000")], None),
        (2, [("max", "100000"), ("150000", "100000"), ("400000", "100000")], 1.5),
        (1, [("-1", "100000")], None),
        (1, [("-1", "100000"), ("50000", "100000"), ("200000", "100000")], 0.5),
        (1, [], None),
        (2, [("", "")], None),
    ],
)
def test_the_least_quota_of_all_groups_counts(
    tmp_path: Path, version: int, limits: list[tuple[str, str]], least: float | None
) -> None:
    assert least_quota(version, [str(tmp_path / "none"), *folders(tmp_path, version, *limits)]) == least


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (1.5, 2), (2.0, 2), (64.0, 8)])
def test_affinity_and_quota_limit_it(monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int) -> None:
    monkeypatch.setattr(cpus, "_scheduled", lambda: 8)
    monkeypatch.setattr(cpus, "_quota", lambda: quota)
    monkeypatch.setattr(sys, "platform", "linux")
    assert usable_cpus() == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this platform has no affinity")
def test_affinity_is_respected() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("launcher", ["forkserver", "spawn", "fork"])
def test_threads_of_libraries_are_limited_before_the_child_starts(
    launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in THREAD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    with CallableTask(KITCHEN, launcher=launcher, threads=2, env={"OMP_NUM_THREADS": "5"}) as task:
        found = {name: task.get("env", name).result(20) for name in THREAD_VARIABLES}
    assert found.pop("OMP_NUM_THREADS") == "5", "the task's own env wins"
    assert found.pop("MKL_NUM_THREADS") == "7", "the user's environment wins"
    assert set(found.values()) == {"2"}
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_without_the_option_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in THREAD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    with CallableTask(KITCHEN) as task:
        assert set({name: task.get("env", name).result(20) for name in THREAD_VARIABLES}.values()) == {None}
