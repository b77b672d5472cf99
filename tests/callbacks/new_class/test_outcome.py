"""The figures of a new class, from methods and draws that are made up."""

from tests.callbacks.new_class.made_up import filter_figures, made_up


def test_figures_are_means_over_draws_of_the_filter_that_is_kept_and_of_each_baseline():
    assert made_up().values() == {
        "accuracy_before": 0.875,
        "negative_weight": 0.05,
        "num_positives": 1,
        "num_negatives": 100,
        "num_draws": 2,
        "num_old_test_images": 16,
        "num_new_test_images": 6,
        "auc": 0.8125,
        "auc_probability": 0.75,
        "recall": 0.5,
        "lost": 0.01,
        "accuracy": 0.875,
        "auc_class_vector": 0.625,
        "auc_probability_class_vector": 0.5,
        "recall_class_vector": 0.25,
        "lost_class_vector": 0.01,
        "accuracy_class_vector": 0.875,
    }


def test_methods_and_weights():
    outcome = made_up()
    assert (outcome.num_draws, outcome.negative_weights) == (2, [0.0, 0.05])
    kept = [filter_figures(0.05, 0, 0.75), filter_figures(0.05, 1, 0.875)]
    assert outcome.of_method("filter") == outcome.of_method("filter", 0.05) == kept
    assert [some.auc for some in outcome.of_method("filter", 0.0)] == [0.5, 0.5]
    assert [some.draw for some in outcome.of_method("class vector")] == [0, 1]
    assert outcome.of_method("random") == []
