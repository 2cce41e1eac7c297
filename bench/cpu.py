"""The memory of SmolLM2-135M's four stages on a CPU, full and LoRA: `python -m bench.cpu [--steps 3]`.

A few steps of the profile's lengths, of one row or pair (GRPO: one group of eight completions, four at once), with
random weights of the real shapes; a process each. Prints a Markdown table: the most resident memory, in GiB, and what
llmrl.memory.formula expects, to which the process itself comes, some 0.8.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from bench.gpu import Workplace
from bench.gpu_jobs import OFF, ROOT, Job
from llmrl.graph import STAGES
from llmrl.plan import fit

ONE: dict[str, Any] = {"batch": 1, "micro_batch": 1}
GROUP: dict[str, Any] = {"batch": 8, "micro_batch": 4, "num_generations": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=[*STAGES])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    place = Workplace(ROOT / ".llmrl/bench", smoke=False)
    print("| stage | | resident | expected |\n|---|---|---|---|")
    for stage in arguments.stage:
        for name, lora in {"full": None, "LoRA": fit.LORA}.items():
            changes = (GROUP if stage == "grpo" else ONE) | {"lora": lora, "threads": arguments.threads}
            job = Job("smollm2-135m", stage, OFF, tuple(changes.items()), arguments.steps)
            found = place.attempt(job, cap=None)
            if "failed" in found:
                raise SystemExit("\n".join(found["stderr"]))
            resident, expected = found["peaks"]["training"]["resident"], found["expected"]["training"]
            print(f"| {stage} | {name} | {resident:.2f} | {expected:.2f} |", flush=True)


if __name__ == "__main__":
    main()
