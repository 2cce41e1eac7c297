"""A model in another precision: nearly the same answers, a whole folder, and nothing written where it does harm."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from clone import toy_clone
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from llmrl import repository
from llmrl.answers.generation import generate
from llmrl.base import build
from llmrl.errors import InputError
from llmrl.export import PRECISIONS, export, not_ours
from llmrl.models.loading import load_classifier, load_policy
from llmrl.models.saving import save
from llmrl.toy import arithmetic

ROOT = Path(__file__).parents[1]
RECORD = {"settings": {"seed": 1}, "device": "cpu"}
# By how much a token's log-probability may differ, and how many of 100 greedy answers, as docs/publishing.md says.
TOLERANCE = {"bfloat16": (0.6, 5), "float16": (0.1, 1), "float32": (0.0, 0)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy and a reward model whose weights no lower precision holds, with records and an adapter."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "base").mkdir()
    build.make_base(str(ROOT / "models/tiny"), folder / "base")
    for name, model in (
        ("policy", load_policy(str(folder / "base"))),
        ("reward", load_classifier(str(folder / "base"), 1)),
    ):
        torch.manual_seed(1)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1 + 0.01 * torch.randn_like(weight))
        save(model, str(folder / "base"), folder / name, {"provenance.json": RECORD})
    (folder / "policy/adapter").mkdir()
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with next to nothing in it, in which the test stands."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project/dvc.yaml").touch()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def prompts(count: int) -> list[list[dict[str, str]]]:
    return [row["prompt"] for row in islice(arithmetic.prompts(7), count)]


def answers(folder: Path, asked: list[list[dict[str, str]]]) -> list[str]:
    """The greedy ones, of the model as it loads by itself."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return [one.text for (one,) in generate(model, tokenizer, asked, 250, do_sample=False, max_new_tokens=32)]


