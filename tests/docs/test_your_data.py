"""docs/your-data.md and docs/formats.md against the preparation: each row of their tables, and their examples."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from textwrap import indent
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small
import yaml

from llmrl import params
from llmrl.data import files, origins, prepare
from llmrl.data.asking import Asking
from llmrl.data.extra import extra_of
from llmrl.data.settings import Part, meaning
from llmrl.data.shaper import Shaper
from llmrl.errors import DefectiveError, InputError
from llmrl.models import loading
from llmrl.training import turns

DOCS = Path(__file__).parents[2] / "docs"
YOUR_DATA, FORMATS, TROUBLE = (
    (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("your-data", "formats", "troubleshooting")
)
CODECS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def section(page: str, title: str) -> str:
    """What stands below a heading."""
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(text: str) -> list[list[str]]:
    """The cells of its tables."""
    found = re.findall(r"^\|.*\n\|[-|]+\n((?:\|.*\n?)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for lines in found for line in lines.splitlines()]


def spans(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)


def tables(page: str, title: str) -> dict[str, list[list[str]]]:
    """The tables below a heading, each by the heading above it."""
    parts = section(page, title).split("\n### ")[1:]
    return {part.partition("\n")[0]: table(part) for part in parts}


TABLES = tables(YOUR_DATA, "Find your shape here")
SHAPES = [
    pytest.param(heading.removesuffix("`").partition("`data.")[2], *row[1:], id=row[0])
    for heading, found in TABLES.items()
    if "`data." in heading
    for row in found
]
FILES = TABLES["Kinds of files"]
ROW = {"prompt": "2 + 2?", "completion": "4"}


def said(turns: list[dict[str, Any]]) -> str:
    """Turns as the page shows them."""
    found = []
    for turn in turns:
        calls = [
            f"{call['function']['name']} {json.dumps(call['function']['arguments'])}"
            for call in turn.get("tool_calls", ())
        ]
        text = f"calls {', '.join(calls)}" if calls else turn["content"].replace("\n", r"\n")
        thought = f" (thinking: {turn['reasoning_content']})" if "reasoning_content" in turn else ""
        untrained = "" if turn.get("train", True) else ", not trained on"
        found.append(f"`{turn['role']}{untrained}{thought}: {text}`")
    return ", ".join(found)


def became(name: str, settings: dict[str, Any], row: dict[str, Any]) -> str:
    """What becomes of a row, as the page shows it."""
    shaper = Shaper(name, settings.get("columns", {}), settings.get("format"))
    try:
        shaped, source = shaper.shape(row)
    except DefectiveError as reason:
        return f"left out: `{reason}`"
    except InputError as error:
        return f"stops: `{error}`"
    parts = [said(shaped.get("prompt") or shaped["messages"])]
    parts += [f"{side} {said(shaped[side])}" for side in ("chosen", "rejected") if side in shaped]
    parts += [f"solution `{shaped['solution']}`"] if shaped.get("solution") else []
    parts += [f"tools `{tool['function']['name']}`" for tool in json.loads(shaped.get("tools") or "[]")]
    text = "; ".join(parts)
    if shaper.unused:
        text += f". Not used: {', '.join(f'`{column}`' for column in sorted(shaper.unused))}"
    if name == "prompts" and (further := extra_of(source)[0]):
        text += f". For rewards: {', '.join(f'`{column}`' for column in further)}"
    return text


@pytest.mark.parametrize(("name", "row", "settings", "expected"), SHAPES)
def test_a_shape(name: str, row: str, settings: str, expected: str) -> None:
    """What the page says of a row is what becomes of it; of a long message, its beginning."""
    (text,) = spans(row)
    found = became(name, yaml.safe_load("".join(spans(settings))) or {}, json.loads(text))
    assert expected == found or (expected.endswith(" …`") and found.startswith(expected.removesuffix(" …`")))


def write(path: Path, text: str) -> None:
    """A file of ROW, of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([ROW]), path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, (found := pa.Table.from_pylist([ROW])).schema) as writer:
            writer.write_table(found)
    else:
        path.write_bytes(CODECS.get(path.suffix, bytes)(text.encode()))


