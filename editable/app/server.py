"""HTTP: a few addresses, each of which stands for one question to the desk; anything else is refused in a sentence."""

import json
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import BoundedSemaphore
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import torch
from torch import Tensor

from editable.app.desk import Busy, Desk
from editable.app.guard import Guard
from editable.errors import UserError

__all__ = ["Server"]

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.css": ("app.css", "text/css; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
}
"""All files that are ever sent, by their address."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SECONDS = 30
"""That a visitor may keep a connection waiting."""
AT_ONCE = 64
"""Connections; who comes then is sent away."""
MOST_JSON = 2**16
"""Bytes of a question, besides the painted part of an image."""
BREATH = 2**16
MEGABYTE = 10**6
MOST_PASSED_OVER = 100 * MEGABYTE


class Mistake(Exception):
    """A request that cannot be answered, and why."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Answer(NamedTuple):
    """What is sent back."""

    content: bytes
    kind: str = "application/json"
    status: HTTPStatus = HTTPStatus.OK


class Server(ThreadingHTTPServer):
    """Listens, each visitor in a thread.

    Args:
        host: Address or name to listen on.
        port: To listen on; 0 for any that is free.
        token: See :class:`~editable.app.guard.Guard`.
        most_bytes: Of a file that a visitor brings.

    Attributes:
        guard: Decides who may ask.
        desk: Answers; until it is there, visitors are told to wait.

    Raises:
        UserError: If nobody can listen there.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, host: str, port: int, token: str | None, most_bytes: int) -> None:
        self.desk: Desk | None = None
        self.most_bytes = most_bytes
        self._free = BoundedSemaphore(AT_ONCE)
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
            super().__init__((str(address[0]), port), _Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"nobody can listen on app.host '{host}', app.port {port} ({reason.lower()}): give others, such as "
                "--app.port 0 for any that is free"
            ) from error
        self.guard = Guard(host, self.server_address[1], token)
        self._host = host

    @property
    def address(self) -> str:
        """Where a browser finds the page, with the token where one is needed."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        token = "" if self.guard.token is None else f"?token={self.guard.token}"
        return f"http://{host}:{self.server_address[1]}/{token}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of visitors who have gone; of anything else, what Python says."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "editable", ""
    timeout = SECONDS

    def do_GET(self) -> None:
        self._answer(self._get, changes=False)

    def do_POST(self) -> None:
        self._answer(self._post, changes=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal for what matters."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP, or another method."""
        sentence = (message or HTTPStatus(code).phrase).encode("ascii", "replace").decode()
        self._send(_told({"error": sentence}, HTTPStatus(code)))

    def _answer(self, how: Callable[[str, dict[str, str]], Answer], changes: bool) -> None:
        path, length = "", self._length()
        self._unread = min(length or 0, MOST_PASSED_OVER)
        try:
            parts = urlsplit(self.path)
            path, asked = (
                parts.path,
                {name: values[-1] for name, values in parse_qs(parts.query, max_num_fields=8).items()},
            )
            if not changes and path == "/" and self.server.guard.knows(asked.get("token", "")):
                self._enter()
                return
            refusal = self.server.guard.refuses(self.headers, changes)  # type: ignore[arg-type]
            if refusal is not None:
                raise Mistake(*refusal)
            self._send(how(path, asked))
        except Mistake as mistake:
            self._refuse(path, mistake)
        except Busy as error:
            self._refuse(path, Mistake(HTTPStatus.SERVICE_UNAVAILABLE, str(error)))
        except (UserError, ValueError) as error:
            self._refuse(path, Mistake(HTTPStatus.BAD_REQUEST, str(error)))

    def _get(self, path: str, asked: dict[str, str]) -> Answer:
        if path in PAGE:
            name, kind = PAGE[path]
            return Answer(files("editable.app").joinpath("page", name).read_bytes(), kind)
        desk = self._desk()
        if path == "/api/state":
            return _told(desk.state())
        if path == "/api/shelf":
            return _told(desk.shelf(asked.get("which", "all"), _number(asked.get("start", "0"), "start")))
        if path == "/api/look":
            return _told(desk.look(asked.get("image", "")))
        if path == "/api/job":
            return _told(desk.told(asked.get("job", "")))
        if path.startswith("/image/"):
            return Answer(desk.album.png(unquote(path.removeprefix("/image/"))), "image/png")
        raise Mistake(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _post(self, path: str, asked: dict[str, str]) -> Answer:
        desk = self._desk()
        if path == "/api/bring":
            content = self._read(self.server.most_bytes, "application/octet-stream")
            return _told({"image": desk.album.bring(content, unquote(self.headers.get("X-Name", "")))})
        if path not in ("/api/ask", "/api/keep", "/api/discard", "/api/switch"):
            raise Mistake(HTTPStatus.NOT_FOUND, "there is nothing at this address")
        height, width = desk.album.images.shape[-2:]
        given = _object(self._read(MOST_JSON + height * width, "application/json"))
        if path == "/api/ask":
            mask = None if given.get("mask") is None else _mask(_text(given, "mask"), height, width)
            return _told({"job": desk.ask(_text(given, "image"), _whole(given, "label"), mask)})
        if path == "/api/switch":
            if not isinstance(given.get("on"), bool):
                raise UserError("on must be true or false")
            return _told({"job": desk.switch(_whole(given, "number"), given["on"])})
        if path == "/api/keep":
            return _told({"job": desk.keep(_text(given, "job"))})
        desk.discard(_text(given, "job"))
        return _told({})

    def _desk(self) -> Desk:
        if self.server.desk is None:
            raise Mistake(HTTPStatus.SERVICE_UNAVAILABLE, "the network is being prepared: wait a moment")
        return self.server.desk

    def _read(self, most: int, kind: str) -> bytes:
        """Read what a request brings, once it is known to be of a kind and size that is allowed."""
        if self.headers.get_content_type() != kind:
            raise Mistake(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"this address takes {kind}")
        length = self._length()
        if length is None:
            raise Mistake(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is")
        if length > most:
            raise Mistake(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"this is {length / MEGABYTE:.1f} MB, more than the {most / MEGABYTE:g} MB that are allowed",
            )
        self._unread = 0
        content = self.rfile.read(length)
        if len(content) < length:
            raise Mistake(HTTPStatus.BAD_REQUEST, "the request has ended before it was whole")
        return content

    def _length(self) -> int | None:
        """Return how many bytes a request says that it brings; none where it does not say."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 16) or self.headers.get("Transfer-Encoding"):
            return None
        return int(length)

    def _enter(self) -> None:
        """Keep the token in a cookie, and take it out of the address."""
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        self.send_header("Set-Cookie", self.server.guard.set_cookie())
        self._end(b"")

    def _refuse(self, path: str, mistake: Mistake) -> None:
        self._pass_over()
        if path == "/" and mistake.status == HTTPStatus.UNAUTHORIZED:
            page = files("editable.app").joinpath("page", "token.html").read_bytes()
            self._send(Answer(page, "text/html; charset=utf-8", mistake.status))
        elif path == "/app.css":  # which the page that asks for the token needs, and which tells nobody anything
            name, kind = PAGE[path]
            self._send(Answer(files("editable.app").joinpath("page", name).read_bytes(), kind))
        else:
            self._send(_told({"error": mistake.sentence}, mistake.status))

    def _pass_over(self) -> None:
        """Read what a refused request still brings, as far as that is bearable: else the visitor never sees why."""
        with suppress(OSError):
            while self._unread and (part := self.rfile.read(min(self._unread, BREATH))):
                self._unread -= len(part)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self._end(answer.content)

    def _end(self, content: bytes) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _told(content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(json.dumps(content, ensure_ascii=False, allow_nan=False).encode(), status=status)


def _object(content: bytes) -> dict[str, Any]:
    try:
        given = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError("this is no JSON") from error
    if not isinstance(given, dict):
        raise UserError("this is no object of JSON")
    return given


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text")
    return value


def _whole(given: dict[str, Any], name: str) -> int:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{name} must be a whole number")
    return value


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UserError(f"{name} must be a whole number")
    return int(text)


def _mask(rows: str, height: int, width: int) -> Tensor:
    """Return a painted part [H, W] of a text with 0 or 1 for each pixel, row by row."""
    if len(rows) != height * width or set(rows) - {"0", "1"}:
        raise UserError(f"mask must be {height * width} times 0 or 1, row by row")
    return torch.tensor([float(some == "1") for some in rows]).view(height, width)
