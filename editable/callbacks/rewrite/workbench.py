"""Layers made ready, where candidates are solved, tried on the images that choose, and measured on the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing

from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import Dataset

from editable.callbacks.rewrite.candidates import Candidates
from editable.callbacks.rewrite.outcome import MeasuredRewrite
from editable.callbacks.rewrite.trials import RewriteTrial, TrialSettings, measures_of
from editable.callbacks.site.predictions import RewrittenPredictions
from editable.callbacks.site.set_errors import SetErrors
from editable.callbacks.site.site import RewriteSite, Route
from editable.rewriting import RewriteResult

__all__ = ["Workbench"]


class Workbench:
    """Solves the candidates of a run, and looks what the rewritten networks predict; the network never changes.

    Args:
        network: The network, on the device where everything is to run.
        candidates: What is to be tried.
        sites: The layers made ready, by name and route.
        batch_size: Number of images run at once.
        memory_budget: In bytes, for features of images.
        progress: Where bars are shown.
    """

    def __init__(
        self,
        network: nn.Module,
        candidates: Candidates,
        sites: Mapping[tuple[str, Route], RewriteSite],
        batch_size: int,
        memory_budget: int,
        progress: Progress,
    ) -> None:
        self._network, self._candidates, self._sites = network, candidates, sites
        self._batch_size, self._memory_budget, self._progress = batch_size, memory_budget, progress

    def site(self, settings: TrialSettings) -> RewriteSite:
        """Return the layer of a candidate, with its route."""
        return self._sites[settings.layer, settings.route]

    def try_all(
        self,
        sets: Mapping[str, Dataset],
        finished: Sequence[RewriteTrial],
        keep: Callable[[Sequence[RewriteTrial]], object],
    ) -> list[RewriteTrial]:
        """Try all candidates at every strength.

        Args:
            sets: The images that choose, ``target`` and ``others``.
            finished: What an interrupted run has left; of this, combinations that are tried here at all strengths are
                taken over.
            keep: Called with all trials so far, after each combination and at the end.

        Returns:
            All trials, the finished ones first.
        """
        combinations, strengths = self._candidates.combinations, sorted(self._candidates.strengths)
        there: dict[TrialSettings, list[RewriteTrial]] = {}
        for trial in finished:
            there.setdefault(trial.settings, []).append(trial)
        done = {some for some in combinations if sorted(trial.strength for trial in there.get(some, ())) == strengths}
        trials = [trial for trial in finished if trial.settings in done]
        task = self._progress.add_task("rewrites", total=len(combinations))
        for layer in self._candidates.layers:
            here = [settings for settings in combinations if settings.layer == layer]
            waiting = [settings for settings in here if settings not in done]
            self._progress.advance(task, len(here) - len(waiting))
            with ExitStack() as stack:
                predictions: dict[tuple[str, ...], RewrittenPredictions] = {}
                for settings in waiting:
                    result = self._solve(settings)
                    names = tuple(result.params)
                    if names not in predictions:
                        predictions[names] = stack.enter_context(closing(self._predictions(names, sets)))
                    trials += self._tried(settings, result, predictions[names])
                    keep(trials)
                    self._progress.advance(task)
        keep(trials)
        return trials

    def measure(
        self, trials: Sequence[RewriteTrial], sets: Mapping[str, Dataset]
    ) -> tuple[dict[str, MeasuredRewrite], dict[str, dict[str, Tensor]]]:
        """Make rewrites once more, and look what they do on the images that are reported.

        Args:
            trials: Of solvers and routes that are all different.
            sets: The images.

        Returns:
            By solver and route, in the order of the trials: what each rewrite does, and its changed parameters by name.
        """
        task = self._progress.add_task("rewrites on the images that are reported", total=len(trials))
        results = {trial.solver: self._solve(trial.settings) for trial in trials}
        measured: dict[str, MeasuredRewrite] = {}
        changed: dict[str, dict[str, Tensor]] = {}
        for names in dict.fromkeys(tuple(result.params) for result in results.values()):
            # What lies before these parameters is computed once for all rewrites that change the same.
            with closing(self._predictions(names, sets)) as predictions:
                for trial in trials:
                    result = results[trial.solver]
                    if tuple(result.params) == names:
                        params = changed[trial.solver] = result.scaled(self._network, trial.strength)
                        measured[trial.solver] = MeasuredRewrite(
                            trial._replace(measures=measures_of(result)),
                            predictions.labels,
                            predictions.unedited,
                            predictions(params),
                        )
                        self._progress.advance(task)
        self._progress.remove_task(task)
        return {trial.solver: measured[trial.solver] for trial in trials}, changed

    def _tried(
        self, settings: TrialSettings, result: RewriteResult, predictions: RewrittenPredictions
    ) -> Iterator[RewriteTrial]:
        """Yield a rewrite at each strength, and its errors on the images that choose."""
        before = predictions.unedited
        for strength in self._candidates.strengths:
            after = predictions(result.scaled(self._network, strength))
            target, others = (
                SetErrors.of(predictions.labels[name], before[name], after[name]) for name in ("target", "others")
            )
            label = self._candidates.label(settings)
            yield RewriteTrial(settings, label, strength, target, others, measures_of(result))

    def _solve(self, settings: TrialSettings) -> RewriteResult:
        solver = self._candidates.solver(settings)
        return solver(self.site(settings).problem(settings.rank, solver.uses_references))

    def _predictions(self, names: tuple[str, ...], sets: Mapping[str, Dataset]) -> RewrittenPredictions:
        return RewrittenPredictions(self._network, names, sets, self._batch_size, self._memory_budget)
