"""Every page against the project: what it names exists, and the guides run as they stand, in a clone of its own."""

from __future__ import annotations

import json
import re
import subprocess
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from clone import ROOT, Clone, files

from docs import settings
from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.params import checks

PAGES = sorted(name for name in files(ROOT) if name.endswith(".md"))
EXAMPLES = ("stages/kto.py",)  # what a reader is to write


def spans(page: str) -> list[str]:
    """What a page sets as code in its text."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL))


def code(page: str) -> list[str]:
    """The same, and its blocks of code."""
    return spans(page) + re.findall(r"^```\w*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@cache
def targets() -> set[str]:
    """What can be made."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@cache
def dvc_commands() -> dict[str, set[str]]:
    """DVC's commands, each with those below it."""
    from dvc.cli.parser import get_main_parser

    def below(parser: ArgumentParser) -> dict[str, ArgumentParser]:
        return {
            name: one
            for action in parser._actions
            if isinstance(action, _SubParsersAction)
            for name, one in action.choices.items()
        }

    return {name: set(below(one)) for name, one in below(get_main_parser()).items()}


# --- one table: what each page must have, and how what is wrong with it is found --------------------------------------


def wide_lines(page: str, text: str) -> Iterator[str]:
    """What is shown fits 120 columns, but for tables, and for the notes of a line in data/raw/."""
    if not page.startswith("data/"):
        yield from (line for line in text.splitlines() if len(line) > 120 and not line.startswith("|"))


def gaps(_: str, text: str) -> Iterator[str]:
    """Nothing is left to fill in."""
    yield from re.findall(r"@@\w+@@|TODO|XXX", text)


def broken_links(page: str, text: str) -> Iterator[str]:
    """A link within the repository leads somewhere."""
    folder = (ROOT / page).parent
    yield from (link for link in re.findall(r"\]\((?!https?:)([^)#]+)", text) if not (folder / link).exists())


def missing_paths(_: str, text: str) -> Iterator[str]:
    """A file or folder of the project that is named is there."""
    own = r"(?<![\w./-])(?:llmrl|stages|tests|docs|bench|profiles|\.ci)/[\w./-]*"
    for path in (path.rstrip("./") for part in code(text) for path in re.findall(own, part)):
        if not (ROOT / path).exists() and path not in EXAMPLES:
            yield path


def unknown_modules(page: str, text: str) -> Iterator[str]:
    """A module that is to be run is there."""
    for name in re.findall(r"python -m ((?:llmrl|stages|bench)[\w.]*)", text):
        path = ROOT / name.rstrip(".").replace(".", "/")
        if page != "CHANGELOG.md" and not (path.with_suffix(".py").exists() or (path / "__main__.py").exists()):
            yield name


def unknown_commands(_: str, text: str) -> Iterator[str]:
    """A command of make or DVC that is named is one."""
    for part in code(text):
        yield from (name for name in re.findall(r"\bmake ([a-z][a-z-]*)", part) if name not in targets())
        for name, below in re.findall(r"(?:^|[$&`(]\s*|> )dvc ([a-z]\w*)(?: ([a-z]\w*))?", part, re.MULTILINE):
            known = dvc_commands().get(name)
            if known is None or (known and below and below not in known):
                yield f"dvc {name} {below}"


def unknown_settings(_: str, text: str) -> Iterator[str]:
    """A setting that is named by its section is one, or else a figure of that stage, or a file."""
    sections, others = checks.sections(), {"answers", "py", "json"}
    names = sorted(filter(None, sections), key=len, reverse=True)
    named = rf"(?<![\w./-])({'|'.join(map(re.escape, names))})\.([a-z_]+)\b"
    for section, name in (found for part in spans(text) for found in re.findall(named, part)):
        if name not in {*sections[section], *others, *(figures(section) if section in STAGES else ())}:
            yield f"{section}.{name}"


CHECKS = (wide_lines, gaps, broken_links, missing_paths, unknown_modules, unknown_commands, unknown_settings)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_page(page: str, check: Callable[[str, str], Iterator[str]]) -> None:
    """What the check says."""
    assert [] == list(check(page, (ROOT / page).read_text(encoding="utf-8")))


