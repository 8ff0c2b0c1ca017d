"""``make bench``: what our API costs beside the bare engine, and what sharing a prefix saves.

Rounds alternate between the two sides, so that whatever else the machine does hits both; a figure is the median of the
rounds' ratios.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from statistics import median
from time import perf_counter

import psutil

from benchmarks.asking import Side
from benchmarks.report import Figure
from benchmarks.serving import bare_runner, half_b, server

# By streams at once. The ratios of single rounds spread by a tenth and more, and the machine's moods last for seconds:
# so it takes many short rounds rather than a few long ones.
ROUNDS = {1: 75, 8: 15}
TOKENS = {1: 24, 8: 64}
FIRSTS = 100
PREFIX = 56  # repetitions: about 1,000 tokens of the benchmark model


async def figures() -> list[Figure]:
    """All of them."""
    model = half_b()
    numbers = count()
    async with server(model, parallel=8) as ours, bare_runner(model, parallel=8) as socket:
        idle = psutil.Process(ours.pid).memory_info().rss
        through, direct = Side("ours", ours.url), Side("runner", "http://runner", socket)
        sides = (through, direct)
        for side in sides:
            await side.ask("warm up", 2)
        found = [
            Figure("server listening after start", ours.started, "s", "≤ 1", ours.started <= 1),
            Figure("gateway process, idle", idle / 2**20, "MiB", "≤ 90 MB", idle <= 90e6),
            await rates(sides, numbers, streams=1),
            await rates(sides, numbers, streams=8),
            await added_first(sides, numbers),
        ]
        for side in sides:
            await side.close()
    async with server(model, parallel=4) as ours:
        side = Side("ours", ours.url)
        await side.ask("warm up", 2)
        found += await shared_prefix(side, numbers)
        await side.close()
    return found


async def rates(sides: tuple[Side, Side], numbers: Iterator[int], *, streams: int) -> Figure:
    """Tokens per second through our API, over the runner's own."""
    ratios = []
    for number in range(ROUNDS[streams]):
        rate = {}
        for side in sides if number % 2 else reversed(sides):
            texts = [f"{next(numbers)} and on" for _ in range(streams)]
            rate[side.name] = await side.rate(texts, TOKENS[streams])
        ratios.append(rate["ours"] / rate["runner"])
    value = median(ratios)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    return Figure(f"tokens/s, {streams} streams, ours : runner", value, "", "≥ 0.97", value >= 0.97, spread)


async def added_first(sides: tuple[Side, Side], numbers: Iterator[int]) -> Figure:
    """Milliseconds until the first text that our API adds to the runner's own."""
    added = []
    for number in range(FIRSTS):
        first = {}
        for side in sides if number % 2 else reversed(sides):
            first[side.name] = (await side.ask(f"{next(numbers):06d} hello", 2)).first
        added.append(1000 * (first["ours"] - first["runner"]))
    value = median(added)
    return Figure("added time to first token, median", value, "ms", "≤ 3", value <= 3)


async def shared_prefix(side: Side, numbers: Iterator[int]) -> list[Figure]:
    """Four requests at once with the same new prefix of about 1,000 tokens, against one."""
    ratios, cached = [], []
    for _ in range(3):
        alone, group = (f"{next(numbers):06d} " + "lorem ipsum dolor sit amet " * PREFIX for _ in range(2))
        start = perf_counter()
        one = await side.ask(alone + " first question", 8)
        time_of_one = perf_counter() - start
        start = perf_counter()
        four = await asyncio.gather(*(side.ask(f"{group} question {place}", 8) for place in range(4)))
        ratios.append((perf_counter() - start) / time_of_one)
        cached.append(sorted(answer.cached for answer in four))
    value = median(ratios)
    told = f"cached of {one.prompt}: {cached}"
    shared = all(min(row) > 0.9 * one.prompt for row in cached)
    return [
        Figure("four with one new prefix : one", value, "", "≤ 1.5", value <= 1.5, told),
        Figure("all four from the cache", float(shared), "", "1", shared, told),
    ]
