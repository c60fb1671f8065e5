"""What the child serves: a shelf of texts, asked about from outside. Its public functions are what it exports."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from relieve_py import ipc

words: list[str] = []


def start(*paths: Path) -> None:
    """Runs once in each child, before the first call: the place for what is slow to set up."""
    for path in paths:
        words.extend(path.read_text(encoding="utf-8").lower().split())


def count(word: str) -> int:
    """How often that word occurs."""
    return words.count(word)


def longest(number: int) -> Iterator[str]:
    """The longest words, longest first, one by one."""
    yield from sorted(set(words), key=lambda word: (-len(word), word))[:number]


async def both(one: str, other: str) -> tuple[int, int]:
    """Async functions work too: the child brings its own event loop."""
    first, second = await asyncio.gather(asyncio.to_thread(count, one), asyncio.to_thread(count, other))
    return first, second


def index() -> None:
    """Something to be done rather than known; it tells how far it is."""
    by_letter = Counter(word[0] for word in words if word[0].isalpha())
    for letter in "aeiou":
        ipc.send("indexed", letter, by_letter[letter])
    ipc.send("done")


def share(word: str, of: str) -> float:
    """How often ``word`` occurs for each time that ``of`` does."""
    return count(word) / count(of)
