"""`data.preference` of pairs from the policy's own answers: what params.yaml is refused for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmrl import params
from llmrl.errors import InputError

MODEL = "models/sft"
SAMPLED = {"source": "sampled", "policy": MODEL, "rows": "", "eval_rows": ""}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"policy": "data/preference"}, 'data.preference.policy (now "data/preference"): source: sampled asks a model'),
        ({"policy": '""'}, "data.preference.policy is missing: data/preference or, with source: sampled"),
        ({"source": "builtin:arithmetic", "rows": "9", "eval_rows": "9"}, "write data/preference, or source: sampled."),
        ({"policy": "models/dpo"}, 'data.preference.policy (now "models/dpo"): is trained on pairs'),
        ({"policy": "models/reward"}, "is trained on pairs, or from what is; name another, as models/sft."),
        ({"policy": "models/grpo/"}, "is trained on pairs, or from what is"),
        ({"policy": "./models/../models/dpo"}, "is trained on pairs, or from what is"),
        ({"policy": f"{MODEL}\n    samples: 1"}, "data.preference.samples: 1 is less than 2."),
        ({"policy": f"{MODEL}\n    pairs: 0"}, "data.preference.pairs: 0 is less than 1."),
        ({"columns": "{chosen: good}"}, "source: sampled reads no rows, it has the prompts of data/prompts; write {}"),
        (
            {"policy": f"{MODEL}\n    system: Be brief."},
            'data.preference.system (now "Be brief."): source: sampled reads',
        ),
        ({"policy": f"{MODEL}\n    format: openai_preference"}, "data.preference.format"),
        ({"policy": f"{MODEL}\n    eval: test.jsonl"}, "data.preference.eval"),
        ({"revision": "main"}, "data.preference.revision"),
        (
            {"source": "\n    - source: sampled", "policy": "data/preference"},
            "sampled makes pairs",
        ),
    ],
)
def test_refused(setting: Callable[[str, str], None], changes: dict[str, str], expected: str) -> None:
    """With file, line and key, and what would be right."""
    for name, text in (SAMPLED | changes).items():
        setting(f"data.preference.{name}", text)
    with pytest.raises(InputError) as refused:
        params.experiment()

    assert expected in str(refused.value)
    assert str(refused.value).startswith("params.yaml:")


@pytest.mark.parametrize("name", ["sft", "prompts"])
def test_of_pairs_alone(setting: Callable[[str, str], None], name: str) -> None:
    """Neither conversations nor prompts are sampled; nor is a repository of the Hub called so."""
    setting(f"data.{name}.source", "sampled")
    with pytest.raises(InputError, match=rf"data\.{name}\.source: sampled makes pairs of answers: it is for"):
        params.experiment()


@pytest.mark.parametrize("changed", ["samples: 9", "pairs: 3"])
def test_no_effect_on_pairs_of_the_data(setting: Callable[[str, str], None], changed: str) -> None:
    """As nothing is asked."""
    setting("data.preference.policy", f"data/preference\n    {changed}")
    with pytest.raises(InputError, match="has no effect without source: sampled"):
        params.experiment()


@pytest.mark.parametrize("policy", ["models/sft", "models/base", "../elsewhere/model", "dpo"])
def test_taken(setting: Callable[[str, str], None], policy: str) -> None:
    """Any policy that is not made of pairs; all the pairs there are."""
    for name, text in (SAMPLED | {"policy": policy}).items():
        setting(f"data.preference.{name}", text)
    found = params.experiment()

    assert (True, policy, 8, 2) == (
        found.data.preference.sampled,
        found.asked.own.init,
        found.data.preference.samples,
        found.data.preference.pairs,
    )


def test_by_what_the_stages_share(setting: Callable[[str, str], None]) -> None:
    """The policy is asked as `train` says, whatever a stage has of its own, by one process."""
    setting("sft.init", "models/base\n  precision: bf16")
    setting("train.threads", "3")
    setting("launch", "torchrun --standalone --nproc_per_node=2\n".strip())
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("micro_batch: 16", "micro_batch: 8"))
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("micro_batch: 64", "micro_batch: 32"))
    asked = params.experiment().asked

    assert ("auto", 3, 1) == (asked.own.precision, asked.own.threads, asked.processes)
