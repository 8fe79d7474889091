# shows: particles shared out over a ring of processes, positions go round through pipes; same result as one process
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^12 particles, 3 processes, 10 steps: same as serial$
import math
import multiprocessing
import random
import sys


class Particle:
    def __init__(self, rng):
        self.x, self.y = rng.random(), rng.random()
        self.vx = self.vy = self.ax = self.ay = 0.0

    def feel(self, x, y):
        dx, dy = x - self.x, y - self.y
        distance = max(math.hypot(dx, dy), 0.05)
        self.ax -= 1e-4 * dx / distance**3
        self.ay -= 1e-4 * dy / distance**3

    def move(self):
        self.vx += self.ax
        self.vy += self.ay
        self.x += self.vx
        self.y += self.vy
        self.ax = self.ay = 0.0


def make(count):
    rng = random.Random(7)
    return [Particle(rng) for _ in range(count)]


def simulate(mine, left, right, stages, steps, done):
    for _ in range(steps):
        visitors = [(particle.x, particle.y) for particle in mine]
        for stage in range(stages):
            for particle in mine:
                for x, y in visitors:
                    particle.feel(x, y)
            if stage < stages - 1:
                right.send(visitors)
                visitors = left.recv()
        for particle in mine:
            particle.move()
    done.send([(particle.x, particle.y) for particle in mine])


def run_ring(count, stages, steps):
    particles = make(count)
    pipes = [multiprocessing.Pipe(False) for _ in range(stages)]
    answers = [multiprocessing.Pipe(False) for _ in range(stages)]
    size = count // stages
    processes = [
        multiprocessing.Process(
            target=simulate,
            args=(
                particles[n * size : (n + 1) * size],
                pipes[n][0],
                pipes[(n + 1) % stages][1],
                stages,
                steps,
                answers[n][1],
            ),
        )
        for n in range(stages)
    ]
    for process in processes:
        process.start()
    places = [place for reader, _ in answers for place in reader.recv()]
    for process in processes:
        process.join()
    return places


def run_serial(count, steps):
    particles = make(count)
    for _ in range(steps):
        places = [(particle.x, particle.y) for particle in particles]
        for particle in particles:
            for x, y in places:
                particle.feel(x, y)
        for particle in particles:
            particle.move()
    return [(particle.x, particle.y) for particle in particles]


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    pairs = zip(run_ring(12, 3, 10), run_serial(12, 10))
    same = all(math.dist(one, other) < 1e-6 for one, other in pairs)
    print("12 particles, 3 processes, 10 steps:", "same as serial" if same else "WRONG")
