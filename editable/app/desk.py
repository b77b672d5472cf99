"""The desk: one correction is made at a time, in the order in which they are asked for, while others look on."""

import secrets
import sys
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Condition, Lock, Thread

from torch import Tensor, nn

from editable.app.album import Album
from editable.app.answers import Json, told_trial, told_view
from editable.app.bench import Asked, Bench, Trial
from editable.app.ledger import Ledger
from editable.app.sight import Sight
from editable.editing import EditPatch
from editable.errors import UserError
from editable.models.state_dicts import tensors_of

__all__ = ["Busy", "Desk", "Job"]

MOST_WAITING = 8
MOST_REMEMBERED = 32
"""Jobs whose outcome can still be asked for."""
MOST_TRIALS = 8
"""Corrections that were made and are neither kept nor taken back: each has a patch in memory."""
SHOWN_AT_ONCE = 60

Tell = Callable[[EditPatch, Path], object]
"""Writes a patch that was kept into the log of corrections."""


class Busy(UserError):
    """So many wait already that nobody else can be let in."""


@dataclass
class Job:
    """Something that takes long.

    Attributes:
        key: By which it is asked for.
        what: What is being done, in words.
        run: Does it, and returns a correction where that was made.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        done: How much of it is done.
        total: How much there is.
        sentence: Why it failed.
        trial: The correction, not kept yet.
        version: Of the corrections that are on, on which it was made.
    """

    key: str
    what: str
    run: Callable[[], Trial | None]
    state: str = "waiting"
    done: int = 0
    total: int = 0
    sentence: str = ""
    trial: Trial | None = None
    version: int = 0


