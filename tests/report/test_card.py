"""The model card: every fact of it is recorded of this very model, and its head is what the Hub documents."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, constants
from markdown_it import MarkdownIt
from no_network import NoNetwork

from llmrl import repository
from llmrl.errors import InputError
from llmrl.report.card import as_code, write_card

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# Some of https://huggingface.co/docs/hub/repositories-licenses
LICENCES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "gemma", "llama2", "openrail", "other"}
ANSWERS = {"greedy": 0.5, "greedy_low": 0.4, "greedy_high": 0.6, "sampled": 0.25, "sampled_low": 0.2}
ANSWERS |= {"sampled_high": 0.3, "pass_at_2": 0.4, "pass_at_4": 0.55, "n": 100, "ended": 1.0, "tokens": 12.34}
EARLIER = {"greedy": 0, "greedy_ci95": 0.0, "sampled": 0.125, "sampled_ci95": 0.01, "n": 100, "ended": 0.5}
RANKED = {"accuracy": 0.75, "accuracy_low": 0.7, "accuracy_high": 0.8, "n": 300, "rows": 64}
SHOWN = {"answers": {"samples": 4, "temperature": 0.7, "max_new_tokens": 48}}


def write(path: str, value: Any) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return file


def entry(path: Path) -> dict[str, str]:
    return {"path": str(path), "md5": repository.digest(path)}


class Project:
    """The four stages as recorded of a chain of models that are but files, on three data sets."""

    def __init__(self) -> None:
        self.locks: dict[str, dict[str, Any]] = {}

    def record(self, base: dict[str, Any], sources: dict[str, dict[str, Any]]) -> None:
        write(".dvc/config", "")
        for name in ("sft", "preference", "prompts"):
            for side in ("train", "eval"):
                write(f"data/{name}/{side}.parquet", f"{name} {side}")
            overlap = {"held_out_prompts": 100, "exact": 0, "shared": 3 if name == "sft" else 0}
            source = {"source": "builtin:arithmetic"} | sources.get(name, {})
            write(f"data/{name}/source.json", {"sources": [source], "overlap": overlap})
        prepared = {
            f"prepare@{name}": {"outs": [entry(Path("data", name))]} for name in ("sft", "preference", "prompts")
        }
        write("data/dvc.lock", yaml.safe_dump({"stages": prepared}))
        self.model("base", {"settings": {"model": base}, "inputs": {"config.json": "00"}})
        self.stage("sft", "SFTTrainer", "sft", ["base"], {"answers_before": EARLIER, "answers": EARLIER, "rows": 64})
        self.stage("reward", "RewardTrainer", "preference", ["sft"], RANKED)
        self.stage("dpo", "DPOTrainer", "preference", ["sft"], {"answers": ANSWERS | {"greedy": 0.45}, "rows": 64})
        self.stage("grpo", "GRPOTrainer", "prompts", ["dpo", "reward"], {"answers": ANSWERS, "rows": 64})

    def model(self, name: str, record: dict[str, Any]) -> None:
        write(f"models/{name}/config.json", {"architectures": ["Qwen2ForCausalLM"], "dtype": "float32"})
        write(f"models/{name}/model.safetensors", name)
        write(f"models/{name}/provenance.json", record)

    def stage(self, name: str, trainer: str, data: str, models: list[str], figures: dict[str, Any]) -> None:
        train = Path("data", data, "train.parquet")
        inputs = {f"models/{model}": repository.digest(Path("models", model)) for model in models}
        settings = {"init": f"models/{models[0]}", "max_steps": 7, "learning_rate": 1e-4, "num_train_epochs": 3.0}
        self.model(
            name,
            {
                "code": {f"stages/{name}.py": "00"},
                "inputs": inputs | {str(train): repository.digest(train)},
                "settings": settings | {"max_length": 128, "rewards": {"a|b": 1.0}},
                "versions": {"trl": "1.2.3"},
                "device": "cpu",
            },
        )
        measured = write(f"metrics/{name}/metrics.json", {name: figures})
        outs = [entry(Path("models", name)), entry(measured)]
        deps = [] if name == "reward" else [entry(Path("data/prompts/eval.parquet"))]
        params = {} if name == "reward" else SHOWN
        self.locks[name] = {"deps": deps, "params": {"params.yaml": params}, "outs": outs}
        write("dvc.lock", yaml.safe_dump({"stages": self.locks}))


TINY = {"source": "builtin:tiny", "revision": None}
HUB = {"source": "owner/base", "revision": COMMIT}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The built-in experiment; the test stands in it, and nothing is in the Hub's cache."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    found = Project()
    found.record(TINY, {})
    return found


@pytest.fixture
def of_the_hub(toy: Project) -> Project:
    """Base model and data of the Hub, beside files of one's own."""
    data = {"source": "owner/prompts", "revision": COMMIT, "system": 'Be "short"\n`|`<b>', "template": "{question}!"}
    toy.record(HUB, {"sft": {"source": "raw"}, "prompts": data})
    return toy


