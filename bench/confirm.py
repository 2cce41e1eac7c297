r"""Whether others find of a model what metrics/ says: `python -m bench.confirm [--models models/base models/grpo]`.

    lm-evaluation-harness    asks the held-out prompts as a task of its own, and judges the answers itself
    transformers serve       answers the first ten of them

In a project that has been run, where DVC's outs are. Both are asked for plain greedy answers, of as many tokens as
`answers` had then. lm-evaluation-harness is no part of the environment. It is installed beside it, in a folder of its
own, by two commands that leave the locked packages as they are:

    python -m pip freeze > locked.txt
    python -m pip install --prefix harness -c locked.txt lm_eval==0.4.13

and `--harness harness` names that folder. The task, its prompts and what the harness logged stay in
.llmrl/bench/confirm. Prints both figures, and the prompts on which the verdicts differ; everything is in
bench/results/confirm.json, with both texts. Exit status 1 where the figures are further apart than one answer in a
hundred, where the harness did not ask what we asked, or where a served text is another. But where answers were in half
precision: as autocast has it, which the harness does and a server does not, so that its texts, in float32, may differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import yaml

from llmrl import devices, repository
from llmrl.answers.generation import SPECIAL_TOKENS
from llmrl.errors import InputError, reported
from llmrl.graph import STAGES
from llmrl.measuring.answers import HELD_OUT_PROMPTS, made_of, summary
from llmrl.models import DTYPES

WORK = Path(".llmrl/bench/confirm")
TASK = "held_out"
ALLOWED = 0.01  # between two figures
SERVED = 10
PATIENCE = 600.0  # seconds for a server to have loaded its model, and for an answer
SHOWN = 5  # prompts of which two texts are printed
FIGURES = {"before": "answers_before", "after": "answers"}  # of metrics.json, by the table they are counted from
# As one would write them in a task of the harness. Nothing of them is ours: what our judge finds is to be confirmed.
MARKED = {
    "boxed": r"\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}",
    "hash": r"####([^\n]*)",
    "tag": r"<answer>(.*?)</answer>",
    "phrase": r"(?i:\banswer(?: (?:to|of|for) [^.\n]{,80}?)?(?: is|:))[\s:*$]*([^\n]*?)[*$]*(?=\.\s|\.?\Z|\n)",
}
LAST_NUMBER = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"  # the harness' own, of its task gsm8k
# What is nothing to an answer or a solution: steps before its mark, what closes a box, commas, .0 of a number.
IGNORED = [r"(?s)\A.*####", r"(?s)\A.*\\boxed\{", r"[\s$.}]+\Z", r"[\s,$*]", r"\.0*\Z"]


@dataclass(frozen=True)
class Ours:
    """What metrics/ has of the greedy answers of a model: a figure, by its file, and the rows that it was counted from,
    as in llmrl/measuring/answers.py, with the prompt's turns as `turns`; how they were asked for (`answers`).
    """

    folder: Path
    figure: float
    file: Path
    rows: list[dict[str, Any]]
    answers: dict[str, Any]

    @property
    def precision(self) -> str:
        """That of the arithmetic: fp32, bf16 or fp16."""
        asked: str = self.answers["precision"]
        return devices.machine().precision if asked == "auto" else asked


def ours(folder: Path) -> Ours:
    """Of the model in a folder, which its hash tells. Raises InputError where metrics/ has nothing of it."""
    if not (folder / "config.json").exists():
        raise InputError(f"{folder}: there is no model. `dvc repro` makes those of a project.")
    model = repository.digest(folder)
    for stage, (when, name) in ((stage, pair) for stage in STAGES for pair in FIGURES.items()):
        file, kept = Path("metrics", stage, "metrics.json"), Path("metrics", stage, "held_out", f"{when}.parquet")
        if not (file.exists() and kept.exists()) or made_of(table := pq.read_table(kept)).get("model") != model:
            continue
        figure = json.loads(file.read_text())[stage].get(name, {}).get("greedy")
        if figure is None or figure != summary(table).get("greedy"):
            raise InputError(f"{file}: {stage}.{name}.greedy is not what {kept} gives. `dvc repro` makes both anew.")
        rows = table.select(["row", "prompt", "solution", "greedy", "greedy_right"]).to_pylist()
        return Ours(folder, figure, file, with_turns(rows, kept), made_of(table)["answers"])
    raise InputError(f"metrics/*/held_out: no answers are of the model that is in {folder}. `dvc repro` gives them.")


def with_turns(rows: list[dict[str, Any]], kept: Path) -> list[dict[str, Any]]:
    """The rows with the turns of their prompts, from the held-out prompts as they are now."""
    from llmrl.training import rows as data

    prompts = dict(enumerate(data.read(HELD_OUT_PROMPTS)["prompt"]))
    for row in rows:
        row["turns"] = prompts.get(row["row"])
        if row["turns"] is None or row["turns"][-1]["content"] != row["prompt"]:
            raise InputError(f"{kept}: row {row['row'] + 1} of {HELD_OUT_PROMPTS} is another prompt than it answers.")
    return rows


def questions(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the harness can ask and judge: with a solution, and of a user's turn alone or after a system's."""
    found = []
    for row in rows:
        system, user = ([{"content": None}] if len(row["turns"]) == 1 else []) + list(row["turns"][:2])
        plain = [turn["role"] for turn in row["turns"]] in (["user"], ["system", "user"])
        if plain and row["solution"] is not None:
            texts = {"system": system["content"], "user": user["content"], "solution": row["solution"]}
            found.append({"row": row["row"]} | texts)
    return found


