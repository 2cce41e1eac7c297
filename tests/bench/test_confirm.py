"""bench.confirm: what it gives lm-evaluation-harness, what it makes of its results, and that a real server says what
`generate` says. The harness itself is asked where it can be imported: PYTHONPATH may name where it lies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from small import TINY, experiment

from bench import confirm
from llmrl import repository
from llmrl.answers.final import KINDS
from llmrl.answers.generation import answering, generate
from llmrl.errors import InputError
from llmrl.measuring.answers import HELD_OUT_PROMPTS, summary, tabled, with_origin
from llmrl.models.loading import load_policy, load_tokenizer
from llmrl.training import rows

ROOT = Path(__file__).parents[2]
SYSTEM = {"role": "system", "content": "Sums.\n"}
TURNS = [
    *([{"role": "user", "content": f"What is {one} + {3 * one}?"}] for one in range(1, 10)),
    [SYSTEM, {"role": "user", "content": "row"}],  # also the name of a column
    [SYSTEM, {"role": "user", "content": "{{ 1 + 1 }}?"}],
    [*([{"role": role, "content": "4"} for role in ("user", "assistant", "user")])],
]
NEW = 8
BASE = Path("models/base")


def solution(row: int) -> str | None:
    """Of a prompt; the first has none."""
    return str(4 * row + 4) if row else None


@pytest.fixture(scope="module")
def run_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves of a model and its greedy answers, as far as it is asked for; the model is the built-in one,
    whose makers had it punished for repeating itself.
    """
    folder = tmp_path_factory.mktemp("project")
    model, kept = folder / "models/base", folder / "metrics/sft/held_out"
    shutil.copytree(TINY, model)
    generation_config = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(generation_config | {"repetition_penalty": 5.0}))
    asked = [{"prompt": turns, "solution": solution(row), "extra": None} for row, turns in enumerate(TURNS)]
    (folder / HELD_OUT_PROMPTS).parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(asked), folder / HELD_OUT_PROMPTS)
    policy, tokenizer = load_policy(str(model)), load_tokenizer(str(model))
    with answering(policy, "fp32"):
        answers = generate(policy, tokenizer, TURNS, 4, max_new_tokens=NEW, do_sample=False)
    prompts = rows.read(folder / HELD_OUT_PROMPTS).add_column("row", [*range(len(TURNS))])
    protocol = asdict(experiment().stages["sft"].answers) | {"max_new_tokens": NEW, "precision": "fp32"}
    table = tabled("base", prompts, answers, answers, KINDS)
    table = with_origin(table, model=repository.digest(model), answers=protocol)
    kept.mkdir(parents=True)
    pq.write_table(table, kept / "before.parquet")
    (kept.parent / "metrics.json").write_text(json.dumps({"sft": {"answers_before": summary(table)}}))
    return folder


