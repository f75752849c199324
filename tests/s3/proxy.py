"""A proxy before an S3 server that delays requests and spoils some of the answers, by a seeded schedule.

python tests/s3/proxy.py 127.0.0.1:8333 --port 9000 --latency 0.04    # in a process of its own, for benchmarks

Clients take it for the server: signatures cover the Host header, which is passed on as it came.
"""

import argparse
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

FAULTS = ("slow down", "internal error", "late", "cut off", "short", "flipped", "reset")
ERRORS = {"slow down": (503, "SlowDown"), "internal error": (500, "InternalError")}
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})


class FaultProxy:
    """Relays to ``server`` (host:port). Set ``rate`` to the share of object GETs that shall go wrong.

    The ``kinds`` of faults come equally often; ``injected`` counts them. ``latency`` delays every request, ``delay``
    those that come late on purpose; both in seconds.
    """

    def __init__(
        self,
        server: str,
        *,
        rate: float = 0.0,
        kinds: Sequence[str] = FAULTS,
        latency: float = 0.0,
        delay: float = 0.5,
        seed: int = 0,
        port: int = 0,
    ) -> None:
        self.server, self.rate, self.kinds, self.latency, self.delay = server, rate, kinds, latency, delay
        self.injected: Counter[str] = Counter()
        self.requests = 0
        self._random = random.Random(seed)
        self._deck: list[str] = []
        self._lock = threading.Lock()
        self._listener = Listener(("127.0.0.1", port), Relay)
        self._listener.proxy = self
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), name="fault proxy")
        self.endpoint = f"http://127.0.0.1:{self._listener.server_address[1]}"

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def draw(self, method: str, target: str) -> str | None:
        """The fault for this request, if it shall have one."""
        parts = urlsplit(target)
        is_object = parts.path.strip("/").count("/") > 0 and "list-type" not in parts.query
        with self._lock:
            self.requests += 1
            if method != "GET" or not is_object or self._random.random() >= self.rate:
                return None
            if not self._deck:
                self._deck = self._random.sample(self.kinds, len(self.kinds))
            fault = self._deck.pop()
            self.injected[fault] += 1
            return fault

    def pick(self, count: int) -> int:
        """One of ``range(count)``."""
        with self._lock:
            return self._random.randrange(count)


class Listener(ThreadingHTTPServer):
    """One thread per connection of a client."""

    daemon_threads = True
    request_queue_size = 256
    proxy: FaultProxy

    def shutdown_request(self, request: Any) -> None:
        """Close without the orderly end that would keep a reset from being one."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are no news here."""


class Relay(BaseHTTPRequestHandler):
    """Passes each request of a connection on and its answer back."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Listener

    def relay(self) -> None:
        """Handle one request."""
        proxy = self.server.proxy
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = proxy.draw(self.command, self.path)
        time.sleep(proxy.latency + (proxy.delay if fault == "late" else 0))
        if fault == "reset":
            return self.reset()
        if fault in ERRORS:
            state, code = ERRORS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>test</Message></Error>"
            return self.answer(state, {"Content-Type": "application/xml"}, text.encode())
        try:
            state, headers, body = self.ask_server(content)
        except (OSError, http.client.HTTPException):
            return self.reset()
        if fault == "flipped" and body:
            place = proxy.pick(len(body))
            body = body[:place] + bytes([body[place] ^ 16]) + body[place + 1 :]
        if fault == "short":
            body = body[:-1]
        return self.answer(state, headers, body, cut_off=fault == "cut off")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay

    def handle_expect_100(self) -> bool:
        """Let the client send its body, which it holds back for a second if it hears nothing."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def ask_server(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        """State, headers and body of the server's own answer."""
        connection = http.client.HTTPConnection(self.server.proxy.server, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(content)
            answer = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def answer(self, state: int, headers: dict[str, str], body: bytes, *, cut_off: bool = False) -> None:
        """Answer the client; ``cut_off`` closes the connection halfway through the body."""
        self.send_response_only(state)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut_off else body)
        self.wfile.flush()
        self.close_connection = self.close_connection or cut_off

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to log."""


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    words = parser.parse_args()
    with FaultProxy(words.server, port=words.port, latency=words.latency, rate=words.rate):
        threading.Event().wait()


if __name__ == "__main__":
    main()