def write_task(folder: Path, asked: list[dict[str, Any]], answers: dict[str, Any]) -> None:
    """The harness' task, in YAML, and its prompts, in JSON lines.

    The harness makes turns of `description` and `doc_to_text`, columns here, and puts them into the chat template. Its
    documentation: https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/task_guide.md
    """
    folder.mkdir(parents=True)
    prompts = folder / f"{TASK}.jsonl"
    prompts.write_text("".join(json.dumps(one) + "\n" for one in asked))
    # The last mark of the first kind that a text has: the alternatives are tried in order, each as late as can be.
    marked = "(?s)" + "|".join(rf"\A.*{MARKED[kind]}" for kind in answers["marks"])
    filters = {"marked": marked, "flexible": LAST_NUMBER}
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(prompts.absolute())}},
        "test_split": "test",
        "output_type": "generate_until",
        "num_fewshot": 0,
        "description": "system",
        "doc_to_text": "user",
        "doc_to_target": "solution",
        # Else it would end at an empty line. The turn's end it adds by itself.
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": answers["max_new_tokens"]},
        "filter_list": [
            {
                "name": name,
                "filter": [
                    {"function": "regex", "regex_pattern": pattern, "group_select": -1},
                    {"function": "take_first"},
                ],
            }
            for name, pattern in filters.items()
        ],
        "metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
            | {"ignore_case": True, "regexes_to_ignore": IGNORED}
        ],
        "metadata": {"version": 1.0},
    }
    (folder / f"{TASK}.yaml").write_text(yaml.safe_dump(task, sort_keys=False))


def plain(model: Path, into: Path) -> Path:
    """The model, with special tokens alone in its generation config: neither its makers' way to sample it nor their
    penalties are measured (llmrl/answers/generation.py), and both programs would go by them.
    """
    into.mkdir(parents=True)
    for file in (file for file in model.iterdir() if file.is_file()):
        (into / file.name).symlink_to(file.resolve())
    config = into / "generation_config.json"
    if config.exists():
        kept = {name: value for name, value in json.loads(config.read_text()).items() if name in SPECIAL_TOKENS}
        config.unlink()
        config.write_text(json.dumps(kept))
    return into


def beside(folder: Path | None) -> list[str]:
    """Where the harness is installed, to look there first. Raises InputError where it is not."""
    places = [*map(str, (folder, *folder.glob("lib/python*/site-packages")))] if folder else []
    if PathFinder.find_spec("lm_eval", places or None) is None:
        raise InputError(
            f"bench.confirm: lm_eval is not {f'in {folder}' if folder else 'in this environment'}. "
            "`python -m pip freeze > locked.txt`, then `python -m pip install --prefix harness -c locked.txt "
            "lm_eval==0.4.13` installs it into a folder of its own, which `--harness harness` names."
        )
    return places