def cached(card: str) -> None:
    """The base model's card, in the Hub's cache."""
    write(f"{constants.HF_HUB_CACHE}/models--owner--base/snapshots/{COMMIT}/README.md", f"---\n{card}\n---\n")


def card(model: str = "models/grpo", out: str = "../out") -> tuple[ModelCard, list[str]]:
    """The card, read as the Hub's client reads it, and what is said of it."""
    said = write_card(Path(model), Path(out))
    found = ModelCard.load(Path(out) / "README.md")
    assert_documented(found.data.to_dict())
    return found, said


def assert_documented(head: dict[str, Any]) -> None:
    """What the Hub verifies when a card is pushed, by https://github.com/huggingface/hub-docs/blob/main/modelcard.md."""
    assert isinstance(head.get("datasets", []), list)
    assert all(isinstance(name, str) and name for name in (*head.get("datasets", ()), *head["tags"]))
    assert head.get("license", "other") in LICENCES
    assert {"license_name", "license_link"}.isdisjoint(head) or head["license"] == "other"
    for model in head.get("model-index", ()):
        assert isinstance(model["name"], str)
        assert model["results"]
        for result in model["results"]:
            assert {"task", "dataset", "metrics"} <= result.keys()
            assert result["task"]["type"] in ("text-generation", "text-classification")
            assert {"type", "name"} <= result["dataset"].keys()
            assert all(isinstance(metric["type"], str) and "value" in metric for metric in result["metrics"])


def figures(found: ModelCard) -> dict[str, float]:
    return {f"{one.metric_type}: {one.metric_name}": one.metric_value for one in found.data.eval_results or ()}


@pytest.mark.usefixtures("of_the_hub")
def test_a_policy() -> None:
    """Base model, data sets, licence and figures in the head; stages, data, settings, intervals in the text."""
    cached("license: apache-2.0")
    found, said = card()
    head = found.data.to_dict()

    assert ("owner/base", ["owner/prompts"], "apache-2.0") == tuple(
        head[key] for key in ("base_model", "datasets", "license")
    )
    assert ("transformers", "text-generation") == (head["library_name"], head["pipeline_tag"])
    assert ["trl", "sft", "dpo", "reward", "grpo"] == head["tags"]
    assert "language" not in head
    assert {
        "accuracy: right, greedy": 0.5,
        "accuracy: right, sampled": 0.25,
        "pass@2: right, one of 2 samples": 0.4,
        "pass@4: right, one of 4 samples": 0.55,
    } == figures(found)
    result = head["model-index"][0]["results"][0]["dataset"]
    assert {"type": "owner/prompts", "name": "held-out prompts of owner/prompts", "revision": COMMIT} == result
    text = found.text
    assert "| | base, n = 100 | sft, n = 100 | dpo, n = 100 | grpo, n = 100 |" in text
    dpo = "0.450 (0.400 to 0.600)"
    assert f"| right, greedy | 0.000 ± 0.000 | 0.000 ± 0.000 | {dpo} | 0.500 (0.400 to 0.600) |" in text
    assert "| right, one of 2 samples | – | – | 0.400 | 0.400 |" in text
    assert "one greedy, and 4 sampled at temperature 0.7, of at most 48 tokens" in text
    assert "3 of 100 stand in the text of `data/sft/train.parquet`." in text
    assert "ranks 0.750 (0.700 to 0.800) of 300 held-out pairs right" in text
    train = repository.digest(Path("data/prompts/train.parquet"))
    assert (
        f"| `grpo` | `GRPOTrainer` | dpo, reward | `owner/prompts` at {COMMIT[:7]} (64 rows, MD5 `{train}`) |" in text
    )
    assert "max_steps `7`" in text
    assert "num_train_epochs" not in text
    assert "rewards <code>&#123;&#34;a&#124;b&#34;&#58; 1.0&#125;</code> |" in text
    assert "files of its maker's own (raw) (64 rows" in text
    assert "On cpu, with trl 1.2.3." in text
    assert "No commit has this model yet" in text
    assert ["../out/README.md", "to be written by you: what it is for"] == said


