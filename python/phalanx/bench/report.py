"""What the user sees: the machine, the table, the raw numbers."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from .case import Case
from .cases import CASES
from .pair import Result
from .processes import RIVALS

_NAME = max(len(case.name) for case in CASES) + 1


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
        "phalanx": states["phalanx"]["phalanx_version"] or _version("phalanx"),
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


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def heading() -> str:
    """The line above the table."""
    columns = f"{'std us':>10}  {'phalanx us':>10}  {'ratio':>8}  {'min..max':>14}  {'best':>6}  {'target':>8}"
    return f"{'case':<{_NAME + 2}}{columns}"


def title(group: str) -> str:
    """The line above the cases of a group: its name, and what is different in its columns."""
    if group == "memory":
        return "memory, in thousands of bytes instead of us"
    if group in RIVALS:
        return f"{group} {_version(group)}, in the columns of std"
    return group


def row(result: Result) -> str:
    """One line of the table."""
    case = result.case
    if result.failure is not None:
        return f"  {case.name:<{_NAME}}  {_first(result.failure)}"
    if result.skipped is not None:
        return f"  {case.name:<{_NAME}}  skipped: {result.skipped}"
    values, digits, best = result.ratios, 2, ""
    match case.kind:
        case "start":
            values, score = result.extra_ms, f"{result.score:+.1f} ms"
        case "memory":
            values, score, digits = [sample / 1000 for sample in result.phalanx], f"{result.score:.1f} kB", 0
        case _:
            score, best = f"{result.score:.2f}", f"{result.best:.2f}"
    spread = f"{min(values):.{digits}f}..{max(values):.{digits}f}"
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
    match case.kind:
        case "start":
            return f"<= {case.target:g} ms"
        case "memory":
            return f"<= {case.target:g} kB"
        case "ratio":
            return f">= {case.target:g}"


def summary(results: list[Result]) -> str:
    """How many targets are reached, and what is missing, the furthest off first."""
    scores = [(result.closeness, result) for result in results]
    judged = sorted(((score, result.case.name) for score, result in scores if score is not None))
    lines = [f"  short   {name}, at {score:.0%} of the target" for score, name in judged if score < 1]
    reached = len(judged) - len(lines)
    lines += [f"  failed  {result.case.name}: {_first(result.failure)}" for result in results if result.failure]
    skipped = sum(result.skipped is not None for result in results)
    if skipped:
        lines.append(f"  skipped {skipped} for want of a package: pip install phalanx[bench]")
    return "\n".join([f"{reached} of {len(judged)} targets reached", *lines])


def _first(text: str) -> str:
    return text.splitlines()[0]


def raw(result: Result) -> dict[str, Any]:
    """A result for the JSON file, with every sample."""
    measured = result.failure is None and result.skipped is None
    return {
        "case": result.case.name,
        "group": result.case.group,
        "target": result.case.target,
        "unit": {"start": "ms over bare", "memory": "kB", "ratio": "std/phalanx"}[result.case.kind],
        "score": result.score if measured else None,
        "std_us": result.per_op(result.std) if measured else None,
        "phalanx_us": result.per_op(result.phalanx) if measured else None,
        "best": result.best if measured and result.case.kind == "ratio" else None,
        "ops_per_sample": result.rounds * result.case.ops,
        "std_ns": result.std,
        "phalanx_ns": result.phalanx,
        "failure": result.failure,
        "skipped": result.skipped,
        "source": result.case.source,
        "other": result.case.other,
    }
