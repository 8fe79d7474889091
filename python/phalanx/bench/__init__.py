"""`phalanx bench`: phalanx against the standard library on this machine, in one run.

See `bench/README.md` in the repository for what is counted and how to read the table.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import report
from .case import Case
from .cases import select
from .pair import PROCESSES_LONGER, Failed, Pair, Result

__all__ = ["main"]

# Milliseconds that a sample of the slower side should take, and the samples per case and side.
FULL = (35.0, 21)
QUICK = (20.0, 3)


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="phalanx bench",
        description="Compare phalanx with the standard library on this machine, in one interleaved run.",
        epilog="The exit status says nothing about speed: it is 0 whenever the comparison ran.",
    )
    parser.add_argument("--quick", action="store_true", help="short samples and few of them: a look, not a measurement")
    parser.add_argument(
        "--only",
        "--filter",
        metavar="PAT",
        help="only the cases of the group PAT, or with PAT in their name; * ? [ match whole names",
    )
    parser.add_argument("--rounds", metavar="N", type=_rounds, help=f"pairs of samples per case (default {FULL[1]})")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write every sample to FILE")
    parser.add_argument("--null", action="store_true", help="the standard library on both sides: what noise alone does")
    parser.add_argument("--list", action="store_true", help="print the cases and their targets, measure nothing")
    return parser


def main(argv: list[str]) -> int:
    """Run the comparison; `argv` holds what follows `phalanx bench`. Returns the exit code."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        cases = select(options.only)
        if not cases:
            parser.error(f"no case matches {options.only!r}; --list shows them all")
        if options.json is not None:
            _check_writable(parser, options.json)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    if options.list:
        for case in cases:
            print(f"{case.group:<13}{case.name:<42}{report.target(case)}")
        return 0
    sample_ms, rounds = QUICK if options.quick else FULL
    rounds = options.rounds or rounds
    document: dict[str, Any] = {"settings": {"rounds": rounds, "sample_ms": sample_ms, "quick": options.quick}}
    document["settings"]["null"] = options.null
    if options.null:
        cases = [replace(case, target=None) for case in cases]
    results: list[Result] = []
    status = 0
    try:
        with Pair(rounds=rounds, sample_ms=sample_ms, null=options.null) as pair:
            status = _compare(pair, cases, results, document)
    except Failed as failure:
        # Outside a case: a side did not even start.
        print(f"phalanx bench: {failure}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted; what was measured so far:", file=sys.stderr)
        status = 130
    if results:
        print(f"\n{report.summary(results)}")
    if options.json is not None:
        document["results"] = [report.raw(result) for result in results]
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return status


def _check_writable(parser: argparse.ArgumentParser, path: Path) -> None:
    """Complain about a bad path now, not after the measurement."""
    try:
        path.open("a").close()
    except OSError as error:
        parser.error(f"cannot write {path}: {error.strerror}")


def _compare(pair: Pair, cases: list[Case], results: list[Result], document: dict[str, Any]) -> int:
    """Measure the cases one by one and print each as it comes. Returns 1 if there is nothing to compare with."""
    states = pair.states()
    if not pair.null and not states["phalanx"]["phalanx_installed"]:
        print("phalanx bench: install() left the standard library as it was", file=sys.stderr)
        return 1
    if states["std"]["phalanx_imported"]:
        print("phalanx bench: this interpreter loads phalanx at start, so there is no plain side", file=sys.stderr)
        return 1
    document["machine"] = report.machine(states)
    for key, value in document["machine"].items():
        print(f"{key:<10}{value}")
    settings = document["settings"]
    rounds, sample_ms = settings["rounds"], settings["sample_ms"]
    if pair.null:
        print(f"{'null':<10}phalanx takes no part: both sides are what is otherwise the other one")
    long_ms = PROCESSES_LONGER * sample_ms
    lengths = f"{sample_ms:g} ms ({long_ms:g} ms with processes)"
    print(f"{'samples':<10}{rounds} pairs per case, about {lengths} on the slower side\n")
    print(report.heading())
    group = ""
    for case in cases:
        if case.group != group:
            group = case.group
            print(report.title(group))
        result = pair.measure(case)
        results.append(result)
        print(report.row(result), flush=True)
    # Asked again at the end: no case may have pulled phalanx into the plain side.
    document["workers"] = pair.states()
    return 0
