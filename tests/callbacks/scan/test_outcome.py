"""The figures of a scan, from changes that are made up."""

from editable.callbacks.scan.classes import Change
from tests.callbacks.scan.made_up import UNDEFINED, class_change, made_up, made_up_edited, network_changes


def test_figures_of_one_network():
    outcome = made_up()
    assert outcome.order == [1, 0]
    assert outcome.values() == {
        "num_images": 30,
        "num_found": 6,
        "num_ranked_classes": 2,
        "error_before": 0.125,
        "error_after": 0.5,
        "top_probability_before": 0.75,
        "top_probability_after": 0.5,
        "true_probability_before": 0.75,
        "true_probability_after": 0.25,
        "target_error_before": 0.0,
        "target_error_after": 1.0,
        "target_top_probability_before": 0.75,
        "target_top_probability_after": 0.5,
        "target_true_probability_before": 0.75,
        "target_true_probability_after": 0.5,
        "target_taken_before": 1.0,
        "target_taken_after": 0.0,
        "effect": 1.0,
        "target_num_found": 2,
        "target_rank": 1,
    }


def test_an_edited_network_has_figures_of_its_own_and_takes_a_part_of_the_effect_away():
    alone, both = made_up().values(), made_up(edited=made_up_edited()).values()
    assert {name: both[name] for name in alone} == alone
    more = both.keys() - alone.keys()
    assert "effect_removed" in more
    assert all(name.startswith("edited_") for name in more - {"effect_removed"})
    assert (both["edited_target_error_after"], both["edited_effect"], both["effect_removed"]) == (0.5, 0.25, 0.75)


def test_a_target_that_is_not_ranked_has_no_place_and_what_is_undefined_is_left_out():
    values = made_up(target=2).values()
    assert "target_rank" not in values
    assert values["target_num_found"] == 0
    assert not values.keys() & {"effect", "target_error_before", "target_taken_after"}


def test_no_part_of_no_effect_is_removed():
    still = network_changes([class_change(0, 1, Change(0.0, 0.0), Change(0.5, 0.5))])
    values = made_up(classes=["ant"], network=still, edited=still, target=0).values()
    assert (values["effect"], values["edited_effect"]) == (0, 0)
    assert "effect_removed" not in values


def test_ranking_by_either_change():
    network = network_changes(
        [
            class_change(0, 4, Change(0.0, 0.25))._replace(top=Change(0.9, 0.1)),
            class_change(1, 4, Change(0.0, 0.5))._replace(top=Change(0.9, 0.8)),
            class_change(2, 0, UNDEFINED),
        ]
    )
    outcome = made_up(network=network, rank_by="top_probability")
    assert outcome.order == outcome.order_by("top_probability") == [0, 1]
    assert outcome.order_by("error") == [1, 0]