class Desk:
    """Answers visitors: they look at any time, and ask for what changes something one after the other.

    Args:
        bench: Makes corrections; used by the desk's own thread alone, once it is given.
        album: The images.
        ledger: The corrections that were kept; those that are on are in the bench's network.
        unedited: The network without any.
        tell: Writes a patch that was kept into the log.
        alone: Held while a network is run or traced, by the bench too.

    Attributes:
        thread: That works; it goes on for a while after :meth:`close`, with what it writes no more.
    """

    def __init__(
        self,
        bench: Bench,
        album: Album,
        ledger: Ledger,
        unedited: nn.Module,
        tell: Tell,
        alone: AbstractContextManager,
    ) -> None:
        self.bench, self.album, self.ledger = bench, album, ledger
        self._tell, self._alone = tell, alone
        self._unedited = Sight(unedited, bench.concept)
        self._now = Sight(bench.network, bench.concept)
        self._state = {name: some.detach().cpu() for name, some in tensors_of(unedited).items()}
        self._predictions = bench.predictions.clone()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._changed, self._writing = Condition(), Lock()
        self._version, self._ends = 0, False
        bench.progress = self._progress
        self.thread = Thread(target=self._work, daemon=True, name="desk")
        self.thread.start()

    def state(self) -> Json:
        """Return what all visitors see: the corrections, what the network makes of the judging images, and the work."""
        with self._changed:
            running, waiting = self._running, len(self._waiting)
            labels, now, unedited = self.bench.labels, self._predictions, self.bench.unedited
            return {
                "version": self._version,
                "classes": self.bench.classes,
                "shape": list(self.album.images.shape[1:]),
                "can_paint": self.bench.concept is not None,
                "images": len(labels),
                "wrong": int((now != labels).sum()),
                "wrong_unedited": int((unedited != labels).sum()),
                "broken": int(((unedited == labels) & (now != labels)).sum()),
                "corrections": [asdict(some) for some in reversed(self.ledger.corrections)],
                "work": running and {"what": running.what, "done": running.done, "total": running.total},
                "waiting": waiting,
            }

    def shelf(self, which: str, start: int) -> Json:
        """Return some of the test images: ``all``, or ``mistakes`` or those that are ``changed`` by corrections.

        Raises:
            UserError: If there is no such choice.
        """
        labels, now = self.bench.labels, self._predictions
        choices = {"all": now == now, "mistakes": now != labels, "changed": now != self.bench.unedited}
        if which not in choices:
            raise UserError(f"there are no images called {which!r}: choose {', '.join(choices)}")
        positions = choices[which].nonzero().flatten().tolist()
        return {
            "which": which,
            "total": len(positions),
            "start": start,
            "images": [
                {
                    "key": str(position),
                    "name": self.album.names[position],
                    "label": int(labels[position]),
                    "now": int(now[position]),
                }
                for position in positions[start : start + SHOWN_AT_ONCE]
            ],
        }

    def look(self, key: str) -> Json:
        """Return what the network makes of an image, now and unedited."""
        image, name, label, note = self.album.get(key)
        with self._alone:
            views = self._now.look(image), self._unedited.look(image)
        return {"key": key, "name": name, "label": label, "note": note, **told_view(*views)}

    def ask(self, key: str, label: int, mask: Tensor | None) -> str:
        """Let a correction be made of the network as it is when its turn comes; return the job's key.

        Raises:
            UserError: If there is no such image or class, or the mask is of another size.
        """
        image, name, _, _ = self.album.get(key)
        if not 0 <= label < len(self.bench.classes):
            raise UserError(f"there is no class {label}: there are {len(self.bench.classes)}, numbered from 0")
        if mask is not None and mask.shape != image.shape[-2:]:
            raise UserError("the painted part is of another size than the image: load the page again")
        asked = Asked(image, name, label, mask)
        return self._submit("making the correction", lambda: self.bench.correct(asked))

    def keep(self, key: str) -> str:
        """Let a correction that was made be kept; return the key of the job that does it.

        Raises:
            UserError: If there is none, or the network has changed since.
        """
        job = self._job(key)
        return self._submit("keeping the correction", lambda: self._keep(job))

    def discard(self, key: str) -> None:
        """Forget a correction that was made and not kept."""
        self._job(key).trial = None

    def switch(self, number: int, is_on: bool) -> str:
        """Let a correction be switched on or off; return the job's key."""
        word = "on" if is_on else "off"
        return self._submit(f"switching correction {number} {word}", lambda: self._switch(number, is_on))

    def told(self, key: str) -> Json:
        """Return how far a job is, and what came of it."""
        job = self._job(key)
        trial = job.trial
        return {
            "job": key,
            "state": job.state,
            "what": job.what,
            "done": job.done,
            "total": job.total,
            "error": job.sentence,
            "trial": None if trial is None else told_trial(trial),
        }

    def close(self) -> None:
        """Begin nothing more, and wait until what is being written is whole."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        self._writing.acquire(timeout=30)
        self.ledger.close()

    def _submit(self, what: str, run: Callable[[], Trial | None]) -> str:
        job = Job(secrets.token_urlsafe(12), what, run)
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise Busy(f"{MOST_WAITING} others wait already: ask again in a moment")
            self._jobs[job.key] = job
            while len(self._jobs) > MOST_REMEMBERED + MOST_WAITING:
                self._jobs.popitem(last=False)
            self._waiting.append(job)
            self._changed.notify_all()
        return job.key

    def _job(self, key: str) -> Job:
        job = self._jobs.get(key)
        if job is None:
            raise UserError("nobody knows of that any more: ask again")
        return job

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ends:
                    self._changed.wait()
                if self._ends:
                    return
                job = self._running = self._waiting.popleft()
                job.state, job.version = "running", self._version
            try:
                job.trial = job.run()
                state = "done"
            except UserError as error:
                job.sentence, state = str(error), "failed"
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                job.sentence = f"this went wrong, and the list shows what is on ({type(error).__name__}: {error})"
                state = "failed"
            job.state = state
            for some in [some for some in self._jobs.copy().values() if some.trial is not None][:-MOST_TRIALS]:
                some.trial = None
            if job.trial is None and state == "done":
                with suppress(Exception):  # it is told where a correction is asked for
                    self.bench.prepare()
            with self._changed:
                self._running = None

    def _keep(self, job: Job) -> None:
        trial = job.trial
        if trial is None:
            raise UserError("there is no correction to keep: ask again")
        if job.version != self._version:
            raise UserError("the network has changed since the correction was made for it: ask again")
        try:
            self.bench.go_to([*self.bench.patches, trial.patch])
            with self._writing:
                if self._ends:
                    return
                self.ledger.keep(trial.asked, trial.by, trial.patch)
                self._show()
                self._tell(trial.patch, self.ledger.path_of(trial.patch))
        except BaseException:
            self.bench.go_to(self.ledger.patches)
            raise
        finally:
            job.trial = None

    def _switch(self, number: int, is_on: bool) -> None:
        made: list[EditPatch] = []

        def make(on: Sequence[EditPatch], asked: Asked) -> EditPatch:
            self.bench.go_to(on)
            made.append(self.bench.correct(asked).patch)
            return made[-1]

        try:
            patches = self.ledger.stack_for(number, is_on, self._state, make)
            self.bench.go_to(patches)
            with self._writing:
                if self._ends:
                    return
                self.ledger.switch(number, is_on)
                self._show()
                for patch in made:
                    self._tell(patch, self.ledger.path_of(patch))
        except BaseException:
            self.bench.go_to(self.ledger.patches)
            raise

    def _show(self) -> None:
        """Let visitors look through the network as it is now."""
        with self._alone:
            now = Sight(self.bench.network, self.bench.concept)
        predictions = self.bench.predictions.clone()
        with self._changed:
            self._now, self._predictions = now, predictions
            self._version += 1

    def _progress(self, what: str, done: int, total: int) -> None:
        job = self._running
        if job is not None:
            job.what, job.done, job.total = what, done, total
