"""Who may ask: hosts, origins and tokens."""

from http import HTTPStatus

import pytest

from editable.app.guard import Guard, is_loopback
from editable.errors import UserError

PORT = 8765


def status(guard: Guard, changes: bool = False, **headers: str) -> int | None:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = guard.refuses(given, changes)
    return None if refusal is None else int(refusal.status)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "LOCALHOST:8765"])
def test_this_machine_may_ask_without_a_token(host: str):
    guard = Guard("127.0.0.1", PORT, None)
    assert guard.token is None
    assert status(guard, Host=host) is None
    assert status(guard, True, Host=host, Origin=f"http://{host}") is None
    assert status(guard, True, Host=host) is None  # a program, no browser


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": ""},
        {"Host": "evil.example:8765"},
        {"Host": "127.0.0.1:80"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:8765"},
        {"Host": "localhost:8765", "Origin": "http://evil.example"},
        {"Host": "localhost:8765", "Origin": "null"},
        {"Host": "localhost:8765", "Origin": "http://localhost:8766"},
        {"Host": "localhost:8765", "Origin": "http://127.0.0.1:8765"},
        {"Host": "localhost:8765", "Origin": "https://localhost:8765"},
        {"Host": "evil.example:8765", "Origin": "http://evil.example:8765"},
    ],
)
@pytest.mark.parametrize("changes", [False, True])
def test_other_names_and_origins_may_not(headers: dict[str, str], changes: bool):
    assert status(Guard("127.0.0.1", PORT, None), changes, **headers) == HTTPStatus.FORBIDDEN


def test_another_site_may_not_change_anything_without_an_origin():
    guard = Guard("127.0.0.1", PORT, None)
    assert status(guard, True, Host="localhost:8765", Sec_Fetch_Site="cross-site") == HTTPStatus.FORBIDDEN
    assert status(guard, True, Host="localhost:8765", Sec_Fetch_Site="same-site") == HTTPStatus.FORBIDDEN
    assert status(guard, True, Host="localhost:8765", Sec_Fetch_Site="same-origin") is None


def test_other_machines_need_the_token():
    guard = Guard("0.0.0.0", PORT, None)
    assert guard.token is not None
    assert len(guard.token) >= 32
    assert Guard("0.0.0.0", PORT, None).token != guard.token
    host = "192.0.2.7:8765"
    assert status(guard, Host=host) == HTTPStatus.UNAUTHORIZED
    assert status(guard, Host=host, Authorization=f"Bearer {guard.token}") is None
    assert status(guard, Host=host, Cookie=f"other=1; {guard.cookie}={guard.token}") is None
    assert status(guard, True, Host=host, Origin=f"http://{host}", Cookie=f"{guard.cookie}={guard.token}") is None
    assert status(guard, True, Host=host, Origin="http://evil.example", Cookie=f"{guard.cookie}={guard.token}") == 403


@pytest.mark.parametrize("other", ['seen={"a":1}', "name=two words", "=;", "a b", "café=é", "x=[1]"])
def test_cookies_of_other_pages_do_not_hide_the_token(other: str):
    """A browser sends those of all ports of a machine, whatever they hold."""
    guard = Guard("0.0.0.0", PORT, "right-token")
    for cookies in (f"{other}; {guard.cookie}=right-token", f"{guard.cookie}=right-token; {other}"):
        assert status(guard, Host="192.0.2.7:8765", Cookie=cookies) is None
    assert status(guard, Host="192.0.2.7:8765", Cookie=other) == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong-token"},
        {"Authorization": "right-token"},
        {"Authorization": "Basic right-token"},
        {"Authorization": "Bearer right-token "},
        {"Authorization": "Bearer RIGHT-TOKEN"},
        {"Authorization": "Bearer ÿright-token"},
        {"Cookie": "editable-8766=right-token"},
        {"Cookie": "editable-8765="},
        {"Cookie": "editable-8765"},
        {"Cookie": "=;;=\x00"},
    ],
)
def test_wrong_tokens_are_refused(headers: dict[str, str]):
    guard = Guard("127.0.0.1", PORT, "right-token")
    assert status(guard, Host="localhost:8765", **headers) == HTTPStatus.UNAUTHORIZED
    assert status(guard, Host="localhost:8765", Authorization="Bearer right-token") is None


@pytest.mark.parametrize("token", ["", "short", "has a blank in it", "with;semicolon", "line\nbreak", "ümlaut-token"])
def test_tokens_that_do_not_do(token: str):
    with pytest.raises(UserError, match=r"app\.token must be 8 or more letters"):
        Guard("127.0.0.1", PORT, token)


@pytest.mark.parametrize(
    ("host", "here"), [("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("0.0.0.0", False), ("::", False)]
)
def test_loopback(host: str, here: bool):
    assert is_loopback(host) == here


@pytest.mark.parametrize("host", ["no such machine", "256.1.1.1.1", "a" * 300, "-"])
def test_what_is_no_machine(host: str):
    with pytest.raises(UserError, match=r"app\.host is"):
        is_loopback(host)