@pytest.fixture
def found(run_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> confirm.Ours:
    """What is found of the model in a copy of it, in which we are."""
    shutil.copytree(run_project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return confirm.ours(BASE)


def marked(marks: tuple[str, ...], text: str) -> str:
    """What the harness' filter gives, with the pattern of the task: lm_eval/filters/extraction.py."""
    pattern = "(?s)" + "|".join(rf"\A.*{confirm.MARKED[kind]}" for kind in marks)
    matches = re.findall(pattern, text)
    last = matches[-1] if matches else "[invalid]"
    return (next(filter(None, last), "[invalid]") if isinstance(last, tuple) else last).strip()


def equal(answer: str, wanted: str) -> bool:
    """Whether the harness' metric finds them to be: lm_eval/api/metrics.py."""
    for ignored in confirm.IGNORED:
        answer, wanted = (re.sub(ignored, "", text) for text in (answer, wanted))
    return answer.lower() == wanted.lower()


@pytest.mark.parametrize(
    ("text", "marks", "answer"),
    [
        (r"\boxed{1} or \boxed{2}.", KINDS, "2"),
        (r"\boxed{\frac{\sqrt{2}}{3}}", KINDS, r"\frac{\sqrt{2}}{3}"),
        (r"\boxed{1} <answer>2</answer>", KINDS, "1"),
        (r"\boxed{1} <answer>2</answer>", ("tag", "boxed"), "2"),
        ("<answer>1</answer> <answer> 2 </answer> so", ("tag",), "2"),
        ("1 + 1\n#### 2\n", KINDS, "2"),
        ("The answer is 1. No.\nThe answer is **2.5**. Yes.", KINDS, "2.5"),
        ("The answer to 1 + 1 is $2$.", KINDS, "2"),
        ("Answer: 2", KINDS, "2"),
        ("1 + 1 = 2", KINDS, "[invalid]"),
        (r"\boxed{1}", ("hash", "phrase"), "[invalid]"),
    ],
)
def test_the_last_mark_of_the_first_kind_counts(text: str, marks: tuple[str, ...], answer: str) -> None:
    assert answer == marked(marks, text)


@pytest.mark.parametrize(
    ("answer", "wanted", "same"),
    [
        ("72", "72", True),
        ("1,072", "1072", True),
        ("$72.00", "72", True),
        ("72", "40 + 32 =\n#### 72", True),
        (r"\frac{1}{2}", r"so it is $\boxed{\frac{1}{2}}$.", True),
        ("Yes", "yes", True),
        ("7", "72", False),
        ("72.5", "72", False),
        ("-72", "72", False),
        ("[invalid]", "72", False),
    ],
)
def test_what_is_the_same_to_the_harness(answer: str, wanted: str, same: bool) -> None:
    assert same == equal(answer, wanted)


def test_the_task_that_is_written(found: confirm.Ours) -> None:
    """What the harness cannot ask or judge is left out; the rest is columns, of which nothing is read as a template."""
    asked = confirm.questions(found.rows)
    confirm.write_task(Path("task"), asked, found.answers)
    task = yaml.safe_load(Path("task/held_out.yaml").read_text())
    (data_file,) = task["dataset_kwargs"]["data_files"].values()
    written = [json.loads(line) for line in Path(data_file).read_text().splitlines()]

    assert [*range(1, 11)] == [line["row"] for line in written]
    assert {"row": 1, "system": None, "user": "What is 2 + 6?", "solution": "8"} == written[0]
    assert ("Sums.\n", "row") == (written[8]["system"], written[8]["user"])
    assert {task[field] for field in ("description", "doc_to_text", "doc_to_target")} < written[0].keys()
    assert {"until": [], "do_sample": False, "max_gen_toks": NEW} == task["generation_kwargs"]
    assert ["marked", "flexible"] == [each["name"] for each in task["filter_list"]]


def test_prompts_are_those_that_generate_asks(found: confirm.Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token for token, where the turns of the task are put into the chat template as the harness does it."""
    seen: list[list[int]] = []
    asked = confirm.questions(found.rows)
    policy, tokenizer = load_policy("models/base"), load_tokenizer("models/base")

    def generated(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        seen.append(input_ids[0].tolist())
        return torch.cat([input_ids, torch.full_like(input_ids[:, :1], tokenizer.eos_token_id)], 1)

    monkeypatch.setattr(policy, "generate", generated)
    for each in asked:
        generate(policy, tokenizer, [found.rows[each["row"]]["turns"]], 1)
    texts = [
        tokenizer.apply_chat_template(
            [{"role": role, "content": each[role]} for role in ("system", "user") if each[role]],
            tokenize=False,
            add_generation_prompt=True,
        )
        for each in asked
    ]

    assert texts == confirm.rendered(BASE, [found.rows[each["row"]] for each in asked])
    assert seen == tokenizer(texts, add_special_tokens=False)["input_ids"]


@pytest.mark.usefixtures("found")
def test_a_model_is_asked_without_its_makers_penalties() -> None:
    """Whatever else lies in its folder is the same."""
    into = confirm.plain(BASE, Path("plain"))
    left = json.loads((into / "generation_config.json").read_text())

    assert {"eos_token_id": 2, "pad_token_id": 0} == left
    assert 5.0 == json.loads(Path("models/base/generation_config.json").read_text())["repetition_penalty"]
    assert {file.name for file in BASE.iterdir()} == {file.name for file in into.iterdir()}


def told(one: confirm.Ours, **other: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Results and log as the harness writes them where it finds what we do, but for another text, verdict or prompt of
    the first question.
    """
    asked = confirm.questions(one.rows)
    prompts = confirm.rendered(one.folder, [one.rows[each["row"]] for each in asked])
    samples = [
        {
            "doc": each,
            "filter": name,
            "arguments": {"gen_args_0": {"arg_0": prompt}},
            "resps": [[one.rows[each["row"]]["greedy"]]],
            "filtered_resps": ["0"],
            "exact_match": float(one.rows[each["row"]]["greedy_right"]),
        }
        for name in ("marked", "flexible")
        for each, prompt in zip(asked, prompts, strict=True)
    ]
    samples[0] |= other
    mean = sum(sample["exact_match"] for sample in samples[: len(asked)]) / len(asked)
    return {"results": {"held_out": {"exact_match,marked": mean, "exact_match,flexible": mean}}}, samples


@pytest.mark.parametrize(
    ("other", "difference", "same_texts", "same_prompts", "named"),
    [
        ({}, 0.0, 10, 10, 0),
        ({"resps": [["another"]]}, 0.0, 9, 10, 1),
        ({"exact_match": 1.0}, 0.1, 10, 10, 1),
        ({"arguments": {"gen_args_0": {"arg_0": "another"}}}, 0.0, 10, 9, 0),
    ],
)
def test_differences_are_named(
    found: confirm.Ours, other: dict, difference: float, same_texts: int, same_prompts: int, named: int
) -> None:
    asked = confirm.questions(found.rows)
    prompts = confirm.rendered(found.folder, [found.rows[each["row"]] for each in asked])
    result = confirm.compared(found, asked, prompts, *told(found, **other))
    result["served"] = {"n": 10, "same_texts": 10, "differ": []}

    assert (10, 2, same_texts, same_prompts) == tuple(
        result[key] for key in ("n", "left_out", "same_texts", "same_prompts")
    )
    assert difference == pytest.approx(result["difference"])
    assert (named * [(1, "What is 2 + 6?")]) == [(each["row"], each["prompt"]) for each in result["differ"]]
    assert (difference == 0 and same_prompts == 10) == confirm.confirmed(result)
    assert ("row 2, 'What is 2 + 6?'" in "\n".join(confirm.lines(result))) == bool(difference)


def test_one_answer_in_a_hundred_is_allowed() -> None:
    served = {"n": 10, "same_texts": 10, "differ": []}
    result = {"n": 300, "same_prompts": 300, "served": served, "precision": "fp32"}

    for difference, near in ((0.33 - 0.34, True), (4 / 300, False), (-4 / 300, False)):
        assert near == confirm.confirmed(result | {"difference": difference})
    another = result | {"difference": 0.0, "served": served | {"same_texts": 9}}
    assert not confirm.confirmed(another)
    assert confirm.confirmed(another | {"precision": "bf16"})


@pytest.mark.parametrize(("other", "status"), [({}, 0), ({"exact_match": 1.0}, 1)])
def test_exit_status(found: confirm.Ours, monkeypatch: pytest.MonkeyPatch, other: dict, status: int) -> None:
    """By what the harness and the server find, which are not asked here."""
    monkeypatch.setattr(confirm, "beside", lambda _: [])
    monkeypatch.setattr(confirm, "judged", lambda *_: told(found, **other))
    monkeypatch.setattr(confirm, "served", lambda *_: {"n": 10, "same_texts": 10, "differ": []})
    monkeypatch.setattr(confirm.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["confirm", "--models", "models/base", "--out", "found/confirm.json"])
    with pytest.raises(SystemExit) as ended:
        confirm.main()
    (written,) = json.loads(Path("found/confirm.json").read_text())

    assert status == ended.value.code
    assert (status == 0, "models/base", 10) == (written["confirmed"], written["model"], written["n"])


@pytest.mark.usefixtures("found")
def test_what_has_no_answers() -> None:
    """A model that is not there, or not the one that answered; figures that were edited; other prompts."""
    with pytest.raises(InputError, match="models/grpo: there is no model"):
        confirm.ours(Path("models/grpo"))
    file = Path("metrics/sft/metrics.json")
    figures = json.loads(file.read_text())
    file.write_text(json.dumps({"sft": {"answers_before": figures["sft"]["answers_before"] | {"greedy": 0.9}}}))
    with pytest.raises(
        InputError, match=r"sft\.answers_before\.greedy is not what metrics/sft/held_out/before\.parquet"
    ):
        confirm.ours(BASE)
    file.write_text(json.dumps(figures))
    pq.write_table(pq.read_table(HELD_OUT_PROMPTS).slice(1), HELD_OUT_PROMPTS)
    with pytest.raises(InputError, match=r"row 1 of data/prompts/eval\.parquet is another prompt"):
        confirm.ours(BASE)
    Path("models/base/more.txt").write_text("another model")
    with pytest.raises(InputError, match="no answers are of the model that is in models/base"):
        confirm.ours(BASE)


def call(*options: str) -> subprocess.CompletedProcess[str]:
    """The command, in the project we are in."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = (sys.executable, "-m", "bench.confirm", "--models", "models/base", *options)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("found")
def test_where_there_is_no_harness() -> None:
    """It is said how to install it, before anything else is done."""
    done = call("--harness", "models")

    assert (2, "") == (done.returncode, done.stdout)
    assert "bench.confirm: lm_eval is not in models. `python -m pip freeze > locked.txt`" in done.stderr


@pytest.mark.slow
def test_a_server_says_what_generate_says(found: confirm.Ours) -> None:
    """And another text is named; the server ends, also where it is asked for what it cannot do."""
    model = confirm.plain(found.folder, Path("plain"))
    found.rows[3]["greedy"] = "another"
    result = confirm.served(model, found, Path("serve.log"))
    with suppress(KeyError), confirm.serving(model, Path("again.log")) as url:
        raise KeyError
    (model / "config.json").unlink()

    assert (10, 9, [3]) == (result["n"], result["same_texts"], [each["row"] for each in result["differ"]])
    assert not confirm.healthy(url)
    with pytest.raises(InputError, match=r"broken\.log: transformers serve does not answer"):
        confirm.served(model, found, Path("broken.log"))


TOKENS = """
import json, sys
from lm_eval.models.huggingface import HFLM
model = HFLM(pretrained="models/base", dtype="float32", device="cpu", add_bos_token=False)
ids, mask = model.tok_batch_encode(json.load(sys.stdin))
print(json.dumps([row[kept.bool()].tolist() for row, kept in zip(ids, mask)]))
"""


@pytest.mark.slow
def test_the_harness_finds_the_same(found: confirm.Ours) -> None:
    """The real one: the same tokens of the prompts, the same texts, and the same figure."""
    if subprocess.run((sys.executable, "-c", "import lm_eval"), capture_output=True, check=False).returncode:
        pytest.skip("lm_eval is not installed; bench/confirm.py says how")
    prompts = confirm.rendered(found.folder, [found.rows[each["row"]] for each in confirm.questions(found.rows)])
    asked = subprocess.run(
        (sys.executable, "-c", TOKENS), input=json.dumps(prompts), capture_output=True, text=True, check=True
    )
    done = call()
    (result,) = json.loads(Path("bench/results/confirm.json").read_text())
    tokenizer = load_tokenizer("models/base")

    assert tokenizer(prompts, add_special_tokens=False)["input_ids"] == json.loads(asked.stdout.splitlines()[-1])
    assert (0, "") == (done.returncode, done.stderr)
    assert (10, 10, 10) == tuple(result[key] for key in ("n", "same_prompts", "same_texts"))
    assert {"n": 10, "same_texts": 10, "differ": []} == result["served"]
