# shows: threads run child processes while main waits for all of them
# verdict: ok
# plain: ok
# expect: \['child 0', 'child 1', 'child 2'\]
import subprocess
from concurrent.futures import ThreadPoolExecutor


def run(n):
    done = subprocess.run(["sh", "-c", f"sleep 0.05; echo child {n}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


with ThreadPoolExecutor(3) as pool:
    print(list(pool.map(run, range(3))))