def figures(stage: str) -> dict:
    """The committed figures of a stage."""
    return json.loads((ROOT / f"metrics/{stage}/metrics.json").read_text())[stage]


# --- single pages ----------------------------------------------------------------------------------------------------


def test_the_index_has_every_page() -> None:
    """A line each, and nothing else."""
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[([\w-]+\.md)\]\(\1\) \| [^|]+\? \|$", index, re.MULTILINE)
    pages = {Path(page).name for page in PAGES if page.startswith("docs/")} | {"settings.md"}

    assert sorted(pages - {"index.md"}) == sorted(listed)


def test_the_settings_are_those_there_are() -> None:
    """docs/settings.md is what `python -m docs.settings` prints."""
    assert settings.page() == (ROOT / "docs/settings.md").read_text(encoding="utf-8")


def test_the_mistakes_it_shows(project: Path, change: Callable[[str, str], None]) -> None:
    """The settings check says of two mistakes what docs/troubleshooting.md shows."""
    page = (project / "docs/troubleshooting.md").read_text(encoding="utf-8")
    change("train.lr", '"1e-3"')
    file = project / "params.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace(" num_generations:", " num_generation:"), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        checks.check(Path("params.yaml"))

    assert re.findall(r"^params\.yaml:\d+: .*", page, re.MULTILINE) == str(refused.value).splitlines()


def test_the_toy_s_figures() -> None:
    """What docs/figures.md says of seed 1 is what metrics/ has."""
    page = (ROOT / "docs/figures.md").read_text(encoding="utf-8")
    cells = {one: two.split(" (")[0] for one, two in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)}
    sft, reward, dpo, grpo = (figures(stage) for stage in STAGES)
    answers = {"base": sft["answers_before"]} | {
        name: stage["answers"] for name, stage in {"sft": sft, "dpo": dpo, "grpo": grpo}.items()
    }

    for name, found in answers.items():
        assert f"{found['sampled']:.2f}" == cells[f"{name}, sampled"]
    greedy = ", ".join(f"{found['greedy']:.2f}" for found in answers.values())
    assert greedy == cells["base, sft, dpo, grpo, greedy"]
    assert f"{reward['accuracy']:.2f}" == cells["reward model: pairs ranked right"]
    assert f"{dpo['accuracy']:.2f}" == cells["dpo: pairs ranked right"]
    chosen = f"{dpo['chosen_logp_before']:.1f}, {dpo['chosen_logp']:.1f}".replace("-", "−")
    assert chosen == cells["log-probability of the chosen answers, sft, dpo"]


# --- guides ----------------------------------------------------------------------------------------------------------


def fresh_clone(folder: Path) -> Clone:
    """A clone as a user has it, with the edits here that are not committed yet."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    edits = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=ROOT, capture_output=True, check=True).stdout
    clone = Clone(folder)
    if edits:
        subprocess.run(["git", "apply"], cwd=folder, input=edits, check=True)
        clone.commit("edits")
    return clone


def commands(page: str) -> list[str]:
    """What a guide has its reader run: its bash blocks."""
    return re.findall(
        r"^```bash\n(.*?)^```$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.slow
def test_your_data_can_be_followed_word_for_word(tmp_path: Path) -> None:
    """From the CSV file to a model that was trained by the reader's own reward and answers what was asked."""
    clone = fresh_clone(tmp_path / "llmrl")
    said = [clone.run("bash", "-ec", block) for block in commands("your-data.md")]
    sft, grpo = clone.figures("sft"), clone.figures("grpo")

    assert sft["answers_before"]["sampled"] < 0.1 < sft["answers"]["sampled"]
    assert 300 == json.loads((clone.folder / "data/sft/source.json").read_text())["rows"]["read"]
    assert {"digits", "digits_before"} <= grpo.keys()
    assert 0 < grpo["rows_too_easy"] + grpo["rows_too_hard"]
    assert any("Data and pipelines are up to date." in text for text in said)
    assert "" == clone.run("git", "status", "--porcelain")
