"""The scripts for SLURM, with stand-ins for its commands: what they start, first and when a job is queued again."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.sweep import OPTIONS

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "docs" / "slurm").glob("*.sbatch"))
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")


@pytest.fixture
def start(tmp_path):
    """Runs a script in an empty folder; returns what was started, one line a command."""
    commands = tmp_path / "commands"
    commands.mkdir()
    stand_ins = {
        "srun": 'echo "srun $OMP_NUM_THREADS $*" >> log; eval "${DURING:-}"; exit ${CODE:-0}',
        "scontrol": 'echo "scontrol $*" >> log; [ "$1" = show ] && printf "node1\\nnode2\\n"; true',
        "scancel": 'echo "scancel $*" >> log',
    }
    for name, text in stand_ins.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(0o755)

    def run(script, *argv, **more):
        environment = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "12",
            "SLURM_NNODES": "2",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_CPUS_PER_TASK": "8",
            **more,
        }
        (tmp_path / "log").unlink(missing_ok=True)
        path = ROOT / "docs" / "slurm" / script
        done = subprocess.run(
            ["bash", path, *argv], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.returncode, (tmp_path / "log").read_text().splitlines()

    return run


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_bash_and_their_own_options_exist(path):
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    text = path.read_text()
    used = set(re.findall(r"(--[a-z_-]+)", text.split("-m ")[-1].split("&")[0]))
    assert used <= {"--resume", "--output", *OPTIONS}
    assert len(SCRIPTS) == 2


def test_a_training_starts_on_every_node_and_goes_on_when_it_is_queued_again(start, tmp_path):
    code, lines = start("train.sbatch", "forecasting", "--train.lr=0.1", "--data.path=my sales.csv")
    assert code == 0
    assert lines[0] == "scontrol show hostnames node[1-2]"
    assert lines[1].startswith("srun 4 --kill-on-bad-exit=0 torchrun --nnodes 2 --nproc-per-node 2 ")
    assert "--rdzv-endpoint node1:20012 --rdzv-id 12" in lines[1]
    words = "--train.lr=0.1 --data.path=my sales.csv --output runs/slurm-12"
    assert lines[1].endswith(f"-m tasks.forecasting.train {words}")
    assert len(lines) == 2, "it ended, so that it is not queued again"

    record = tmp_path / "runs" / "slurm-12" / "forecasting" / "20260101" / "run.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    code, lines = start("train.sbatch", "forecasting", "--train.lr=0.1", SLURM_GPUS_ON_NODE="4", CODE="3")
    assert code == 3
    assert "--nproc-per-node 4 " in lines[1]
    assert lines[1].endswith("-m tasks.forecasting.train --resume last --output runs/slurm-12")
    assert len(lines) == 2, "what failed by itself would fail again"


def test_the_signal_before_the_time_limit_stops_the_training_and_queues_it_again(start):
    code, lines = start("train.sbatch", "csi", DURING="kill -USR1 $PPID; sleep 0.5")
    assert lines[2:] == ["scancel --signal=TERM 12.0", "scontrol requeue 12"]
    assert code != 0


def test_a_sweep_of_several_jobs_works_on_one_folder(start):
    code, lines = start("sweep.sbatch", "runs/s", "csi", "--space", "space.yaml", SLURM_CPUS_PER_TASK="2")
    assert code == 0
    assert lines == ["srun 2 python -m tasks.sweep --task csi --output runs/s --space space.yaml"]
