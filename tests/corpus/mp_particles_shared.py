# shows: particles in a shared Array of Structures, each process moves its own, phases kept apart by a Barrier
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^12 particles, 3 processes, 10 steps: same as serial$
import ctypes
import math
import multiprocessing
import random
import sys


class Particle(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("x", "y", "vx", "vy", "ax", "ay")]


def feel(particle, others):
    particle.ax = particle.ay = 0.0
    for other in others:
        dx, dy = other.x - particle.x, other.y - particle.y
        distance = max(math.hypot(dx, dy), 0.05)
        particle.ax -= 1e-4 * dx / distance**3
        particle.ay -= 1e-4 * dy / distance**3


def move(particle):
    particle.vx += particle.ax
    particle.vy += particle.ay
    particle.x += particle.vx
    particle.y += particle.vy


def simulate(particles, mine, barrier, steps):
    for _ in range(steps):
        for index in mine:
            feel(particles[index], particles)
        barrier.wait()  # all have read
        for index in mine:
            move(particles[index])
        barrier.wait()  # all have moved


def run(count, process_count, steps):
    rng = random.Random(7)
    start = [(rng.random(), rng.random()) for _ in range(count)]
    particles = multiprocessing.Array(Particle, start, lock=False)
    barrier = multiprocessing.Barrier(process_count)
    processes = [
        multiprocessing.Process(target=simulate, args=(particles, range(n, count, process_count), barrier, steps))
        for n in range(process_count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [(particle.x, particle.y) for particle in particles]


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    same = run(12, 3, 10) == run(12, 1, 10)
    print("12 particles, 3 processes, 10 steps:", "same as serial" if same else "WRONG")
