"""One line of the table: a small program and what to reach with it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["ratio", "start", "memory"]


@dataclass(frozen=True, slots=True)
class Case:
    """What both sides run.

    `ops` says how many operations one round does. `target` is the ratio (other side / phalanx) to reach, or None. For
    the kind "start" it is milliseconds: what `source` adds to the start of a bare interpreter. For the kind "memory" it
    is thousands of bytes: `run` returns how much its process grew, once, in a fresh one.

    A case with `other` is about processes. `source` is then a program for phalanx, which nobody installed, and `other`
    the same for the other side; each is a file that is started like one of a user's, in a process that ends with the
    case. `needs` are modules that neither Python nor phalanx brings; where one is missing the case is skipped.
    """

    group: str
    name: str
    target: float | None
    ops: int
    source: str
    kind: Kind = "ratio"
    other: str | None = None
    needs: tuple[str, ...] = ()
    # Rounds of the first, discarded sample: near the truth where a single round costs a dozen processes.
    first: int = 1

    @property
    def is_start(self) -> bool:
        """Whether this case is timed on fresh interpreters."""
        return self.kind == "start"