def judged(model: Path, task: Path, found: Ours, places: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the harness finds: its results, and its log of each prompt, once for each filter."""
    out, log = task.with_name("harness"), task.with_name("harness.log")
    mixed = [] if found.precision == "fp32" else [f"mixed_precision_dtype={DTYPES[found.precision]}"]
    about = [f"pretrained={model}", "dtype=float32", "add_bos_token=False", *mixed]  # the template has what there is
    asked = ["--tasks", TASK, "--include_path", task, "--apply_chat_template", "--batch_size", found.answers["batch"]]
    command = [sys.executable, "-P", "-m", "lm_eval", "run", "--model", "hf", "--model_args", *about, *asked]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(task.with_name("cache").absolute())}
    environment["PYTHONPATH"] = os.pathsep.join([*places, *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("w") as lines:
        told = [*map(str, [*command, "--log_samples", "--output_path", out])]
        done = subprocess.run(told, env=environment, stdout=lines, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise InputError(f"{log}: lm_eval ended with {done.returncode}; the last it said: {last_line(log)}")
    (results,), (samples,) = out.rglob("results_*.json"), out.rglob(f"samples_{TASK}_*.jsonl")
    return json.loads(results.read_text()), [json.loads(line) for line in samples.read_text().splitlines()]


def last_line(log: Path) -> str:
    return next(reversed(log.read_text(errors="replace").split("\n")[:-1]), "")


def compared(
    found: Ours, asked: list[dict[str, Any]], prompts: list[str], results: dict[str, Any], samples: list[dict[str, Any]]
) -> dict[str, Any]:
    """Both figures, over the prompts that were asked, and the prompts on which text or verdict differ, with both.

    `prompts` are those of `asked` as we give them to the model.
    """
    figures, rows = results["results"][TASK], {row["row"]: row for row in found.rows}
    told = {one["doc"]["row"]: one for one in samples if one["filter"] == "marked"}
    if told.keys() != {one["row"] for one in asked}:
        raise InputError(f"lm_eval has answers to {len(told)} of the {len(asked)} prompts it was given.")
    same_prompts, differ = 0, []
    for one, prompt in zip(asked, prompts, strict=True):
        row, theirs = rows[one["row"]], told[one["row"]]
        same_prompts += prompt == theirs["arguments"]["gen_args_0"]["arg_0"]
        (text,), right = theirs["resps"][0], bool(theirs["exact_match"])
        if text != row["greedy"] or right != row["greedy_right"]:
            both = {
                "ours": {"text": row["greedy"], "right": row["greedy_right"]},
                "theirs": {"text": text, "answer": theirs["filtered_resps"][0], "right": right},
            }
            differ.append({"row": row["row"], "prompt": row["prompt"], "solution": row["solution"]} | both)
    mean = sum(rows[one["row"]]["greedy_right"] for one in asked) / len(asked)
    return {
        "model": str(found.folder),
        "file": str(found.file),
        "figure": found.figure,
        "precision": found.precision,
        "n": len(asked),
        "left_out": len(found.rows) - len(asked),
        "ours": mean,
        "theirs": figures["exact_match,marked"],
        "last_number": figures["exact_match,flexible"],
        "difference": figures["exact_match,marked"] - mean,
        "same_prompts": same_prompts,
        "same_texts": len(asked) - sum(one["ours"]["text"] != one["theirs"]["text"] for one in differ),
        "differ": differ,
    }


@contextmanager
def serving(model: Path, log: Path) -> Iterator[str]:
    """A server of a model, by its address; it ends with this, whatever happens.

    Left to itself it would compute in the precision that the weights lie in, which of a base may be half.
    """
    with socket.socket() as lent:
        lent.bind(("127.0.0.1", 0))
        port = lent.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = (program, "serve", model, "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port))
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("w") as lines, subprocess.Popen(command, env=environment, stdout=lines, stderr=lines) as server:
        try:
            until, url = time.monotonic() + PATIENCE, f"http://127.0.0.1:{port}"
            while not healthy(url):
                if server.poll() is not None or time.monotonic() > until:
                    raise InputError(f"{log}: transformers serve does not answer; the last it said: {last_line(log)}")
                time.sleep(0.5)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def served(model: Path, found: Ours, log: Path) -> dict[str, Any]:
    """What a server of the model answers to the first prompts, and which of these texts are not ours."""
    rows, differ = found.rows[:SERVED], []
    with serving(model, log) as url:
        for row in rows:
            turns = [{"role": turn["role"], "content": turn["content"]} for turn in row["turns"]]
            asked = {"model": str(model), "messages": turns, "temperature": 0, "stream": False}
            asked["max_tokens"] = found.answers["max_new_tokens"]
            answer = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=PATIENCE)
            if answer.is_error:
                raise InputError(f"{log}: transformers serve answers {answer.status_code}: {answer.text[:300]}")
            text = answer.json()["choices"][0]["message"]["content"]
            if text.strip() != row["greedy"].strip():  # it takes white space off the ends, as of an answer cut off
                differ.append({"row": row["row"], "prompt": row["prompt"], "ours": row["greedy"], "theirs": text})
    return {"n": len(rows), "same_texts": len(rows) - len(differ), "differ": differ}


def rendered(model: Path, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The prompts as llmrl.answers.generation.generate gives them to the tokenizer."""
    from llmrl.models.loading import load_tokenizer

    tokenizer = load_tokenizer(str(model))
    return [tokenizer.apply_chat_template(row["turns"], tokenize=False, add_generation_prompt=True) for row in rows]


def confirmed(one: dict[str, Any]) -> bool:
    """Whether a model's figure and texts are what others find."""
    near = abs(one["difference"]) <= ALLOWED + 1e-9  # of an exact hundredth that is no number of binary digits
    same = one["served"]["same_texts"] == one["served"]["n"] or one["precision"] != "fp32"
    return near and same and one["same_prompts"] == one["n"]


def of_model(found: Ours, places: list[str]) -> dict[str, Any]:
    """All of one model."""
    work = WORK / found.folder.name
    shutil.rmtree(work, ignore_errors=True)
    model, task, asked = plain(found.folder, work / "model"), work / "task", questions(found.rows)
    write_task(task, asked, found.answers)
    rows = {row["row"]: row for row in found.rows}
    results, samples = judged(model, task, found, places)
    prompts = rendered(model, [rows[one["row"]] for one in asked])
    one = compared(found, asked, prompts, results, samples)
    one["served"] = served(model, found, work / "serve.log")
    versions = {name: results.get(f"{name}_version") for name in ("lm_eval", "transformers")}
    return one | {"confirmed": confirmed(one), "versions": versions}


def lines(one: dict[str, Any]) -> Iterator[str]:
    """A model's result, in words."""
    texts = f"{one['same_texts']} of {one['n']} texts are the same"
    yield (
        f"{one['model']:14} {one['n']:5} {one['ours']:7.3f} {one['theirs']:7.3f} {one['difference']:+11.3f} "
        f"{one['last_number']:11.3f}   {texts}; served {one['served']['same_texts']} of {one['served']['n']}"
    )
    if one["left_out"]:
        yield f"  {one['left_out']} further prompts are left out: without a solution, or of other turns than one"
    if one["same_prompts"] < one["n"]:
        yield f"  {one['n'] - one['same_prompts']} prompts were not asked as ours are"
    verdicts = [each for each in one["differ"] if each["ours"]["right"] != each["theirs"]["right"]]
    for each in verdicts[:SHOWN]:
        yield f"  row {each['row'] + 1}, {each['prompt']!r}, solution {each['solution']!r}"
        for side in ("ours", "theirs"):
            said = {key: value for key, value in each[side].items() if key != "text"}
            yield f"    {side:6} {said} {each[side]['text']!r}"
    if len(verdicts) > SHOWN:
        yield f"  and {len(verdicts) - SHOWN} further prompts on which the verdicts differ"
    for each in one["served"]["differ"]:
        yield f"  row {each['row'] + 1}, served {each['theirs']!r}, ours {each['ours']!r}"


def main() -> None:
    """Ask both of each model, print and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = [Path("models/base"), Path("models/grpo")]
    parser.add_argument("--models", type=Path, nargs="+", default=models, metavar="FOLDER")
    parser.add_argument("--harness", type=Path, metavar="FOLDER", help="in which lm_eval was installed")
    parser.add_argument("--out", type=Path, default=Path("bench/results/confirm.json"), metavar="FILE")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a server ends, too
    with reported():
        places = beside(arguments.harness)
        known = [ours(folder) for folder in arguments.models]
        for found in known:
            if not questions(found.rows):
                raise InputError(f"{HELD_OUT_PROMPTS}: no prompt has a solution and one turn, as others can judge it.")
        print(f"{'greedy':18}n    ours  theirs  difference last number")
        every = []
        for found in known:
            every.append(of_model(found, places))
            print(*lines(every[-1]), sep="\n", flush=True)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(every, indent=1, ensure_ascii=False) + "\n")
        print(f"{arguments.out} has every prompt on which a text differs")
        sys.exit(not all(one["confirmed"] for one in every))


if __name__ == "__main__":
    main()
