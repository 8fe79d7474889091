# shows: a pool downloads from a server on this machine, futures in a set
# verdict: ok
# plain: ok
# expect: 8 downloads of 1000 bytes
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"." * 1000)

    def log_message(self, *args):
        pass


def download(url):
    start = time.time()
    with urllib.request.urlopen(url) as response:
        html = response.read()
    return [start, time.time(), len(html)]


server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
result = []
with ThreadPoolExecutor(max_workers=4) as executor:
    futures = set()
    for _ in range(8):
        futures.add(executor.submit(download, url))
    for future in as_completed(futures):
        result.append(future.result())
server.shutdown()
server.server_close()
assert {size for _, _, size in result} == {1000}
print(len(result), "downloads of 1000 bytes")
