"""All combinations of layers, routes, solvers, ranks and strengths, and what each is called."""

from editable.callbacks.rewrite.candidates import Candidates
from editable.callbacks.rewrite.trials import TrialSettings
from editable.rewriting import ClosedForm, FineTuning, LambdaDescent


def test_a_solver_is_tried_with_what_makes_a_difference_to_it():
    solvers = [ClosedForm(), LambdaDescent(), FineTuning("local", 1e-2)]
    candidates = Candidates(["a", "b"], solvers, [1, 2], [0.5, 1.0, 2.0], ["images", "features"])
    # The closed form by two routes, the descent by two routes at two ranks, fine-tuning, which knows neither, once.
    assert len(candidates.combinations) == len(set(candidates.combinations)) == 2 * (2 + 2 * 2 + 1)
    assert len(candidates) == 3 * len(candidates.combinations)
    tuned = [some for some in candidates.combinations if some.solver == 2]
    assert tuned == [TrialSettings("a", 2, 1, "images"), TrialSettings("b", 2, 1, "images")]
    assert candidates.label(TrialSettings("a", 0, 1, "features")) == "ClosedForm by features"
    assert candidates.label(tuned[0]) == "FineTuning(learning_rate=0.01)"


def test_a_single_route_is_not_named():
    candidates = Candidates(["a"], [ClosedForm()], [1], [1.0], ["features"])
    (settings,) = candidates.combinations
    assert candidates.label(settings) == "ClosedForm"
    assert len(candidates) == 1