@pytest.mark.usefixtures("of_the_hub")
def test_it_is_used_as_it_was_asked() -> None:
    """With the system text, and a word of what stands around a question; whatever is in them is no Markdown."""
    text = card()[0].text
    snippet = text.partition("```python\n")[2].partition("\n```")[0]

    assert '{"role": "system", "content": "Be \\"short\\"\\n`|`<b>"}' in snippet
    assert compile(snippet, "card", "exec")
    assert "It was asked with around each question `{question}!`." in text


@pytest.mark.usefixtures("toy")
def test_a_name_is_a_name() -> None:
    """Whatever is in that of the folder, a title is one line of text."""
    text = card(out="../a\n## <b>*b*<br> [c](d) __e__ f_g")[0].text
    page = MarkdownIt().render(text.partition("## Intended use")[0])

    assert page.startswith("<h1>a ## &lt;b&gt;*b*&lt;br&gt; [c](d) __e__ f_g</h1>\n<p>A language model made with llmrl")
    assert "# grpo_bf-16.1\n" in card(out="../grpo_bf-16.1")[0].text


@pytest.mark.parametrize(
    "text", ["a b", "a|b", r"a\|b", r"a\\|b", "`a`|*b*", "<b>|&amp;", "_a_|__b__ [c](d)", "", r"a\b"]
)
def test_what_stands_in_a_cell(text: str) -> None:
    """It is shown as it is, by a reader of Markdown that takes tables as the Hub does."""
    page = MarkdownIt().enable("table").render(f"| x | y |\n|---|---|\n| {as_code(text)} | z |\n")

    assert f"<td><code>{html.escape(text)}</code></td>\n<td>z</td>" in page.replace("&#x27;", "'")


@pytest.mark.usefixtures("toy")
def test_the_built_in_experiment() -> None:
    """What is on no Hub is named in the text alone, and the licence is to be filled in."""
    found, said = card()

    assert {"base_model", "datasets", "license"}.isdisjoint(found.data.to_dict())
    assert "The base model is `builtin:tiny`, which is not on the Hub" in found.text
    assert found.text.count("**To be written by you.**") == 2
    assert "to be written by you: what it is for, its licence" == said[-1]


@pytest.mark.usefixtures("toy")
def test_a_reward_model() -> None:
    """Its task is another, and its figure is how many pairs it ranks right."""
    found, _ = card("models/reward")

    assert "text-classification" == found.data.pipeline_tag
    assert {"accuracy: pairs ranked right": 0.75} == figures(found)
    assert "AutoModelForSequenceClassification" in found.text
    assert "right, greedy" not in found.text


@pytest.mark.usefixtures("of_the_hub")
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("license: other\nlicense_name: own\nlicense_link: https://example.org", {"license": "other"}),
        ("license: other\nlicense_name: own\nlicense_link: LICENSE", {}),
        ("tags: [a]", {}),
        ("", {}),
    ],
)
def test_the_licence_is_the_base_model_s_if_known(told: str, expected: dict[str, str]) -> None:
    """By its card as it is in the cache; not by a link to a file that only the base model's repository has."""
    cached(told)
    found, said = card()

    assert expected == {key: value for key, value in found.data.to_dict().items() if key == "license"}
    assert ("its licence" in said[-1]) == (not expected)


@pytest.mark.usefixtures("toy")
def test_a_figure_edited_by_hand() -> None:
    """It is left out, in the head too, and that is said; those of the other stages stay."""
    write("metrics/grpo/metrics.json", {"grpo": {"answers": ANSWERS | {"greedy": 0.99}}})
    found, said = card()

    assert {} == figures(found)
    assert "grpo, n" not in found.text
    assert "| right, greedy | 0.000 ± 0.000 | 0.000 ± 0.000 | 0.450" in found.text
    assert "the figures of models/grpo are left out: metrics/grpo/metrics.json is not what dvc.lock recorded" in said[1]


