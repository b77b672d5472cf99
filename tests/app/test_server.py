"""The server, asked by a program: what it answers, and what it refuses."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import pytest
import torch

import editable.app.desk
from editable.app.guard import Guard
from editable.app.server import Server
from editable.editing import EditPatch
from editable.errors import UserError
from tests.app.small import PAINTABLE, Visitor, mistakes, painted, running, shared
from tests.app.test_album import PNG, content, grey


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("app") / "kept") as place:
        yield place


@pytest.fixture
def visitor(server: Server) -> Visitor:
    return Visitor(server)


def label_of(position: int) -> int:
    return int(shared()[0][1][position])


MASK = "".join(str(int(some)) for some in painted().flatten())


def test_the_way_of_a_correction(tmp_path: Path):
    """Looked at, asked for, kept, switched off, on, and found again by another start."""
    first = mistakes()[0]
    with running(tmp_path / "kept") as server:
        one, other = Visitor(server), Visitor(server)
        state = one.told("GET", "/api/state")
        assert (state["images"], state["wrong"], state["corrections"]) == (120, len(mistakes()), [])
        seen = one.told("GET", f"/api/look?image={first}")
        assert seen["label"] == label_of(first) != seen["top"][0]["label"]
        assert len(seen["map"]) == 8
        assert max(map(max, seen["map"])) <= 255
        told = one.correct(first, label_of(first))
        trial = told["trial"]
        assert told["state"] == "done"
        assert trial["after"][0]["label"] == label_of(first)
        assert trial["harm"]["images"] == 119
        assert len(trial["broken"]) == trial["harm"]["broken"]
        assert other.told("GET", "/api/state")["corrections"] == [], "nothing is kept yet"
        assert one.keep(told)["state"] == "done"
        painted_one = one.keep(one.correct(PAINTABLE, label_of(PAINTABLE), MASK))
        assert painted_one["state"] == "done"
        state = other.told("GET", "/api/state")
        assert [some["number"] for some in state["corrections"]] == [2, 1]
        assert other.told("GET", f"/api/look?image={first}")["top"][0]["label"] == label_of(first)
        assert other.told("GET", "/api/shelf?which=changed")["total"] >= 2
        other.switch(1, False)
        assert one.told("GET", f"/api/look?image={first}")["top"] != seen["top"], "the second is on"
        one.switch(2, False)
        assert one.told("GET", f"/api/look?image={first}")["top"] == seen["top"]
        assert one.told("GET", "/api/state")["wrong"] == len(mistakes())
        one.switch(2, True)
        now = one.told("GET", f"/api/look?image={PAINTABLE}")["top"]
    with running(tmp_path / "kept") as server:
        again = Visitor(server)
        assert [some["is_on"] for some in again.told("GET", "/api/state")["corrections"]] == [True, False]
        assert again.told("GET", f"/api/look?image={PAINTABLE}")["top"] == now
        assert again.switch(1, True)["state"] == "done"
    files = sorted(path.name for path in (tmp_path / "kept").glob("patch-*"))
    assert [EditPatch.load(tmp_path / "kept" / name).record.labels for name in files]


def test_two_visitors_one_after_the_other(tmp_path: Path):
    """Both ask at once; what was made for a network that has changed since cannot be kept."""
    first, second = mistakes()[:2]
    with running(tmp_path / "kept") as server:
        one, other = Visitor(server), Visitor(server)
        jobs = [
            visitor.told("POST", "/api/ask", {"image": str(position), "label": label_of(position)})["job"]
            for visitor, position in ((one, first), (other, second))
        ]
        told = [one.outcome(jobs[0]), other.outcome(jobs[1])]
        assert [some["state"] for some in told] == ["done", "done"]
        assert one.keep(told[0])["state"] == "done"
        late = other.keep(told[1])
        assert (late["state"], late["error"]) == (
            "failed",
            "the network has changed since the correction was made for it: ask again",
        )
        assert other.keep(other.correct(second, label_of(second)))["state"] == "done"
        assert len(one.told("GET", "/api/state")["corrections"]) == 2


def test_looking_does_not_wait_for_work(server: Server, visitor: Visitor, monkeypatch: pytest.MonkeyPatch):
    """While a correction is being made, others see images, the list and how far it is."""
    assert server.desk is not None
    bench, go, entered = server.desk.bench, Event(), Event()
    correct = bench.correct

    def slow(asked: Any) -> Any:
        bench.progress("judging images", 3, 10)
        entered.set()
        assert go.wait(60)
        return correct(asked)

    monkeypatch.setattr(bench, "correct", slow)
    job = visitor.told("POST", "/api/ask", {"image": str(mistakes()[0]), "label": label_of(mistakes()[0])})["job"]
    assert entered.wait(60)
    try:
        state = visitor.told("GET", "/api/state")
        assert state["work"] == {"what": "judging images", "done": 3, "total": 10}
        assert visitor.told("GET", "/api/look?image=0")["name"]
        assert visitor.told("GET", f"/api/job?job={job}")["state"] == "running"
        others = [
            visitor.ask("POST", "/api/ask", {"image": "0", "label": 1})
            for _ in range(editable.app.desk.MOST_WAITING + 1)
        ]
        assert [status for status, *_ in others] == [200] * editable.app.desk.MOST_WAITING + [503]
        assert visitor.told("GET", "/api/state")["waiting"] == editable.app.desk.MOST_WAITING
    finally:
        go.set()
    assert visitor.outcome(job)["state"] == "done"
    for _, _, answer in others[:-1]:  # else they trace while the next test runs a network
        assert visitor.outcome(json.loads(answer)["job"])["state"] == "done"


def test_an_error_of_the_programs_own_changes_nothing(
    server: Server, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    assert server.desk is not None

    def fails(asked: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(server.desk.bench, "correct", fails)
    told = visitor.correct(mistakes()[0], label_of(mistakes()[0]))
    assert (told["state"], told["trial"]) == ("failed", None)
    assert "this went wrong, and the list shows what is on (RuntimeError: a bug)" in told["error"]
    assert "a bug" in capfd.readouterr().err
    end = monotonic() + 60
    while visitor.told("GET", "/api/state")["work"] is not None:
        assert monotonic() < end, "the desk goes on"


def test_corrections_that_nobody_keeps_are_forgotten(server: Server, visitor: Visitor):
    jobs = [visitor.correct(mistakes()[0], label_of(mistakes()[0])) for _ in range(editable.app.desk.MOST_TRIALS + 1)]
    assert all(told["trial"] for told in jobs)
    kept = visitor.keep(jobs[0])
    assert (kept["state"], kept["error"]) == ("failed", "there is no correction to keep: ask again")
    assert visitor.told("GET", f"/api/job?job={jobs[-1]['job']}")["trial"]
    visitor.told("POST", "/api/discard", {"job": jobs[-1]["job"]})
    assert visitor.told("GET", f"/api/job?job={jobs[-1]['job']}")["trial"] is None


def test_a_full_disk_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with running(tmp_path / "kept") as server:
        visitor = Visitor(server)
        told = visitor.correct(mistakes()[0], label_of(mistakes()[0]))
        assert server.desk is not None

        def full(*arguments: Any) -> None:
            raise UserError("no space is left")

        monkeypatch.setattr(server.desk.ledger, "_write", full)
        kept = visitor.keep(told)
        assert (kept["state"], kept["error"]) == ("failed", "no space is left")
        state = visitor.told("GET", "/api/state")
        assert (state["wrong"], state["corrections"]) == (len(mistakes()), [])
        assert server.desk.bench.patches == []


@pytest.mark.parametrize("path", ["/", "/app.css", "/app.js"])
def test_the_page_asks_nobody_else(visitor: Visitor, path: str):
    status, headers, content = visitor.ask("GET", path)
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    text = content.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "innerHTML" not in text


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/app.py",
        "/page/app.js",
        "/../app.py",
        "/..%2f..%2fetc%2fpasswd",
        "/image/../../etc/passwd",
        "/image/..%2F..%2Fetc%2Fpasswd",
        "/image//etc/passwd",
        "/image/",
        "/api/look?image=/etc/passwd",
        "/api/look?image=../1",
        "/api/look",
        "/api/job?job=unknown",
        "/api/job",
        "/api/shelf?which=secrets",
        "/api/shelf?start=-1",
        "/api/shelf?start=" + "9" * 30,
        "/api/shelf?" + "&".join(f"a{number}=1" for number in range(20)),
        "/api/keep",
        "/api/unknown",
        "//[",
        "/%00",
        "*",
    ],
)
def test_addresses_of_nothing(visitor: Visitor, path: str):
    status, _, content = visitor.ask("GET", path)
    assert status in (400, 404)
    sentence = json.loads(content)["error"]
    assert sentence
    assert "Traceback" not in sentence


ASK: dict[str, Any] = {"image": "0", "label": 1}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/ask", b""),
        ("/api/ask", b"{"),
        ("/api/ask", b"[" * 10_000),
        ("/api/ask", b"\xff\xfe"),
        ("/api/ask", [1, 2]),
        ("/api/ask", b"null"),
        ("/api/ask", {}),
        ("/api/ask", {**ASK, "image": 0}),
        ("/api/ask", {**ASK, "image": "/etc/passwd"}),
        ("/api/ask", {**ASK, "label": "1"}),
        ("/api/ask", {**ASK, "label": True}),
        ("/api/ask", {**ASK, "label": 1.5}),
        ("/api/ask", {**ASK, "label": 10}),
        ("/api/ask", {**ASK, "label": -1}),
        ("/api/ask", {**ASK, "label": 10**40}),
        ("/api/ask", b'{"image": "0", "label": NaN}'),
        ("/api/ask", {**ASK, "mask": "1" * 63}),
        ("/api/ask", {**ASK, "mask": "2" * 64}),
        ("/api/ask", {**ASK, "mask": [1] * 64}),
        ("/api/keep", {"job": "unknown"}),
        ("/api/keep", {"job": 3}),
        ("/api/discard", {}),
        ("/api/switch", {"number": 1}),
        ("/api/switch", {"number": "1", "on": True}),
        ("/api/switch", {"number": 1, "on": 1}),
    ],
)
def test_questions_that_cannot_be_meant(visitor: Visitor, path: str, body: Any):
    status, _, content = visitor.ask("POST", path, body)
    assert status == 400
    assert json.loads(content)["error"]


def test_switches_of_nothing(visitor: Visitor):
    told = visitor.switch(99, True)
    assert (told["state"], told["error"]) == ("failed", "there is no correction 99")


@pytest.mark.parametrize(
    ("headers", "kind", "status"),
    [
        ({}, "text/plain", 415),
        ({}, "application/x-www-form-urlencoded", 415),
        ({}, "multipart/form-data; boundary=x", 415),
        ({"Origin": "http://evil.example"}, "application/json", 403),
        ({"Host": "evil.example"}, "application/json", 403),
        ({"Sec_Fetch_Site": "cross-site"}, "application/json", 403),
    ],
)
def test_forms_of_other_pages_do_nothing(visitor: Visitor, headers: dict[str, str], kind: str, status: int):
    body = json.dumps(ASK).encode()
    found, _, content = visitor.ask("POST", "/api/ask", body, kind, **headers)
    assert found == status
    assert json.loads(content)["error"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_other_methods(visitor: Visitor, method: str):
    assert visitor.ask(method, "/api/state")[0] == 501


def test_images_that_are_brought(visitor: Visitor):
    status, _, told = visitor.ask("POST", "/api/bring", PNG, "application/octet-stream", X_Name="m%C3%BCnze.png")
    assert status == 200
    key = json.loads(told)["image"]
    seen = visitor.told("GET", f"/api/look?image={key}")
    assert (seen["name"], seen["label"]) == ("münze.png", None)
    assert visitor.ask("GET", f"/image/{key}")[2].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"no image", 400, "cannot be read"),
        (bytes(1_000_001), 413, "this is 1.0 MB, more than the 1 MB that are allowed"),
        (content(grey((1100, 1000))), 400, "is 1100×1000 pixels, more than the 1 million that are allowed"),
        (b"", 400, "cannot be read"),
    ],
)
def test_files_that_are_none_or_too_large(visitor: Visitor, body: bytes, status: int, says: str):
    found, _, told = visitor.ask("POST", "/api/bring", body, "application/octet-stream")
    assert (found, says in json.loads(told)["error"]) == (status, True)


def said(server: Server, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=30) as line:
        line.sendall(text)
        line.shutdown(socket.SHUT_WR)
        parts = []
        while part := line.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"POST /api/ask HTTP/1.1\r\nHost: HERE\r\nContent-Type: application/json\r\n\r\n", b"411"),
        (
            b"POST /api/ask HTTP/1.1\r\nHost: HERE\r\nContent-Type: application/json\r\nContent-Length: -5\r\n\r\n",
            b"411",
        ),
        (
            b"POST /api/ask HTTP/1.1\r\nHost: HERE\r\nContent-Type: application/json\r\nContent-Length: 1e3\r\n\r\n",
            b"411",
        ),
        (
            b"POST /api/ask HTTP/1.1\r\nHost: HERE\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{}",
            b"400",
        ),
        (
            b"POST /api/ask HTTP/1.1\r\nHost: HERE\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n{}",
            b"411",
        ),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n\r\n", b"403"),
    ],
)
def test_what_is_hardly_http(server: Server, visitor: Visitor, text: bytes, status: bytes):
    here = f"127.0.0.1:{server.server_address[1]}".encode()
    answer = said(server, text.replace(b"HERE", here))
    assert status in answer.partition(b"\r\n")[0] or answer.startswith(b'{"error"'), answer[:200]
    assert visitor.ask("GET", "/api/state")[0] == 200


def test_a_token(tmp_path: Path):
    with running(tmp_path / "kept", token="a-right-token") as server:
        assert server.address.endswith("/?token=a-right-token")
        stranger, friend = Visitor(server), Visitor(server, Authorization="Bearer a-right-token")
        for path in ("/api/state", "/image/0", "/app.js", "/api/unknown"):
            assert stranger.ask("GET", path)[0] == 401
        status, _, page = stranger.ask("GET", "/")
        assert status == 401
        assert b"Token, as printed where the app runs" in page
        assert b"a-right-token" not in page
        assert stranger.ask("POST", "/api/ask", ASK)[0] == 401
        assert stranger.ask("GET", "/?token=wrong-token")[0] == 401
        status, headers, _ = stranger.ask("GET", "/?token=a-right-token")
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert Visitor(server, Cookie=cookie.partition(";")[0]).ask("GET", "/api/state")[0] == 200
        assert friend.ask("GET", "/api/state", Host="10.0.0.1:1")[0] == 200
        assert friend.ask("POST", "/api/ask", ASK, Origin="http://evil.example")[0] == 403


def test_before_the_network_is_ready_visitors_are_told(tmp_path: Path):
    server = Server("127.0.0.1", 0, None, 1000)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        status, _, content = Visitor(server).ask("GET", "/api/state")
        assert (status, json.loads(content)["error"]) == (503, "the network is being prepared: wait a moment")
        assert Visitor(server).ask("GET", "/")[0] == 200
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("host", "port"), [("256.0.0.1", 0), ("192.0.2.1", 0), ("no-such-machine.invalid", 0)])
def test_where_nobody_can_listen(host: str, port: int):
    with pytest.raises(UserError, match=r"nobody can listen on app\.host|app\.host is"):
        Server(host, port, None, 1000)


def test_a_port_that_is_taken(server: Server):
    with pytest.raises(UserError, match=r"nobody can listen on app\.host .* --app\.port 0"):
        Server("127.0.0.1", server.server_address[1], None, 1000)


def test_the_desk_closes_at_once(tmp_path: Path):
    start = monotonic()
    with running(tmp_path / "kept") as server:
        assert isinstance(server.guard, Guard)
        begun = monotonic()
    assert monotonic() - begun < 5
    assert begun >= start


def test_masks_are_those_that_were_painted(tmp_path: Path):
    with running(tmp_path / "kept") as server:
        visitor = Visitor(server)
        visitor.keep(visitor.correct(PAINTABLE, label_of(PAINTABLE), MASK))
        assert server.desk is not None
        asked = server.desk.ledger.asked(1)
    assert asked.mask is not None
    assert torch.equal(asked.mask, painted())
