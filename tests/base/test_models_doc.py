"""docs/models.md against the project: its model is made, its commands run, its errors are said, its figures stand."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import pytest
import transformers
from clone import ROOT, STAGES, Clone, micro_clone

from llmrl.base import build
from llmrl.errors import InputError
from llmrl.folders import architecture

PAGE = (ROOT / "docs/models.md").read_text(encoding="utf-8")
MAKE_MODEL, ADD_TOKEN = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
ERRORS = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with the page's model in models/raw, and `model.source: raw`."""
    clone = micro_clone(tmp_path_factory.mktemp("models-doc") / "clone")
    with contextlib.chdir(clone.folder):
        exec(MAKE_MODEL, {})  # noqa: S102
    clone.params(model={"source": "raw"})
    return clone


def test_base_tells_what_the_page_shows(clone: Clone) -> None:
    """The page's command prints the page's lines of it."""
    command, shown = re.search(r"^\$ (dvc repro models\S+)\n(.+?)```", PAGE, re.MULTILINE | re.DOTALL).groups()

    said = re.sub(r".*s so far\n", "", clone.run(*command.split()))  # of a slow machine

    assert said.startswith(shown)


@pytest.mark.slow
def test_all_four_stages(clone: Clone) -> None:
    """`dvc repro` makes four models of that architecture, and the sample looks as the page has it."""
    clone.run("dvc", "repro")
    kinds = [architecture(str(clone.folder / "models" / stage)) for stage in STAGES]
    samples = {record["stage"]: (record["folder"] / "sample.txt").read_text() for record in clone.runs()}

    assert ["Mistral"] * 4 == [kind.partition("For")[0] for kind in kinds]
    assert samples["sft"].splitlines()[0] in PAGE
    assert re.search(r"^<s>\[INST\] [^⟦⟧]+ \[/INST\]⟦ [^⟦⟧]+</s>⟧$", samples["sft"], re.MULTILINE)


def test_a_token_more(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's way to add a token is taken where no token is left to pad with, and mends it."""
    raw, out = tmp_path / "models/raw", tmp_path / "models/base"
    shutil.copytree(clone.folder / "models/raw", raw)
    out.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (raw / name).read_text()
        (raw / name).write_text(text.replace("<|endoftext|>", "<|novel|>"))
    with pytest.raises(InputError, match=r"has none to spare; docs/models\.md"):
        build.make_base(str(raw), out)
    monkeypatch.chdir(tmp_path)
    exec(ADD_TOKEN, {})  # noqa: S102
    build.make_base(str(raw), out)

    assert "<pad>" == transformers.AutoTokenizer.from_pretrained(out).pad_token


@pytest.mark.parametrize("said", ERRORS)
def test_errors_are_the_programs(said: str) -> None:
    """What the page quotes of an error, the program says."""
    files = ("folders", "base/build", "base/templates", "base/text_model", "training/rows")
    sources = (ROOT / f"llmrl/{name}.py" for name in files)
    texts = " ".join(re.sub(r'"\s*\n\s*f?"', "", path.read_text()) for path in sources)
    texts = texts.replace("{kind}", "ForCausalLM").replace("{{", "{").replace("}}", "}")

    assert said in texts


def test_instruct_leaves_out_sft(clone: Clone) -> None:
    """Where reward and dpo start from models/base, nothing that grpo needs is fine-tuned."""
    changes = {section: {"init": "models/base"} for section in ("reward", "dpo")}
    block = re.search(r"```yaml\n(model:\n  source: \S+-Instruct\n.+?)```", PAGE, re.DOTALL)[1]
    clone.params(**changes)
    drawn = clone.run("dvc", "dag", "grpo", "--mermaid")

    assert set(changes) == set(re.findall(r"^(\w+):\n  init: models/base", block, re.MULTILINE))
    assert {"dpo", "grpo", "reward"} == set(re.findall(r'\["(\w+)"\]', drawn))
    assert drawn in PAGE


def test_its_profile_is_the_instruct_models() -> None:
    """The revision of the Instruct model is the one that the profile names."""
    named = re.search(r"source: (\S+-Instruct)\n +revision: (\w{40})", PAGE)

    for text in named.groups():
        assert text in Path(ROOT / "profiles/qwen2.5-0.5b.yaml").read_text()


def test_lines_fit() -> None:
    """What the page shows fits 120 columns, but for its tables."""
    assert [] == [line for line in PAGE.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert "@@" not in PAGE
