"""Finds the dead links of a web site with a handful of threads.

    phalanx run examples/linkcheck/linkcheck.py                    a small site, made and served on the spot
    phalanx run examples/linkcheck/linkcheck.py http://127.0.0.1:8000/ --workers 8

Three things are shared between the workers: a queue of addresses to look at, the set of addresses seen so far (with its
lock), and the list of results. Main waits for the queue to run empty and never for a particular worker.

The exit code is 1 if a site given by address has dead links. The site made on the spot always has some.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue


class LinkParser(HTMLParser):
    """Collects what a page points to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"a": "href", "link": "href", "img": "src", "script": "src"}.get(tag)
        self.links += [value for name, value in attrs if name == wanted and value]


@dataclass
class Result:
    """What one address answered."""

    url: str
    found_on: str
    worker: str
    seconds: float
    status: str  # "200", "404", "refused"
    links: list[str] = field(default_factory=list)

    @property
    def dead(self) -> bool:
        return self.status != "200"


class Checker:
    """The shared state of the workers, and what they do with it."""

    def __init__(self, start: str, workers: int, limit: int) -> None:
        self.start = start
        self.host = urllib.parse.urlsplit(start).netloc
        self.limit = limit
        self.todo: Queue[tuple[str, str]] = Queue()
        self.seen: set[str] = set()
        self.seen_lock = threading.Lock()
        self.results: list[Result] = []
        self.outside = 0
        self.print_lock = threading.Lock()
        self.threads = [
            threading.Thread(target=self.work, name=f"worker-{n}", daemon=True) for n in range(1, workers + 1)
        ]

    def run(self) -> None:
        self.add(self.start, "the command line")
        for thread in self.threads:
            thread.start()
        self.todo.join()

    def work(self) -> None:
        while True:
            url, found_on = self.todo.get()
            try:
                result = self.fetch(url, found_on)
                self.show(result)
                for link in result.links:
                    self.add(link, url)
            finally:
                self.todo.task_done()  # also after an error, or main would wait for ever

    def add(self, link: str, found_on: str) -> None:
        url, _ = urllib.parse.urldefrag(urllib.parse.urljoin(found_on, link))
        parts = urllib.parse.urlsplit(url)
        with self.seen_lock:
            if url in self.seen or len(self.seen) >= self.limit:
                return
            if parts.scheme not in ("http", "https") or parts.netloc != self.host:
                self.outside += 1
                return
            self.seen.add(url)
        self.todo.put((url, found_on))

    def fetch(self, url: str, found_on: str) -> Result:
        begun = time.perf_counter()
        parser = LinkParser()
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                body = response.read()
                status = str(response.status)
                if response.headers.get_content_type() == "text/html":
                    parser.feed(body.decode(response.headers.get_content_charset() or "utf-8", "replace"))
        except urllib.error.HTTPError as error:
            error.close()
            status = str(error.code)
        except (urllib.error.URLError, OSError, ValueError) as error:
            status = type(getattr(error, "reason", error)).__name__
        seconds = time.perf_counter() - begun
        return Result(url, found_on, threading.current_thread().name, seconds, status, parser.links)

    def show(self, result: Result) -> None:
        mark = "dead" if result.dead else "ok  "
        with self.print_lock:
            self.results.append(result)
            print(
                f"{mark} {result.status:>4} {result.seconds * 1000:6.1f} ms  {result.worker:<10} {path_of(result.url)}"
            )

    def summary(self, seconds: float) -> bool:
        """Prints the totals; True if every link is alive."""
        dead = sorted((result for result in self.results if result.dead), key=lambda result: result.url)
        pages = Counter(result.worker for result in self.results)
        spent = sum(result.seconds for result in self.results)
        print(f"\n{len(self.results)} addresses in {seconds:.2f} s, {spent:.2f} s if fetched one after the other")
        print(f"links that lead elsewhere, not followed: {self.outside}")
        for thread in self.threads:
            print(f"  {thread.name:<10} {'#' * pages[thread.name]} {pages[thread.name]}")
        print(f"{len(dead)} dead link{'' if len(dead) == 1 else 's'}{':' if dead else ''}")
        for result in dead:
            print(f"  {result.status} {path_of(result.url)}  first found on {path_of(result.found_on)}")
        return not dead


def path_of(url: str) -> str:
    return urllib.parse.urlsplit(url).path or "/"


def build_site(folder: Path, pages: int) -> None:
    """Writes a site whose pages point at one another, and at three that do not exist."""
    rng = random.Random(2)
    names = ["index.html"] + [f"chapter-{n:02}.html" for n in range(1, pages)]
    (folder / "style.css").write_text("body { font-family: serif }\n", encoding="utf-8")
    for n, name in enumerate(names):
        links = [names[0], names[(n + 1) % pages], *rng.sample(names, 3)]
        links += {3: ["chapter-99.html"], 7: ["figures/plan.png"], 11: ["chapter-1.htm", "https://example.org/"]}.get(
            n, []
        )
        items = "\n".join(f'<li><a href="{link}#top">{link}</a></li>' for link in links)
        head = f'<title>{name}</title><link rel="stylesheet" href="style.css">'
        page = f"<!doctype html>\n{head}\n<ul>\n{items}\n</ul>\n"
        (folder / name).write_text(page, encoding="utf-8")


class SlowHandler(SimpleHTTPRequestHandler):
    """Serves files, and takes its time as a real network does."""

    def do_GET(self) -> None:
        time.sleep(0.01)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Says nothing: the checker reports."""


@contextlib.contextmanager
def local_site(pages: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="linkcheck-") as folder:
        build_site(Path(folder), pages)

        def handler(*args: object) -> SlowHandler:
            return SlowHandler(*args, directory=folder)

        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            serving = threading.Thread(target=server.serve_forever, args=(0.02,), name="server")
            serving.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/"
            finally:
                server.shutdown()
                serving.join()


def main() -> int:
    parser = argparse.ArgumentParser(description="Find the dead links of a web site with a handful of threads.")
    parser.add_argument("url", nargs="?", help="where to start; without it a small site is made and served locally")
    parser.add_argument("--workers", type=int, default=4, help="number of threads (default: %(default)s)")
    parser.add_argument("--pages", type=int, default=16, help="size of the local site (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=1000, help="stop at so many addresses (default: %(default)s)")
    options = parser.parse_args()
    if options.workers < 1 or options.pages < 12:
        parser.error("at least 1 worker and 12 pages, please")

    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(local_site(options.pages))
        print(f"checking {url} with {options.workers} threads\n")
        checker = Checker(url, options.workers, options.limit)
        begun = time.perf_counter()
        checker.run()
        alive = checker.summary(time.perf_counter() - begun)
    return 0 if alive or not options.url else 1


if __name__ == "__main__":
    sys.exit(main())
