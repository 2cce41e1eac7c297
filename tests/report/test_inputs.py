"""What a report says of the data, by data sets that `prepare` made or that were written here."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo

from llmrl import params
from llmrl.data.prepare import main
from llmrl.data.spool import SCHEMAS
from llmrl.errors import InputError
from llmrl.report import inputs
from llmrl.report.document import Block, Chart, Command, Grid, Quotes, Section, Words
from llmrl.report.recorded import Recorded

ASKED = "A farmer has 12 fields with 7 rows of 31 trees in each, how many trees are there in all of them?"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project of DVC's; the test stands in it."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    return tmp_path


def recorded(**fields: Any) -> Recorded:
    """What is recorded here: nothing, but for the given."""
    names = [one.name for one in dataclasses.fields(Recorded) if one.name not in ("revision", "commit", "missing")]
    return Recorded(**{"revision": "workspace", "commit": None, **{name: {} for name in names}, **fields})


def of_kind(section: Section, kind: type[Block]) -> list[Any]:
    return [block for block in section.blocks if isinstance(block, kind)]


def said(section: Section, tone: str | None = None) -> str:
    return "\n".join(words.text for words in of_kind(section, Words) if tone in (None, words.tone))


def turns(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]


def written(name: str, rows: list[dict[str, Any]]) -> None:
    """A data set of these rows to train on, and no more."""
    Path("data", name).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMAS[name]), f"data/{name}/train.parquet", row_group_size=1000)


def counted(held_out: int = 500, exact: int = 0, shared: int = 0, train: int = 1) -> dict[str, Any]:
    """Figures of metrics/data/."""
    overlap = {"held_out_prompts": held_out, "exact": exact, "shared": shared}
    return {"rows": {"train": train, "eval": 1}, "overlap": overlap}


@pytest.fixture
def leaked(project: Path, change: Callable[[str, str], None]) -> Recorded:
    """Data sets that `prepare` made, where the text of SFT has held-out prompts, and more of it is allowed."""
    prompts = [{"prompt": f"{ASKED[:-1]} {number} more?", "solution": str(number)} for number in range(40)]
    (project / "data/raw/prompts/a.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    # In an answer: a question would be left out as a near-duplicate of the held-out one.
    rows = [
        {
            "prompt": f"Say number {number} again.",
            "completion": prompts[number]["prompt"] if number < 40 else f"No {number}.",
        }
        for number in range(80)
    ]
    (project / "data/raw/sft/a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("sft", "prompts"):
        change(f"data.{name}.source", "raw")
        change(f"data.{name}.rows", "")
        change(f"data.{name}.eval_rows", "")
    change("data.eval_share", "0.3")
    change("data.preference.rows", "64")
    change("data.preference.eval_rows", "8")
    main("prompts")
    main("preference")
    with pytest.raises(InputError, match=r"more than data\.max_overlap"):
        main("sft")
    change("data.max_overlap", "1.0")
    main("sft")
    figures = {
        name: json.loads(Path("metrics/data", f"{name}.json").read_text())["data"][name] for name in inputs.DATA_SETS
    }
    return recorded(params=params.checks.read(Path("params.yaml")), data=figures)


def test_training_text_among_the_held_out_prompts(leaked: Recorded) -> None:
    """It is found where a user has raised what is allowed: in words that say that it is wrong, with examples."""
    section = inputs.what_went_in(leaked)
    exact = leaked.data["sft"]["overlap"]["exact"]
    asked = leaked.data["sft"]["overlap"]["held_out_prompts"]

    assert exact > 1
    wrong = said(section, "bad")
    assert f"of the {asked} held-out prompts" in wrong
    assert f"{exact} word for word" in wrong
    assert "right answers are no measure" in wrong
    assert "`data.max_overlap` allows 1; the profiles stop at 0.05." in wrong
    assert "data/preference" in said(section, "good")
    (found, *_) = of_kind(section, Quotes)
    assert 0 < len(found.quotes) <= 3
    for quote in found.quotes:
        assert quote.heading.startswith(ASKED[:-1])
        assert quote.heading in quote.text


@pytest.mark.parametrize(
    ("exact", "shared", "limit", "tone"),
    [
        (0, 0, 0.05, "good"),
        (0, 2, 0.05, "note"),
        (1, 1, 0.05, "bad"),
        (0, 26, 0.05, "bad"),
        (0, 26, 0.5, "bad"),
        (0, 9, 0.01, "bad"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_how_bad_an_overlap_is(exact: int, shared: int, limit: float, tone: str) -> None:
    """One prompt word for word is; others where they are more than is allowed, or than the profiles allow."""
    found = recorded(data={"sft": counted(500, exact, shared)}, params={"data": {"max_overlap": limit}})
    words = [one for one in of_kind(inputs.what_went_in(found), Words) if "held-out prompts" in one.text]

    assert [tone] == [one.tone for one in words]


def test_rows_from_their_source_to_a_stage(leaked: Recorded) -> None:
    """What was read, dropped, kept for training, held out; and what a stage left out of it."""
    report = json.loads(Path("data/sft/source.json").read_text())
    kept = report["rows"]
    figures = {"sft": {"rows": 10, "rows_too_long": 30}, "grpo": {"rows": 50, "rows_too_long": 1, "rows_too_hard": 2}}
    section = inputs.what_went_in(recorded(data=leaked.data, figures=figures, params=leaked.params))
    read, sides, stages, _ = of_kind(section, Grid)
    cells = {row[0]: row[1:] for grid in (read, sides, stages) for row in grid.rows}

    assert ["–", "80", "80", "none"] == cells["sft: raw"]
    assert [f"{kept['train']:,}", f"{leaked.data['preference']['rows']['train']:,}"] == cells["to train on"][:2]
    over = "more than rows and eval_rows ask for"
    assert leaked.data["preference"]["rows"]["train"] == 64
    assert json.loads(Path("data/preference/source.json").read_text())["rows"][over] == int(
        cells[f"not used: {over}"][1]
    )
    assert ["data/sft", "10", "too long: 30", "128 tokens"] == cells["sft"]
    assert ["data/prompts", "50", "too long: 1, too hard: 2", "64 tokens"] == cells["grpo"]
    whole = kept["train"] + kept["eval"]
    assert f"sft did without 30 of {whole} rows ({30 / whole:.0%}), too long: 30." in said(section, "bad")
    assert "grpo did without" not in said(section)


@pytest.mark.usefixtures("folder")
def test_lengths_and_first_rows() -> None:
    """Characters of what is asked and what is answered, and three rows of each, whatever is in them."""
    long = "<b>ab</b>" * 200
    written("sft", [{"messages": turns("two?", "2", "and four?", "4!")}, {"messages": turns("é" * 30, long)}] * 4)
    written("preference", [{"prompt": turns("a?"), "chosen": turns("", "x")[1:], "rejected": turns("", "xyz")[1:]}])
    written("prompts", [{"prompt": turns("1 + 1?"), "solution": None, "extra": None}])
    section = inputs.what_went_in(recorded(data={name: counted() for name in inputs.DATA_SETS}))
    *_, lengths = of_kind(section, Grid)

    assert [
        ["sft: prompts", "8", "22", "30", "30"],
        ["sft: answers", "8", "902", "1,800", "1,800"],
        ["preference: prompts", "1", "2", "2", "2"],
        ["preference: chosen", "1", "1", "1", "1"],
        ["preference: rejected", "1", "3", "3", "3"],
        ["prompts: prompts", "1", "6", "6", "6"],
    ] == lengths.rows
    for one in of_kind(section, Grid):
        assert re.fullmatch(r"[A-Z].+\.|", one.caption)
    charts = of_kind(section, Chart)
    assert 3 == len(charts)
    for chart in charts:
        shares: dict[str, float] = {}
        for point in chart.drawing["data"]["values"]:
            shares[point["of"]] = shares.get(point["of"], 0.0) + point["share"]
        last = {point["of"]: point["share"] for point in chart.drawing["data"]["values"]}
        assert [1.0] * len(shares) == pytest.approx(
            [share - last[of] for of, share in shares.items()]
        )  # drawn to its end
    sft, preference, prompts = of_kind(section, Quotes)
    assert 3 == len(sft.quotes)
    assert "user: two?\n\nassistant: 2\n\nuser: and four?" == sft.quotes[0].heading
    assert "assistant: 4!" == sft.quotes[0].text
    assert sft.quotes[1].text.endswith(f" … {len('assistant: ') + 1800 - 1000} characters more")
    assert "[chosen]\nassistant: x\n\n[rejected]\nassistant: xyz" == preference.quotes[0].text
    assert "no solution" == prompts.quotes[0].facts


@pytest.mark.usefixtures("folder")
def test_what_is_not_here() -> None:
    """Data that is in no cache, and none at all: said, with the command that brings it."""
    source = [{"source": "a/b", "revision": "0" * 40, "weight": 2.0}, {"source": "raw"}]
    section = inputs.what_went_in(
        recorded(revision="other", remote=True, data={"sft": counted()}, params={"data": {"sft": {"source": source}}})
    )

    assert "Neither here nor in this machine's cache: data/sft." in said(section, "note")
    assert "Of data/preference and data/prompts metrics/data/ records nothing." in said(section, "note")
    assert [
        ("dvc pull data/sft", "in a checkout of other fetches what was pushed; `dvc repro` makes what was not"),
        ("dvc repro data/dvc.yaml", "in a checkout of other prepares the data"),
    ] == [(one.line, one.what) for one in of_kind(section, Command)]
    rows = of_kind(section, Grid)[0].rows
    assert ["sft: a/b (weight 2)", "0" * 40, *["not known"] * 3] == rows[0]
    assert ["sft: raw", "–", *["not known"] * 3] == rows[1]
    assert [] == of_kind(section, Chart) + of_kind(section, Quotes)
    assert inputs.what_went_in(recorded()).blocks


@pytest.mark.usefixtures("folder")
def test_pairs_of_a_policy_s_answers() -> None:
    """What became of the answers is told by side, and what their lengths alone tell; rows are those of data/pairs."""
    counts = {"prompts": 20, "not_asked": 3, "without_a_right_answer": 4, "answers": 160, "right": 40, "pairs": 30}
    lengths = {"chosen_tokens": 20.25, "rejected_tokens": 14, "shorter_right": 0.25, "longer_right": 0.75}
    pairs = counted(train=30) | {"train": counts | lengths, "eval": counts | lengths | {"pairs": 7}}
    section = inputs.what_went_in(recorded(data={"sft": counted(), "preference": pairs, "prompts": counted()}))
    (grid,) = (one for one in of_kind(section, Grid) if one.columns == ["", "to train on", "held out"])

    assert ["without a right answer", "4", "4"] in grid.rows
    assert ["pairs", "30", "7"] in grid.rows
    assert ["tokens of a chosen answer", "20.2", "20.2"] in grid.rows
    assert "rightly in 75% of the pairs to train on, by the longer answer." in said(section, "note")
    assert "data/pairs" in said(section, "good")