@pytest.mark.parametrize(("names", "holds", "expected"), FILES, ids=[row[0] for row in FILES])
def test_a_kind_of_file(names: str, holds: str, expected: str, tmp_path: Path) -> None:
    """It is read as the row that it holds, is never trained on, or not read, as the page says."""
    rows_of = {
        ".json": json.dumps([ROW]),
        ".csv": "prompt,completion\n2 + 2?,4",
        ".tsv": "prompt\tcompletion\n2 + 2?\t4",
    }
    shown = [text for text in spans(holds) if text != "datasets"]
    folder = tmp_path / "sft"
    write(folder / "other.jsonl", json.dumps(ROW))
    for name in spans(names):
        kind = Path(name.removesuffix(Path(name).suffix) if Path(name).suffix in CODECS else name).suffix
        write(folder / name, "\n".join(shown) or rows_of.get(kind, json.dumps(ROW)))
    training, tests, not_read = origins.own(folder, Part("raw"))
    found = dict.fromkeys(training, "read") | dict.fromkeys(tests, "never trained on")
    found |= {name: f"not read: `{why}`" for name, why in not_read.items()}

    assert dict.fromkeys(spans(names), expected) | {"other.jsonl": "read"} == found
    assert [ROW] * len(training) == [dict(row) for name in training for _, row in files.rows_of(folder / name, name)]


def test_a_format_of_your_own(project: Path, python: Callable[..., Any]) -> None:
    """With the function in llmrl/formats.py the settings are right, and the row becomes what the page says."""
    text = section(FORMATS, "A format of your own")
    (function,), (settings,), (given, expected) = (blocks(text, language) for language in ("python", "yaml", "json"))
    part = yaml.safe_load(settings)["data"]["prompts"]
    with (project / "llmrl/formats.py").open("a") as file:
        file.write(f"\n\n{function}\n")
    code = "import json, sys; from llmrl.data import settings, shaper; part, row = map(json.loads, sys.argv[1:]); "
    code += "print(json.dumps([*settings.meaning(part), shaper.Shaper('prompts', {}, part['format']).shape(row)[0]]))"
    done = python("-c", code, json.dumps(part), given)

    assert ([json.loads(expected)], "") == (json.loads(done.stdout), done.stderr)


def test_how_a_model_is_asked() -> None:
    """The settings are right, and put what the page shows around the question."""
    text = section(FORMATS, "How a model is asked")
    (settings,), (given,), (expected,) = (blocks(text, language) for language in ("yaml", "json", "console"))
    part = yaml.safe_load(settings)["data"]["prompts"]
    shaped, source = Shaper("prompts", {}, part["format"]).shape(json.loads(given))
    Asking(part["system"], part["template"]).ask(shaped, source)

    assert [] == list(meaning(part))
    assert expected == "\n".join(f"{turn['role']}: {turn['content']}" for turn in shaped["prompt"])


def learned(row: dict[str, Any], last: bool) -> str:
    """What SFT's loss covers of a row, or why the toy's chat template refuses it, as the page shows it."""
    tokenizer: Any = loading.load_tokenizer(small.TINY)
    try:
        ids, labels = turns.labelled(Shaper("sft", {}, None).shape(row)[0], tokenizer, last)
    except DefectiveError as reason:
        return f"`{reason}`"
    covered = [
        list(run)
        for is_covered, run in groupby(zip(ids, labels, strict=True), lambda pair: pair[1] != -100)
        if is_covered
    ]
    return ", ".join(f"`{tokenizer.decode([one for one, _ in run], skip_special_tokens=True)}`" for run in covered)


def test_what_the_loss_covers() -> None:
    """Of each row what the page says, or it is refused with those words."""
    given: dict[str, Any] = {}
    for cells in table(section(FORMATS, "What the loss covers")):
        row, *loss_on, expected = cells
        given = json.loads(spans(row)[0]) if spans(row) else given

        assert expected == learned(given, last=loss_on == ["`last`"])


@pytest.mark.usefixtures("project")
def test_tasks_that_make_their_rows(change: Callable[[str, str], None]) -> None:
    """The settings of the page are right, and give rows of both tasks by their weights."""
    pytest.importorskip("reasoning_gym")
    text = section(YOUR_DATA, "Find your shape here").partition("### Tasks that make their rows")[2]
    settings = yaml.safe_load(blocks(text, "yaml")[0])
    for key, value in (*settings["data"]["prompts"].items(), ("rewards", settings["grpo"]["rewards"])):
        lines = f"\n{indent(yaml.safe_dump(value), '      ')}" if isinstance(value, list | dict) else str(value)
        change(f"grpo.{key}" if key == "rewards" else f"data.prompts.{key}", lines)
    prepare.main("prompts")
    extras = pq.read_table("data/prompts/train.parquet")["extra"].to_pylist()

    assert {"reasoning_gym": 1.0} == params.experiment().stages["grpo"].own.rewards
    tasks = [json.loads(extra)["reasoning_gym"]["task"] for extra in extras]
    assert {"chain_sum": 267, "mini_sudoku": 133} == {task: tasks.count(task) for task in tasks}


