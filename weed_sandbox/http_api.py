"""The small HTTP side of a sandbox server, and `/_control`, through which tests set faults and ask what it saw."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from weed_sandbox.faults import Faults

Answer = tuple[int, bytes]
Serve = Callable[[str, str, dict[str, str], bytes], Answer]
"""(method, path, query, body) -> (status, body); ConnectionAbortedError hangs up on the client."""

Control = Callable[[dict[str, Any]], Any]


def json_answer(status: int, document: Any) -> Answer:
    """Answer with a JSON document."""
    return status, json.dumps(document).encode()


def start(host: str, port: int, serve: Serve, faults: Faults, control: Control) -> ThreadingHTTPServer:
    """Serve HTTP in threads of its own. `control` takes the orders that are the server's own."""

    def answer(method: str, target: str, body: bytes) -> Answer:
        url = urlsplit(target)
        if url.path != "/_control":
            return serve(method, url.path, dict(parse_qsl(url.query)), body)
        order = json.loads(body)
        if "fault" in order:
            faults.set(order["fault"])
        if "clear" in order:
            faults.clear()
        if "calls" in order:
            return json_answer(200, faults.calls)
        return json_answer(200, control(order))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # headers and body in one packet

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content_type = self.headers.get("Content-Type", "")
            if content_type.startswith("multipart/form-data"):
                body = _first_part(body, content_type)
            try:
                status, content = answer(self.command, self.path, body)
            except ConnectionAbortedError:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

        def log_message(self, *_words: Any) -> None:
            """Requests are not logged."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server((host, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _first_part(body: bytes, content_type: str) -> bytes:
    """The content of a form's first file."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    part = body.split(b"--" + boundary)[1]
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
