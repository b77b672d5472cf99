"""Every shipped configuration, and every command, in miniature on the device: ``python -m tests.fake_cuda.miniatures``.

The tests are those that run them anyway; here they are run once more, where the device is. What is given besides is for
pytest, such as ``-x``. Without the device (it was tried with one version of torch) nothing is run, and that
is said.
"""

import subprocess
import sys
from collections.abc import Sequence

from tests.fake_cuda.building import why_not
from tests.paths import ROOT

__all__ = ["FURTHER", "MINIATURES", "NO_DEVICE", "named_tests"]

SHIPPED = "test_every_shipped_configuration_runs"
MINIATURES = {
    "fit": [f"test_cli.py::{SHIPPED}"],  # and test
    "test": ["test_cli.py::test_scoring_and_sampling_by_option"],
    "validate": ["callbacks/test_odd_networks.py::test_odd_networks_give_the_figures_of_the_plain_one[validate]"],
    "predict": ["test_cli.py::test_predict_leaves_a_table"],
    "search": ["callbacks/test_odd_networks.py::test_odd_networks_give_the_figures_of_the_plain_one[search]"],
    "edit": ["callbacks/edit/test_command.py::test_several_images_and_views_are_edited_together"],
    "stream": [f"callbacks/stream/test_command.py::{SHIPPED}"],
    "rewrite": [f"callbacks/rewrite/test_command.py::{SHIPPED}"],
    "few_shot": [f"callbacks/few_shot/test_command.py::{SHIPPED}"],
    "invert": [f"callbacks/invert/test_command.py::{SHIPPED}"],
    "rewrite_generator": [
        f"callbacks/rewrite_generator/test_command.py::{SHIPPED}",
        "callbacks/rewrite_generator/test_command.py::"
        "test_every_shipped_rule_rewrites_and_fixed_seeds_give_the_same_files",
    ],
    "judge": ["callbacks/judge/test_command.py::test_shipped_configuration_runs"],
    "manipulate": [
        "callbacks/manipulate/test_command.py::test_outlined_wheels_become_a_folder_that_is_data_and_runs_repeat",
        "callbacks/manipulate/test_command.py::test_detected_vehicles_are_replaced_and_the_rest_stays",
    ],
    "see": [f"callbacks/see/test_command.py::{SHIPPED}"],
    "scan": ["callbacks/scan/test_command.py::test_shipped_configurations_run_one_after_another"],
    "new_class": [
        "callbacks/new_class/test_command.py::test_shipped_configuration_runs_and_its_network_is_tested_on_all_classes"
    ],
    "export": ["callbacks/export/test_command.py::test_an_edited_network_on_its_own"],
}
FURTHER = [
    "editing/editors/test_on_a_device.py",
    "editing/evaluation/test_together.py::test_a_device_whose_memory_is_small",
    "editing/evaluation/test_together.py::test_by_default_no_more_is_begun_with_than_finds_room",
    "editing/graphs/test_static_edits.py::test_an_evaluation_on_a_device_takes_graphs",
    "tasks/test_edits_in_parts.py::test_a_device_whose_memory_is_small",
    "starting/test_requests.py::test_what_determinism_costs_on_a_gpu_is_said",
]
"""Tests of what only a device does."""
NO_DEVICE = {"app", "compare", "patches", "board"}
"""``app`` waits for visitors, two are about files, and ``board`` starts other commands in processes of their own."""


def named_tests() -> list[str]:
    """Return the tests, as pytest names them from the project's root."""
    return [f"tests/{test}" for some in (*MINIATURES.values(), FURTHER) for test in some]


def main(options: Sequence[str]) -> int:
    """Run the tests, and return their status, 1 where one was left out; where there is no device, say so."""
    if (reason := why_not()) is not None:
        print(f"nothing was run on the device: {reason}", file=sys.stderr)
        return 0
    command = [sys.executable, "-m", "pytest", "--fake-cuda", "-q", "-W", "ignore", *options, *named_tests()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        skipped = False
        for line in running.stdout:
            print(line, end="", flush=True)
            skipped = skipped or line.startswith("SKIPPED")
    return running.returncode or int(skipped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