def test_figures_of_another_run(toy: Project) -> None:
    """After another dpo, those of dpo are not of the model that grpo was made of, which still is in the text."""
    kept = repository.digest(Path("models/dpo"))
    Path("models/dpo").rename("models/kept")
    toy.stage("dpo", "DPOTrainer", "preference", ["base"], {"answers": ANSWERS | {"greedy": 0.1}})
    found, said = card()

    assert kept != repository.digest(Path("models/dpo"))
    assert "what made models/dpo is not here: `dvc pull` brings it" == said[1]
    assert "0.100" not in found.text
    assert 4 == len(figures(found))


def test_figures_on_other_prompts(toy: Project) -> None:
    """A column of answers that were asked in another way is no comparison."""
    toy.locks["dpo"]["params"]["params.yaml"] = {"answers": SHOWN["answers"] | {"temperature": 1.0}}
    write("dvc.lock", yaml.safe_dump({"stages": toy.locks}))
    found, said = card()

    assert "dpo, n" not in found.text
    assert "the figures of models/dpo are left out: they are of other prompts or settings of answers" in said


@pytest.mark.usefixtures("toy")
def test_data_that_is_another_now() -> None:
    """Where rows came from is not told by what lies there."""
    write("data/prompts/source.json", {"sources": [{"source": "owner/other"}], "overlap": {"shared": 0}})
    found, said = card()

    assert "owner/other" not in str(found)
    assert any(line.startswith("where data/prompts/train.parquet came from is left out") for line in said)


@pytest.mark.usefixtures("toy")
def test_a_model_that_nothing_recorded() -> None:
    """Of a changed weight, and of what no stage made, there is no card."""
    write("models/grpo/model.safetensors", "other")
    with pytest.raises(InputError, match="nothing here has recorded a model of the hash"):
        card()
    with pytest.raises(InputError, match="models/base was made by no stage"):
        card("models/base")
    assert not Path("../out").exists()


@pytest.mark.usefixtures("toy")
def test_beside_an_export() -> None:
    """It tells the precision; another model's export is refused."""
    record = json.loads(Path("models/grpo/provenance.json").read_text())
    export = {"of": repository.digest(Path("models/grpo")), "dtype": "bfloat16"}
    write("../out/provenance.json", record | {"export": export})
    write("../out/config.json", {"dtype": "bfloat16"})

    assert "in bfloat16. They were rounded from those in float32" in card()[0].text
    assert "in bfloat16. They were rounded from those in float32" in card("../out")[0].text
    with pytest.raises(InputError, match="out holds another model than models/dpo"):
        card("models/dpo")


@pytest.mark.usefixtures("toy")
def test_what_was_written_by_hand_is_kept() -> None:
    """A card as it was written is written anew; one that was edited since, or is another's, is not."""
    first = str(card()[0])
    assert first == str(card()[0])

    edited = first.replace("**To be written by you.** What", "It adds. What")
    for text in (edited, "# Mine\n"):
        write("../out/README.md", text)
        with pytest.raises(InputError, match="was edited since: it would be lost"):
            card()
        assert text == Path("../out/README.md").read_text()


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("out", ["models/grpo", "models/new", "data/sft", "metrics/x", ".dvc/x", ".", "llmrl/x"])
def test_never_where_dvc_looks(out: str) -> None:
    """A file there would be a change of a product, or of the code."""
    before = repository.digest(Path("models"))
    with pytest.raises(InputError, match="lies in a folder of a project"):
        card(out=out)
    assert before == repository.digest(Path("models"))


@pytest.mark.usefixtures("of_the_hub")
def test_nothing_is_asked_of_the_network(tmp_path: Path) -> None:
    """On the command line, in a repository with a commit that has the model: it says how to go back to it."""
    for arguments in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "Run"),
    ):
        subprocess.run(("git", *arguments), check=True)
    (tmp_path / "guard").mkdir()
    nowhere = NoNetwork(tmp_path / "guard")
    path = f"{nowhere.environment['PYTHONPATH']}:{Path(__file__).parents[2]}"
    command = (sys.executable, "-m", "llmrl.report.card", "models/grpo", "../out")
    done = subprocess.run(
        command, env=nowhere.environment | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    head = subprocess.run(("git", "rev-parse", "HEAD"), capture_output=True, text=True, check=True).stdout.strip()

    assert "../out/README.md\n" == done.stdout
    assert f"git checkout {head} && dvc repro grpo" in Path("../out/README.md").read_text()
    assert "README.md" not in subprocess.run(("git", "status", "-s"), capture_output=True, text=True, check=True).stdout
    assert not nowhere.attempts.exists()
