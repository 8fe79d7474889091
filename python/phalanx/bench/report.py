"""What the user sees: the machine, the table, the raw numbers."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from .cases import CASES, Case
from .pair import Result

_NAME = max(len(case.name) for case in CASES)


def machine(states: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Where and with what the numbers were taken."""
    cores = str(os.cpu_count())
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
        cores = cores if usable == os.cpu_count() else f"{cores}, {usable} of them for us"
    gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    facts = {
        "cpu": _cpu(),
        "cores": cores,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}{'' if gil else ', without GIL'}",
        "phalanx": states["phalanx"]["phalanx_version"] or _installed_version(),
        "detector": os.environ.get("PHALANX_DEADLOCK") or "raise (the default)",
    }
    if hasattr(os, "getloadavg"):
        facts["load"] = f"{os.getloadavg()[0]:.2f} before the first sample"
    return facts


def _cpu() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _installed_version() -> str:
    try:
        return metadata.version("phalanx")
    except metadata.PackageNotFoundError:
        return "unknown"


def heading() -> str:
    """The line above the table."""
    columns = f"{'std us':>10}  {'phalanx us':>10}  {'ratio':>8}  {'min..max':>14}  {'best':>6}  {'target':>8}"
    return f"{'case':<{_NAME + 2}}{columns}"


def row(result: Result) -> str:
    """One line of the table."""
    case = result.case
    if result.failure is not None:
        return f"  {case.name:<{_NAME}}  {_first(result.failure)}"
    values = result.extra_ms if case.is_start else result.ratios
    score = f"{result.score:+.1f} ms" if case.is_start else f"{result.score:.2f}"
    best = "" if case.is_start else f"{result.best:.2f}"
    spread = f"{min(values):.2f}..{max(values):.2f}"
    closeness = result.closeness
    mark = "" if closeness is None else "  reached" if closeness >= 1 else "  short"
    return (
        f"  {case.name:<{_NAME}}{result.per_op(result.std):>10.3f}  {result.per_op(result.phalanx):>10.3f}"
        f"  {score:>8}  {spread:>14}  {best:>6}  {target(case):>8}{mark}"
    )


def target(case: Case) -> str:
    """The target as shown."""
    if case.target is None:
        return "-"
    return f"<= {case.target:g} ms" if case.is_start else f">= {case.target:g}"


def summary(results: list[Result]) -> str:
    """How many targets are reached, and what is missing, the furthest off first."""
    scores = [(result.closeness, result) for result in results]
    judged = sorted(((score, result.case.name) for score, result in scores if score is not None))
    lines = [f"  short   {name}, at {score:.0%} of the target" for score, name in judged if score < 1]
    reached = len(judged) - len(lines)
    lines += [f"  failed  {result.case.name}: {_first(result.failure)}" for result in results if result.failure]
    return "\n".join([f"{reached} of {len(judged)} targets reached", *lines])


def _first(text: str) -> str:
    return text.splitlines()[0]


def raw(result: Result) -> dict[str, Any]:
    """A result for the JSON file, with every sample."""
    measured = result.failure is None
    return {
        "case": result.case.name,
        "group": result.case.group,
        "target": result.case.target,
        "unit": "ms over bare" if result.case.is_start else "std/phalanx",
        "score": result.score if measured else None,
        "std_us": result.per_op(result.std) if measured else None,
        "phalanx_us": result.per_op(result.phalanx) if measured else None,
        "best": result.best if measured else None,
        "ops_per_sample": result.rounds * result.case.ops,
        "std_ns": result.std,
        "phalanx_ns": result.phalanx,
        "failure": result.failure,
        "source": result.case.source,
    }
