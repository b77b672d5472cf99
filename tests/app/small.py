"""An app in miniature: a small network for handwritten digits, its bench, and a server that a test can ask."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from threading import RLock, Thread
from time import monotonic, sleep
from typing import Any

import torch
from torch import Tensor, nn

from editable.app.album import Album, draw_images
from editable.app.bench import Bench
from editable.app.concept import ConceptLayer
from editable.app.desk import Desk
from editable.app.ledger import Ledger
from editable.app.server import Server
from editable.data import DigitsDataModule
from editable.editing import EditPatch, MinimalHarmEditor
from editable.editing.choosing.candidates import Candidate
from editable.models import fingerprint

LAYER, CLASSIFIER = "2", "5"
CANDIDATE = Candidate(MinimalHarmEditor(), (CLASSIFIER,))


@cache
def digits() -> DigitsDataModule:
    data = DigitsDataModule()
    data.setup("test")
    return data


@cache
def trained() -> nn.Sequential:
    """A network that is wrong now and then; not to be changed."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 10),
    )  # fmt: skip
    images = digits().unaugmented_training_images()
    x, y = torch.stack([image for image, _ in images]), torch.tensor([label for _, label in images])
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(14):
        some = slice(64 * step, 64 * (step + 1))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[some]), y[some]).backward()
        optimizer.step()
    return network.eval()


@cache
def images() -> tuple[Tensor, Tensor, list[str]]:
    return draw_images(digits(), 180, 0)


def shared() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images that judge, and references."""
    x, y, _ = images()
    reference = torch.arange(len(x)) % 3 == 0
    return (x[~reference], y[~reference]), (x[reference], y[reference])


def bench(**settings: Any) -> Bench:
    network, (judge, references) = trained(), shared()
    with torch.no_grad():
        found = network(references[0]).argmax(dim=1)
    right = torch.where(found == references[1], found, -1)
    concept = ConceptLayer(network, LAYER, references[0], right)
    return Bench(network, [CANDIDATE], judge, references, digits().classes, concept=concept, **settings)


@cache
def mistakes() -> list[int]:
    """Positions among the judging images of those that the network gets wrong."""
    (x, y), network = shared()[0], trained()
    with torch.no_grad():
        return (network(x).argmax(dim=1) != y).nonzero().flatten().tolist()


PAINTABLE = 14
"""Position of a mistake whose painted middle can be made to behave as its class."""


def painted() -> Tensor:
    """All but the first and last row."""
    return torch.zeros(8, 8).index_fill_(0, torch.arange(1, 7), 1)


@contextmanager
def running(
    folder: Path, token: str | None = None, most_bytes: int = 10**6, most_pixels: int = 10**6
) -> Iterator[Server]:
    """An app that answers, on the corrections of a folder."""
    network, alone = trained(), RLock()
    made: list[Path] = []

    def tell(patch: EditPatch, path: Path) -> None:
        made.append(path)

    with ExitStack() as ending:
        server = Server("127.0.0.1", 0, token, most_bytes)
        ending.callback(server.server_close)
        ledger = Ledger(folder, fingerprint(network.state_dict()))
        ending.callback(ledger.close)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        ending.callback(server.shutdown)
        place = bench(alone=alone)
        if ledger.patches:
            place.go_to(ledger.patches)
            place.prepare()
        (x, y), _ = shared()
        names = [name for position, name in enumerate(images()[2]) if position % 3]
        album = Album(digits(), x, y, names, most_pixels)
        server.desk = Desk(place, album, ledger, network, tell, alone)
        ending.callback(server.desk.thread.join, 60)  # else it traces while the next test runs a network
        ending.callback(server.desk.close)
        yield server


class Visitor:
    """Asks a server as a program does."""

    def __init__(self, server: Server, **headers: str) -> None:
        self.port, self.headers = server.server_address[1], headers

    def ask(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = json.dumps(body).encode() if isinstance(body, dict | list) else body
        sent = {name.replace("_", "-"): value for name, value in (self.headers | headers).items()}
        if content is not None:
            sent.setdefault("Content-Type", kind)
        try:
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def told(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        status, _, content = self.ask(method, path, body)
        assert status == 200, content
        return json.loads(content)

    def outcome(self, job: str) -> dict[str, Any]:
        """Wait for a job."""
        end = monotonic() + 60
        while monotonic() < end:
            told = self.told("GET", f"/api/job?job={job}")
            if told["state"] in ("done", "failed"):
                return told
            sleep(0.02)
        raise AssertionError("the job does not end")

    def correct(self, position: int, label: int, mask: str | None = None) -> dict[str, Any]:
        """Ask for a correction, and wait for it."""
        job = self.told("POST", "/api/ask", {"image": str(position), "label": label, "mask": mask})["job"]
        return self.outcome(job)

    def keep(self, told: dict[str, Any]) -> dict[str, Any]:
        return self.outcome(self.told("POST", "/api/keep", {"job": told["job"]})["job"])

    def switch(self, number: int, on: bool) -> dict[str, Any]:
        return self.outcome(self.told("POST", "/api/switch", {"number": number, "on": on})["job"])
