"""What several processes hold that one does not: the gradients once more, laid end to end to be sent."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small import ROOT, settings
from tensors import BUILT_IN

from llmrl.memory import formula
from llmrl.memory.formula import Planned
from llmrl.memory.shape import Shape

SCRIPT = """
import torch
import transformers
from torch.nn.parallel import DistributedDataParallel

from llmrl.models import loading
from small import TINY
from tensors import Live

torch.distributed.init_process_group("gloo")
model = loading.load_policy(TINY)
with Live(*model.parameters()) as live:
    shared = DistributedDataParallel(model)
    for _ in range(2):  # after the first the buckets are laid out anew, in the order of the backward pass
        shared(input_ids=torch.ones(1, 8, dtype=torch.long)).logits.sum().backward()
gradients = sum(parameter.grad.nbytes for parameter in model.parameters())
if torch.distributed.get_rank() == 0:
    print(live.live - gradients)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_gradients_to_send(tmp_path: Path) -> None:
    """Each of two processes keeps as many bytes for them as the formula says, within a hundredth."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "script.py"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    one = Planned(Shape.of(BUILT_IN), settings("sft"), "fp32")
    two = replace(one, settings=replace(one.settings, processes=2))
    kept = int(done.stdout)

    assert abs(kept - formula.always(two)["gradients to send"]) <= 0.01 * kept
    assert "gradients to send" not in formula.always(one)
