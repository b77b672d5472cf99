"""Who may ask: this machine alone, or whoever has the token; and no page of another origin."""

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from editable.errors import UserError

__all__ = ["Guard", "Refusal", "is_loopback"]

LEAST_TOKEN = 8
TOKEN_CHARACTERS = re.compile(r"[A-Za-z0-9._~-]+")
BEARER = "Bearer "


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: HTTPStatus
    sentence: str


class Guard:
    """Looks at the head of a request before anything else is read of it.

    Without a token, which only a loopback address may be, a request has to name this machine as its host: a page
    elsewhere whose name was made to stand for this machine names itself. With a token, the request has to have it, in
    a cookie that the browser sends to this page alone, or in the header ``Authorization: Bearer``. What changes
    something has to come from the page itself.

    Args:
        host: That the server listens on.
        port: That it listens on.
        token: Asked for; by default one is made where the host is no loopback address.

    Attributes:
        token: That has to be known; none where only this machine can ask.

    Raises:
        UserError: If the token is short, or has characters that do not stand in an address as they are.
    """

    def __init__(self, host: str, port: int, token: str | None) -> None:
        if token is not None and (len(token) < LEAST_TOKEN or not TOKEN_CHARACTERS.fullmatch(token)):
            raise UserError(f"app.token must be {LEAST_TOKEN} or more letters, digits and . _ ~ -, got '{token}'")
        self.token = secrets.token_urlsafe(24) if token is None and not is_loopback(host) else token
        self.cookie = f"editable-{port}"
        names = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host}
        self._hosts = {f"{name}:{port}" for name in names} | (names if port == 80 else set())

    def refuses(self, headers: Mapping[str, str], changes: bool) -> Refusal | None:
        """Return why a request is refused; none where it is not.

        Args:
            headers: Of the request.
            changes: Whether it changes something: it is no ``GET``.
        """
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if self.token is None and host.lower() not in self._hosts:
            return Refusal(HTTPStatus.FORBIDDEN, "this server answers to the name of this machine alone")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return Refusal(HTTPStatus.FORBIDDEN, "another page asks, and only this server's own may")
        if changes and origin is None and headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return Refusal(HTTPStatus.FORBIDDEN, "another page asks, and only this server's own may")
        if self.token is not None and not self.knows(self._shown(headers)):
            return Refusal(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong: it was printed where the app runs")
        return None

    def knows(self, token: str) -> bool:
        """Return whether a token is the right one, in a time that tells nothing of it."""
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def set_cookie(self) -> str:
        """Return the header by which a browser keeps the token for this page."""
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"

    def _shown(self, headers: Mapping[str, str]) -> str:
        given = headers.get("Authorization", "")
        if given.startswith(BEARER):
            return given.removeprefix(BEARER)
        # By hand: Python's reader lets go of all cookies for one of another page on this machine that it cannot read.
        cookies = (some.strip().partition("=") for some in headers.get("Cookie", "").split(";"))
        return next((value for name, _, value in cookies if name == self.cookie), "")


def is_loopback(host: str) -> bool:
    """Return whether nobody outside this machine can ask a server that listens there.

    Raises:
        UserError: If it is no address of a machine, nor a name of one.
    """
    try:
        found = {str(some[4][0]) for some in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"app.host is '{host}', which is neither an address of this machine nor a name of one"
        ) from error
    return bool(found) and all(ipaddress.ip_address(some.partition("%")[0]).is_loopback for some in found)