def log_probabilities(folder: Path, asked: list[list[dict[str, str]]], said: list[str]) -> list[torch.Tensor]:
    """Of each token of these answers."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    found = []
    for prompt, text in zip(asked, said, strict=True):
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        first = len(tokenizer(start)["input_ids"])
        tokens = tokenizer(start + text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(tokens).logits[0, first - 1 : -1].float()
        found.append(logits.log_softmax(-1).gather(1, tokens[0, first:, None]))
    return found


def largest_difference(model: Path, exported: Path, asked: list[list[dict[str, str]]], said: list[str]) -> float:
    """Of a token's log-probability."""
    pairs = zip(*(log_probabilities(folder, asked, said) for folder in (model, exported)), strict=True)
    return max((one - other).abs().max().item() for one, other in pairs if one.numel())


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_policy(trained: Path, elsewhere: Path, dtype: str) -> None:
    """A whole folder that loads by itself, each weight rounded once; what made it, and what was done, beside it."""
    model, out = trained / "policy", elsewhere / "out"
    said = export(model, out, dtype)
    weights, rounded = load_file(model / "model.safetensors"), load_file(out / "model.safetensors")
    loaded = AutoModelForCausalLM.from_pretrained(out)

    assert dtype == str(loaded.dtype).removeprefix("torch.") == json.loads((out / "config.json").read_text())["dtype"]
    assert weights.keys() == rounded.keys()
    assert all(torch.equal(weight.to(loaded.dtype), rounded[name]) for name, weight in weights.items())
    same = (model / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert same == (dtype == "float32")
    assert {file.name for file in out.iterdir()} == {file.name for file in model.iterdir() if file.is_file()}
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (model / name).read_bytes() == (out / name).read_bytes()
    record = json.loads((out / "provenance.json").read_text())
    done = record.pop("export")
    assert (RECORD, repository.digest(model), dtype) == (record, done["of"], done["dtype"])
    after, before = map(float, re.findall(r"([\d.]+) MB", said[0]))
    assert (after < 0.6 * before) == (dtype != "float32")
    assert said[1].startswith("left behind: adapter/,")
    asked = prompts(20)
    assert largest_difference(model, out, asked, answers(model, asked)) <= TOLERANCE[dtype][0]


def test_a_reward_model(trained: Path, elsewhere: Path) -> None:
    """It gives nearly the same scores; the head is rounded too."""
    export(trained / "reward", elsewhere / "out", "float16")
    tokens = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    scores = []
    for folder in (trained / "reward", elsewhere / "out"):
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        model.config.pad_token_id = 0
        with torch.no_grad():
            scores.append(model(tokens).logits.float())

    assert (2, 1) == scores[0].shape
    assert 0 < (scores[0] - scores[1]).abs().max() < 0.01


def test_beyond_what_a_precision_holds(trained: Path, elsewhere: Path) -> None:
    """A weight that would be infinite is refused by its name, and nothing is left."""
    model = load_policy(str(trained / "base"))
    with torch.no_grad():
        model.model.norm.weight[3] = 1e5
    save(model, str(trained / "base"), elsewhere / "large", {})

    with pytest.raises(InputError, match=r"model\.norm\.weight has weights beyond what float16 holds"):
        export(elsewhere / "large", elsewhere / "out", "float16")
    assert {"large", "project"} == {path.name for path in elsewhere.iterdir()}
    assert export(elsewhere / "large", elsewhere / "out", "bfloat16")[1].endswith("what made it is not known.")


def test_a_model_that_was_changed(trained: Path, elsewhere: Path) -> None:
    """Its record tells of another, which is said."""
    policy = elsewhere / "project/models/sft"
    save(load_policy(str(trained / "policy")), str(trained / "policy"), policy, {})
    outs = [{"path": "models/sft", "md5": "00.dir"}]
    (elsewhere / "project/dvc.lock").write_text(json.dumps({"stages": {"sft": {"outs": outs}}}))

    said = export(Path("models/sft"), elsewhere / "out", "bfloat16")[1]
    assert said.startswith("models/sft is not what dvc.lock recorded")


def test_nothing_is_lost(trained: Path, elsewhere: Path) -> None:
    """No folder that holds something, and none whose hidden neighbour does."""
    (elsewhere / "out").mkdir()
    export(trained / "policy", elsewhere / "out", "bfloat16")
    kept = repository.digest(elsewhere / "out")
    (elsewhere / ".ssh").mkdir()

    with pytest.raises(InputError, match="exists and is not empty"):
        export(trained / "policy", elsewhere / "out", "float16")
    with pytest.raises(InputError, match=r"\.ssh is where the model is written until it is whole, and exists"):
        export(trained / "policy", elsewhere / "ssh", "float16")
    with pytest.raises(InputError, match="out is itself exported, in bfloat16"):
        export(elsewhere / "out", elsewhere / "other", "float32")
    assert kept == repository.digest(elsewhere / "out")
    assert (elsewhere / ".ssh").exists()
    assert not (elsewhere / "other").exists()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("out", ["models/grpo", "models/new", "data/x", "metrics/x", ".dvc/x", ".git/x", "../project"])
def test_never_where_dvc_looks(trained: Path, out: str) -> None:
    """There it would be a change of a product."""
    with pytest.raises(InputError, match="lies in a folder of a project"):
        export(trained / "policy", Path(out), "bfloat16")
    assert ["dvc.yaml"] == [path.name for path in Path.cwd().iterdir()]


def test_never_in_another_project(trained: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the command is given; beside its own folders, and where no project is, it may."""
    monkeypatch.chdir(elsewhere)
    (elsewhere / "project/models").mkdir()
    (elsewhere / "project/models/dvc.yaml").touch()
    (elsewhere / "link").symlink_to("project/models")
    for out in ("project/models/mine", "project/data", "project", "link/mine"):
        with pytest.raises(InputError, match=f"^{out} lies in a folder of a project, {elsewhere / 'project'}"):
            export(trained / "policy", Path(out), "bfloat16")
    assert ["dvc.yaml"] == [path.name for path in (elsewhere / "project/models").iterdir()]
    for out in ("project/published", "models/mine"):
        assert Path(out).resolve() == not_ours(Path(out))


def test_mistakes_are_found_at_once(elsewhere: Path) -> None:
    """On the command line, before torch is loaded, in one line."""
    (elsewhere / "empty").mkdir()
    code = (
        "import sys, runpy; sys.argv[0] = 'llmrl.export'\ntry: runpy.run_module('llmrl.export', run_name='__main__')\n"
    )
    code += "finally: print('torch' in sys.modules)"
    for arguments, expected in {
        ("../empty", "../out"): "../empty is not a model's folder",
        ("../empty", "models/x"): "models/x lies in a folder of a project",
        ("../empty", "../out", "--dtype", "int8"): "invalid choice: 'int8'",
    }.items():
        done = subprocess.run(
            (sys.executable, "-c", code, *arguments),
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (2, "False\n") == (done.returncode, done.stdout)
        assert expected in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_toy_answers_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What DPO made of the built-in model gives all but a few of the held-out prompts the same answer."""
    clone = toy_clone(tmp_path / "project")
    clone.run("dvc", "repro", "dpo")
    monkeypatch.chdir(clone.folder)
    rows: list[dict[str, Any]] = pq.read_table("data/prompts/eval.parquet").to_pylist()
    asked = [row["prompt"] for row in rows]
    said = answers(Path("models/dpo"), asked)
    for dtype in PRECISIONS:
        export(Path("models/dpo"), tmp_path / dtype, dtype)
        differ = sum(one != other for one, other in zip(said, answers(tmp_path / dtype, asked), strict=True))
        print(dtype, differ, largest_difference(Path("models/dpo"), tmp_path / dtype, asked, said))
        assert differ <= TOLERANCE[dtype][1] * len(asked) / 100
        assert largest_difference(Path("models/dpo"), tmp_path / dtype, asked, said) <= TOLERANCE[dtype][0]
