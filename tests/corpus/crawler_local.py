# shows: a crawler with worker threads, a Queue and a locked set finds the dead links of a small local site
# verdict: ok
# plain: ok
# expect: checked 9 pages, dead: \['/gone.html', '/typo.html'\]
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

SITE = {
    "/": "/a.html /b.html /c.html",
    "/a.html": "/ /b.html /a1.html /gone.html",
    "/b.html": "/a.html /b1.html",
    "/c.html": "/c.html /typo.html /a1.html",
    "/a1.html": "/a.html",
    "/b1.html": "/b2.html",
    "/b2.html": "/ /gone.html",
}


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        links = SITE.get(self.path)
        if links is None:
            self.send_error(404)
            return
        body = "".join(f'<a href="{link}">{link}</a>' for link in links.split()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Crawler:
    def __init__(self, base):
        self.base = base
        self.todo = Queue()
        self.seen = set()
        self.seen_lock = threading.Lock()
        self.dead = []

    def already_seen(self, url):
        with self.seen_lock:
            if url in self.seen:
                return True
            self.seen.add(url)
            return False

    def add(self, url):
        if url.startswith(self.base) and not self.already_seen(url):
            self.todo.put(url)

    def check(self, url):
        try:
            with urllib.request.urlopen(url) as response:
                page = response.read().decode()
        except urllib.error.HTTPError as error:
            error.close()
            self.dead.append(urllib.parse.urlsplit(url).path)
            return
        for link in re.findall(r'href="([^"]+)"', page):
            self.add(urllib.parse.urljoin(url, link))

    def work(self):
        while True:
            url = self.todo.get()
            try:
                self.check(url)
            finally:
                self.todo.task_done()

    def run(self, workers):
        self.add(self.base + "/")
        for _ in range(workers):
            worker = threading.Thread(target=self.work)
            worker.daemon = True
            worker.start()
        self.todo.join()


server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
crawler = Crawler(f"http://127.0.0.1:{server.server_port}")
crawler.run(workers=4)
server.shutdown()
server.server_close()
print(f"checked {len(crawler.seen)} pages, dead: {sorted(crawler.dead)}")
