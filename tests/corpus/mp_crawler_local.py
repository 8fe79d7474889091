# shows: a crawler with worker processes, a JoinableQueue and a locked dict finds the dead links of a small local site
# verdict: ok
# plain: ok
# methods: fork spawn forkserver
# expect: ^checked 9 pages, dead: \['/gone.html', '/typo.html'\]$
import multiprocessing
import re
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


def add(url, todo, seen, lock):
    with lock:
        if url in seen:
            return
        seen[url] = True
    todo.put(url)


def check(url, base, todo, seen, lock, dead):
    try:
        with urllib.request.urlopen(url) as response:
            page = response.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        dead.put(urllib.parse.urlsplit(url).path)
        return
    for link in re.findall(r'href="([^"]+)"', page):
        link = urllib.parse.urljoin(url, link)
        if link.startswith(base):
            add(link, todo, seen, lock)


def work(base, todo, seen, lock, dead):
    while True:
        url = todo.get()
        try:
            check(url, base, todo, seen, lock, dead)
        finally:
            todo.task_done()


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    base = f"http://127.0.0.1:{server.server_port}"
    todo, dead, lock = multiprocessing.JoinableQueue(), multiprocessing.Queue(), multiprocessing.Lock()
    with multiprocessing.Manager() as manager:
        seen = manager.dict()
        for _ in range(3):
            multiprocessing.Process(target=work, args=(base, todo, seen, lock, dead), daemon=True).start()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        add(base + "/", todo, seen, lock)
        todo.join()
        server.shutdown()
        server.server_close()
        print(f"checked {len(seen)} pages, dead: {sorted(dead.get() for _ in range(2))}")
