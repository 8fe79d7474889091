# shows: particles shared out over threads, read and write phases kept apart by a barrier; same result as one thread
# verdict: ok
# plain: ok
# expect: 12 particles, 3 threads, 20 steps: same as serial
import math
import random
import threading


class Particle:
    def __init__(self, rng):
        self.x, self.y = rng.random(), rng.random()
        self.vx = self.vy = self.ax = self.ay = 0.0

    def feel(self, others):
        self.ax = self.ay = 0.0
        for other in others:
            if other is not self:
                dx, dy = other.x - self.x, other.y - self.y
                distance = max(math.hypot(dx, dy), 0.05)
                self.ax -= 1e-4 * dx / distance**3
                self.ay -= 1e-4 * dy / distance**3

    def move(self):
        self.vx += self.ax
        self.vy += self.ay
        self.x += self.vx
        self.y += self.vy


def make():
    rng = random.Random(7)
    return [Particle(rng) for _ in range(12)]


def simulate(particles, mine, barrier, steps):
    for _ in range(steps):
        for particle in mine:
            particle.feel(particles)
        barrier.wait()  # all have read
        for particle in mine:
            particle.move()
        barrier.wait()  # all have moved


def run(thread_count, steps):
    particles = make()
    barrier = threading.Barrier(thread_count)
    threads = [
        threading.Thread(target=simulate, args=(particles, particles[n::thread_count], barrier, steps))
        for n in range(thread_count)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [(particle.x, particle.y) for particle in particles]


same = run(3, 20) == run(1, 20)
print("12 particles, 3 threads, 20 steps:", "same as serial" if same else "WRONG")