def test_what_you_are_told(project: Path, change: Callable[[str, str], None], python: Callable[..., Any]) -> None:
    """The preparation says of the page's files what the page shows."""
    text = section(FORMATS, "What you are told")
    (files_made,), (expected,) = (blocks(text, language) for language in ("python", "console"))
    for name, value in {"source": "raw", "rows": "null", "eval_rows": "null"}.items():
        change(f"data.sft.{name}", value)
    (project / "data/preference").mkdir()
    (project / "data/preference/held_out.jsonl").touch()  # as it is prepared before
    python("-c", files_made)
    done = python("-m", "llmrl.data.prepare", "sft")

    assert (expected, 0) == (done.stdout.rstrip(), done.returncode), done.stderr


# What the preparation meets, by the rows of the table of mistakes: what is in which file, and its columns in
# params.yaml.
LINE = json.dumps(ROW)
SUMS = "\n".join(json.dumps(ROW | {"prompt": f"{number} + 2?"}) for number in range(60))
MISTAKES: dict[str, tuple[str, str, str]] = {
    "the row has the columns text; data/sft needs": ("a.jsonl", '{"text": "2 + 2 is 4."}', "{}"),
    "of which either would do": ("a.jsonl", json.dumps(ROW | {"messages": [{"role": "user", "content": "2?"}]}), "{}"),
    "data.sft.columns in params.yaml names": ("a.jsonl", LINE, "{prompt: problem}"),
    "rows are defective": ("a.jsonl", "\n".join([LINE.replace("4", "")] * 60), "{}"),
    "history, which would be lost": ("a.jsonl", json.dumps(ROW | {"history": [["1 + 1?", "2"]]}), "{}"),
    "images, which cannot": ("a.jsonl", json.dumps(ROW | {"images": ["a.png"]}), "{}"),
    "holds no file of rows": ("a.xlsx", LINE, "{}"),
    "no file to train on": ("test.jsonl", LINE, "{}"),
    "not UTF-8": ("a.jsonl", LINE.replace("4", "\udce9"), "{}"),
    "broken JSON": ("a.jsonl", LINE[:-1], "{}"),
    "broken CSV": ("a.csv", 'prompt,completion\n"2,4', "{}"),
    "more or fewer cells": ("a.csv", "prompt,completion\n2 + 2?,4,5", "{}"),
    "the format alpaca reads": ("a.jsonl", LINE, "{}\n    format: alpaca"),
    "would have no rows": ("a.jsonl", LINE, "{}"),
    "held-out prompts stand in": ("a.jsonl", SUMS.replace('"4"', '"1 + 1?"'), "{}"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake(tmp_path: Path, setting: Callable[[str, str], None], mistake: str) -> None:
    """The message has what the page says that you see."""
    (row,) = (cells for cells in table(section(TROUBLE, "Data")) if mistake in cells[0])
    (shown,) = (text for text in spans(row[0]) if mistake in text)
    file, text, columns = MISTAKES[mistake]
    for name, value in {"source": "raw", "rows": "null", "eval_rows": "null", "columns": columns}.items():
        setting(f"data.sft.{name}", value)
    (tmp_path / "data/raw/sft").mkdir(parents=True)
    (tmp_path / "data/raw/sft" / file).write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "data/preference").mkdir()
    held_out = {"set": "prompts", "measured": True, "before": "", "question": "1 + 1?"}
    (tmp_path / "data/preference/held_out.jsonl").write_text(json.dumps(held_out))
    with pytest.raises(InputError) as refused:
        prepare.main("sft")

    assert [] == [part for part in shown.split("…") if part.strip() not in str(refused.value)]


def test_there_are_rows() -> None:
    """The tables are found."""
    assert len(SHAPES) > 25
    assert len(FILES) > 8
