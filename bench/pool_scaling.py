"""How the throughput of a pool scales with the size of its tasks and the number of its workers, as a plot.

    python bench/pool_scaling.py docs/pool_scaling.svg

Each point is the median of three maps with `chunksize=1` of tasks that are busy for so many microseconds. The dashed
line is the standard library's, with two workers. The figures are printed too.
"""

from __future__ import annotations

import math
import multiprocessing as std
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from phalanx import multiprocessing as ours

SIZES = (1, 10, 100, 1_000, 10_000)  # microseconds
WORKERS = (1, 2, 4, 8, 16, 32)
SPAN = 0.15  # seconds of work in one map
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 420, 70, 50, 40, 150
FONT = 'font-family="sans-serif" font-size="12"'
COLORS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#444444")


def busy(microseconds: int) -> None:
    """Work for so long, by the clock."""
    end = time.perf_counter() + microseconds * 1e-6
    while time.perf_counter() < end:
        pass


def throughput(library: Any, workers: int, size: int) -> float:
    """Tasks per second."""
    many = max(4 * workers, min(50_000, int(SPAN * 1e6 / size)))
    with library.get_context("fork").Pool(workers) as pool:
        pool.map(busy, [1] * 200, chunksize=1)
        took = []
        for _ in range(3):
            begin = time.perf_counter()
            pool.map(busy, [size] * many, chunksize=1)
            took.append(time.perf_counter() - begin)
    return many / statistics.median(took)


def plot(lines: dict[str, list[float]]) -> str:
    """An SVG with both axes logarithmic."""
    low, high = 1.0, 7.0  # tasks per second, powers of ten

    def x(size: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(size) / 4

    def y(rate: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (math.log10(rate) - low) / (high - low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20">Pool.map(chunksize=1): tasks per second, {os.cpu_count()} cores</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 10}">time that one task takes</text>',
    ]
    for power in range(int(low), int(high) + 1):
        at = y(10.0**power)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10**power:,}</text>')
    for size in SIZES:
        words = f"{size} us" if size < 1_000 else f"{size // 1_000} ms"
        out.append(f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{words}</text>')
    for n, (name, rates) in enumerate(lines.items()):
        points = " ".join(f"{x(size):.1f},{y(rate):.1f}" for size, rate in zip(SIZES, rates, strict=True))
        dash = ' stroke-dasharray="6 4"' if name.startswith("standard") else ""
        out.append(f'<polyline points="{points}" fill="none" stroke="{COLORS[n]}" stroke-width="2"{dash}/>')
        at = TOP + 20 * n + 10
        out.append(f'<line x1="{WIDTH - 140}" x2="{WIDTH - 115}" y1="{at}" y2="{at}" stroke="{COLORS[n]}"{dash}/>')
        out.append(f'<text x="{WIDTH - 110}" y="{at + 4}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def main() -> None:
    """Measure, print, draw."""
    lines = {f"{n} worker{'s' * (n > 1)}": [throughput(ours, n, size) for size in SIZES] for n in WORKERS}
    lines["standard, 2"] = [throughput(std, 2, size) for size in SIZES]
    print("tasks per second".ljust(18), *(f"{size} us".rjust(12) for size in SIZES))
    for name, rates in lines.items():
        print(name.ljust(18), *(f"{rate:,.0f}".rjust(12) for rate in rates))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(plot(lines))


if __name__ == "__main__":
    main()
