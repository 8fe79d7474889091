# shows: main waits for an event; the thread that sets it reads from a pipe, fed by another process
# verdict: ok
# plain: ok
# expect: the pipe said go
import subprocess
import threading

heard = threading.Event()
said = []


def listen(pipe):
    said.append(pipe.readline().decode().strip())
    heard.set()


child = subprocess.Popen(["sh", "-c", "sleep 0.1; echo go"], stdout=subprocess.PIPE)
threading.Thread(target=listen, args=(child.stdout,)).start()
heard.wait()
child.wait()
print("the pipe said", said[0])
