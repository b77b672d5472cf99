"""Files for a scheduler: what they ask it for, and that the commands they come to parse; with stand-ins for SLURM's."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

from editable.cli import main
from editable.command_line.options.board import options as board_options
from tests.paths import CONFIGS, ROOT

FILES = {path.stem: path for path in sorted((CONFIGS / "slurm").glob("*.sbatch"))}
FITS = [name for name in FILES if name not in ("board", "torchrun")]
KNOWN = {  # options of sbatch, as its manual page of version 24 spells them
    *("array", "cpus-per-task", "gpus-per-node", "gpus-per-task", "job-name", "mem", "nodes", "ntasks"),
    *("ntasks-per-node", "open-mode", "output", "requeue", "signal", "time"),
}
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def asked(name: str) -> dict[str, str]:
    """What a file asks the scheduler for."""
    lines = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", FILES[name].read_text(), re.MULTILINE)
    assert {option for option, _ in lines} <= KNOWN
    assert len(lines) == FILES[name].read_text().count("#SBATCH")
    return dict(lines)


class Cluster:
    """Stand-ins for ``srun``, ``scontrol`` and ``python``, which write down what they are asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder, folder / "bin"
        self.programs.mkdir()
        self.add("srun", 'printf "%s\\n" "$@" > srun')
        self.add("scontrol", 'if [ "$1" = show ]; then printf "a1\\na2\\n"; else echo "$@" > scontrol; fi')
        self.add(
            "python",
            f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi; trap "echo kept > kept; exit 143" TERM; '
            'printf "%s\\n" "$@" > python; if [ -n "$LONG" ]; then sleep 60 & wait $!; fi',
        )
        (folder / "results").mkdir()
        shutil.copy(ROOT / "results" / "board.yaml", folder / "results")

    def add(self, name: str, text: str) -> None:
        (self.programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (self.programs / name).chmod(0o755)

    def submit(self, name: str, *words: str, **more: str) -> subprocess.Popen:
        """Do as ``sbatch``: set what the file has asked for, and run it."""
        wanted = asked(name)
        names = {"nodes": "JOB_NUM_NODES", "ntasks-per-node": "NTASKS_PER_NODE", "gpus-per-node": "GPUS_PER_NODE"}
        names["cpus-per-task"] = "CPUS_PER_TASK"
        given = {f"SLURM_{names[option]}": value for option, value in wanted.items() if option in names}
        given |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a[1-2]", **more}
        environment = {**os.environ, **given, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        return subprocess.Popen(["bash", FILES[name], *words], cwd=self.folder, env=environment)

    def words(self, of: str) -> list[str]:
        return (self.folder / of).read_text().splitlines()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> dict:
    """Parse the command line of a fit as it is; return the whole configuration."""
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        main([*words, "--print_config"])
    assert ended.value.code in (0, None)
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("name", FILES)
def test_bash_takes_the_file_and_it_says_how_to_submit_it(name: str):
    subprocess.run(["bash", "-n", FILES[name]], check=True)
    text = FILES[name].read_text()
    assert f"configs/slurm/{name}.sbatch" in text.partition("#SBATCH")[0]
    assert "%" in asked(name)["output"]
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize("name", FITS)
def test_a_fit_has_a_process_for_each_gpu_and_is_requeued_by_a_signal(name, cluster, monkeypatch, capsys):
    wanted = asked(name)
    assert wanted["ntasks-per-node"] == wanted["gpus-per-node"]
    assert wanted["signal"].partition("@")[0] == "SIGUSR1"  # what Lightning requeues by, to the processes of srun
    assert "requeue" in wanted
    assert cluster.submit(name, "--data.root=/scratch/imagenet", "--trainer.max_epochs=3").wait(60) == 0
    option, python, script, *words = cluster.words("srun")
    assert (option, python, script) == ("--kill-on-bad-exit=1", "python", "train.py")
    config = parsed(words, monkeypatch, capsys)
    assert config["trainer"]["num_nodes"] == int(wanted["nodes"])
    assert config["trainer"]["devices"] == wanted["gpus-per-node"]
    assert config["trainer"]["max_epochs"] == 3
    data = config["data"]["init_args"]
    assert data["root"] == "/scratch/imagenet"
    assert data["num_workers"] < int(wanted["cpus-per-task"])
    gpus = int(wanted["nodes"]) * int(wanted["gpus-per-node"])
    images = {"resnet50_baseline": 1024, "vit_b_16_baseline": 4096, "resnet50_fine_tuning": 128}  # of the recipes
    assert gpus * data["batch_size"] * config["trainer"]["accumulate_grad_batches"] == images[name]


def test_torchrun_starts_the_processes_of_a_node(cluster, monkeypatch, capsys):
    assert cluster.submit("torchrun").wait(60) != 0  # without a configuration
    assert cluster.submit("torchrun", "configs/digits/editable.yaml", "--trainer.max_epochs=3").wait(60) == 0
    _, program, *words = cluster.words("srun")
    arguments = get_args_parser().parse_args(words)
    wanted = asked("torchrun")
    assert (program, arguments.nnodes, arguments.nproc_per_node) == ("torchrun", wanted["nodes"], "4")
    assert (arguments.rdzv_endpoint, arguments.rdzv_id) == ("a1:29500", "7")
    assert wanted["ntasks-per-node"] == "1"
    assert arguments.training_script == "train.py"
    config = parsed(arguments.training_script_args, monkeypatch, capsys)
    assert (config["trainer"]["num_nodes"], config["trainer"]["devices"]) == (2, "4")
    assert config["trainer"]["max_epochs"] == 3


def test_a_board_is_an_array_of_its_editors(cluster):
    editors = list(yaml.safe_load((ROOT / "results" / "board.yaml").read_text())["editors"])
    assert f"--array=0-{len(editors) - 1}%8" in FILES["board"].read_text()
    job = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    assert cluster.submit("board", "--dry_run", **job).wait(60) == 0
    script, command, *words = cluster.words("python")
    assert (script, command) == ("train.py", "board")
    arguments = board_options().parse_args(words)
    assert (arguments.only, arguments.dry_run) == ([editors[3]], True)
    assert arguments.runs == f"runs/board/{editors[3]}"
    assert cluster.submit("board", **{**job, "SLURM_ARRAY_TASK_ID": str(len(editors))}).wait(60) != 0


def test_a_board_that_runs_out_of_time_keeps_what_it_has_and_is_requeued(cluster):
    process = cluster.submit("board", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3", LONG="yes")
    while not (cluster.folder / "python").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert cluster.words("kept") == ["kept"]
    assert cluster.words("scontrol") == ["requeue 7_3"]
