# shows: the action of a barrier runs once per round, in exactly one of the threads
# verdict: ok
# plain: ok
# expect: rounds: 5, leaders: 5
import threading

done_rounds = []
leaders = []
barrier = threading.Barrier(3, action=lambda: done_rounds.append(len(done_rounds)))


def run():
    for _ in range(5):
        if barrier.wait() == 0:
            leaders.append(threading.current_thread().name)


threads = [threading.Thread(target=run) for _ in range(3)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(f"rounds: {len(done_rounds)}, leaders: {len(leaders)}")
