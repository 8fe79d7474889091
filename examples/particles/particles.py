"""Particles that push one another away, shared out over threads.

    phalanx run examples/particles/particles.py
    phalanx run examples/particles/particles.py --particles 60 --threads 3 --steps 100 --every 10

Each thread owns some particles. In the read phase all threads look at all positions, and each works out the forces on
its own particles; in the write phase each moves its own. A barrier keeps the phases apart, and its action, which runs
in one thread while the others wait, writes the log. The result must equal the serial one to the last bit.

A pure Python computation gains no time by threads as long as one interpreter lock rules them; what they gain is shown
at the end.
"""

from __future__ import annotations

import argparse
import math
import random
import struct
import sys
import threading
import time
import zlib
from dataclasses import dataclass

STRENGTH = 2e-4
SOFTENING = 0.02
TIME_STEP = 0.05


@dataclass
class Particle:
    """A point of mass 1 in the unit square."""

    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    ax: float = 0.0
    ay: float = 0.0

    def feel(self, others: list[Particle]) -> None:
        """Adds up the pushes of all the others. Reads positions only, writes only to itself."""
        ax = ay = 0.0
        for other in others:
            if other is not self:
                dx, dy = self.x - other.x, self.y - other.y
                push = STRENGTH / (dx * dx + dy * dy + SOFTENING**2) ** 1.5
                ax += push * dx
                ay += push * dy
        self.ax, self.ay = ax, ay

    def move(self) -> None:
        """Goes on for one time step, and turns back at the walls."""
        self.vx += self.ax * TIME_STEP
        self.vy += self.ay * TIME_STEP
        self.x += self.vx * TIME_STEP
        self.y += self.vy * TIME_STEP
        if not 0.0 <= self.x <= 1.0:
            self.x, self.vx = (-self.x if self.x < 0.0 else 2.0 - self.x), -self.vx
        if not 0.0 <= self.y <= 1.0:
            self.y, self.vy = (-self.y if self.y < 0.0 else 2.0 - self.y), -self.vy


def make_particles(count: int) -> list[Particle]:
    rng = random.Random(count)
    return [Particle(rng.random(), rng.random()) for _ in range(count)]


def kinetic_energy(particles: list[Particle]) -> float:
    return sum((p.vx * p.vx + p.vy * p.vy) / 2 for p in particles)


def potential_energy(particles: list[Particle]) -> float:
    total = 0.0
    for n, a in enumerate(particles):
        for b in particles[:n]:
            total += STRENGTH / math.sqrt((a.x - b.x) ** 2 + (a.y - b.y) ** 2 + SOFTENING**2)
    return total


def checksum(particles: list[Particle]) -> int:
    """Depends on every bit of every position."""
    return zlib.crc32(b"".join(struct.pack("<dd", p.x, p.y) for p in particles))


class Log:
    """Writes energy and checksum down every few steps."""

    def __init__(self, particles: list[Particle], every: int, title: str | None = None) -> None:
        self.particles = particles
        self.every = every
        self.visible = title is not None
        self.step = 0
        self.checksums: list[int] = []
        if self.visible:
            print(f"{title}\n  step   kinetic  potential     total  positions")

    def write(self) -> None:
        if self.step % self.every == 0:
            self.checksums.append(checksum(self.particles))
            if self.visible:
                kinetic, potential = kinetic_energy(self.particles), potential_energy(self.particles)
                total = kinetic + potential
                print(f"{self.step:6} {kinetic:9.6f}  {potential:9.6f} {total:9.6f}   {self.checksums[-1]:08x}")
        self.step += 1


def simulate_serial(particles: list[Particle], steps: int, log: Log) -> None:
    log.write()
    for _ in range(steps):
        for particle in particles:
            particle.feel(particles)
        for particle in particles:
            particle.move()
        log.write()


def simulate_threads(particles: list[Particle], steps: int, log: Log, thread_count: int) -> None:
    all_read = threading.Barrier(thread_count)
    all_moved = threading.Barrier(thread_count, action=log.write)

    def work(mine: list[Particle]) -> None:
        all_moved.wait()
        for _ in range(steps):
            for particle in mine:
                particle.feel(particles)
            all_read.wait()
            for particle in mine:
                particle.move()
            all_moved.wait()

    threads = [
        threading.Thread(target=work, args=(particles[n::thread_count],), name=f"share-{n + 1}")
        for n in range(thread_count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate particles that push one another away, in several threads.")
    parser.add_argument("--particles", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=4, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument(
        "--every", type=int, default=20, help="steps between two lines of output (default: %(default)s)"
    )
    options = parser.parse_args()
    if min(options.particles, options.threads, options.every) < 1 or options.steps < 0:
        parser.error("numbers must be positive")

    particles = make_particles(options.particles)
    log = Log(particles, options.every, f"{options.particles} particles in {options.threads} threads")
    begun = time.perf_counter()
    simulate_threads(particles, options.steps, log, options.threads)
    threaded_seconds = time.perf_counter() - begun

    reference = make_particles(options.particles)
    reference_log = Log(reference, options.every)
    begun = time.perf_counter()
    simulate_serial(reference, options.steps, reference_log)
    serial_seconds = time.perf_counter() - begun

    rounds = 2 * options.steps + 1
    print(f"\nthreads {threaded_seconds:.2f} s with {rounds} barrier rounds, serial {serial_seconds:.2f} s")
    if log.checksums != reference_log.checksums:
        print("the threads came to ANOTHER RESULT than the serial run")
        return 1
    print(f"all {len(log.checksums)} checksums equal those of the serial run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
