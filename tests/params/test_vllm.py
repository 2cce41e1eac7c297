"""GRPO's completions by vLLM: what is refused before its engine would start. vLLM itself was never run here."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small import settings

from llmrl.errors import InputError
from llmrl.params import PATH, checks, on_model
from llmrl.params.combinations import release
from llmrl.training import options

NEWEST = "0.31.0"
# In params.yaml max_prompt_length is 64, and max_completion_length 32.
REFUSED = {
    "an older release": ("0.21.9", "", "use_vllm: TRL takes vllm 0.22.0 to 0.31.0, and 0.21.9 is installed: `"),
    "a newer release": ("0.31.1", "", "use_vllm: TRL takes vllm 0.22.0 to 0.31.0, and 0.31.1 is installed: `"),
    "processes that share no engine": (
        NEWEST,
        "vllm_tensor_parallel_size: 2",
        "vllm_tensor_parallel_size: 2 processes share one engine, and launch starts 1.",
    ),
    "too short a context": (
        NEWEST,
        "vllm_max_model_length: 95",
        "vllm_max_model_length: 95 tokens hold too little: max_prompt_length and max_completion_length are 96 together",
    ),
    "a context for prompts of any length": (
        NEWEST,
        "vllm_max_model_length: 512\nmax_prompt_length: null",
        "vllm_max_model_length needs grpo.max_prompt_length: a longer prompt would end the training.",
    ),
    "a server's port": (NEWEST, "vllm_server_port: 1", "vllm_server_port: has no effect without vllm_mode: server."),
    "a share of a server's card": (
        NEWEST,
        "vllm_mode: server\nvllm_gpu_memory_utilization: 0.5",
        'vllm_gpu_memory_utilization: has no effect with vllm_mode: "server", which wins; colocate would use it.',
    ),
    "a server that sleeps": (
        NEWEST,
        "vllm_mode: server\nvllm_enable_sleep_mode: true",
        'vllm_enable_sleep_mode: has no effect with vllm_mode: "server"',
    ),
    "a loss that weighs tokens": (
        NEWEST,
        "loss_type: vespo",
        "loss_type: vespo with use_vllm needs vllm_importance_sampling_mode: token_truncate or token_mask.",
    ),
    "weights without a bound": (
        NEWEST,
        "vllm_importance_sampling_mode: token_truncate\nvllm_importance_sampling_clip_max: null",
        "vllm_importance_sampling_clip_max: null bounds nothing, and token_truncate needs a bound; TRL's is 3.0.",
    ),
    "an unknown argument": (
        NEWEST,
        "generation_kwargs: {presense_penalty: 0.5}",
        "generation_kwargs: presense_penalty is no argument of vLLM's SamplingParams. Did you mean presence_penalty?",
    ),
    "transformers' argument": (
        NEWEST,
        "generation_kwargs: {typical_p: 0.5}",
        "generation_kwargs: typical_p is no argument of vLLM's SamplingParams.",
    ),
    "a seed for each completion": (NEWEST, "generation_kwargs: {seed: 1}", "generation_kwargs: seed would draw"),
    "completions that never end": (
        NEWEST,
        "generation_kwargs: {min_tokens: 33}",
        "generation_kwargs: min_tokens: 33 is more than max_completion_length, 32: no completion would end.",
    ),
}
TAKEN = (
    "vllm_max_model_length: 96",
    "vllm_gpu_memory_utilization: 0.2\nvllm_enable_sleep_mode: false",
    "vllm_mode: server\nvllm_server_base_url: http://localhost:8000\nvllm_group_port: 50000",
    "loss_type: vespo\nvllm_importance_sampling_mode: token_mask",
    "vllm_importance_sampling_clip_max: null",
    "generation_kwargs: {presence_penalty: 0.5, repetition_penalty: 2}",
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has a release of vLLM lie where packages are looked for: its name, and two arguments of its sampling."""

    def install(version: str) -> None:
        for name, text in {
            f"vllm-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n",
            "vllm/__init__.py": "",
            "vllm/sampling_params.py": "class SamplingParams:\n  presence_penalty: float\n  repetition_penalty: float",
        }.items():
            (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "site" / name).write_text(text)
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


@pytest.mark.parametrize(("version", "text", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(installed: Callable, setting: Callable, version: str, text: str, said: str) -> None:
    """In one line, with what would be right."""
    installed(version)
    with_vllm(setting, text)
    with pytest.raises(InputError) as refused:
        checks.check(PATH)

    assert re.fullmatch(rf"params\.yaml:\d+: grpo\.{re.escape(said)}.*", str(refused.value))


@pytest.mark.parametrize("version", ["0.22.0", "0.31.0+cu130"])
@pytest.mark.parametrize("text", TAKEN)
def test_what_is_taken(installed: Callable, setting: Callable, version: str, text: str) -> None:
    """By each release that TRL takes; a build's own suffix is none of its number."""
    installed(version)
    with_vllm(setting, text)
    checks.check(PATH)


def with_vllm(setting: Callable, text: str) -> None:
    """Ask for vLLM, and for what else a text says: in place of what params.yaml has, or beside it."""
    asked = dict(line.split(": ", 1) for line in text.splitlines())
    for name in [name for name in asked if name in checks.read(PATH)["grpo"]]:
        setting(f"grpo.{name}", asked.pop(name))
    setting("grpo.init", "\n  ".join(["models/dpo", "use_vllm: true", *(f"{name}: {asked[name]}" for name in asked)]))


def test_releases_are_those_that_trl_asks_for() -> None:
    """As its metadata have them, and what this project would install is one of them."""
    oldest, newest = options.vllm_versions()

    assert any(f"vllm<={newest},>={oldest}" in one for one in importlib.metadata.requires("trl") or [])
    assert NEWEST == newest
    assert '"vllm>=0.31,<0.32;' in Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    assert release("0.9.2") < release(newest)


def test_it_sleeps_while_the_model_trains() -> None:
    """Where params.yaml says nothing: TRL's own default holds the memory all the while. No other stage has it."""
    assert settings("grpo").option("vllm_enable_sleep_mode") is True
    assert {"vllm_enable_sleep_mode": True}.items() <= settings("grpo").ours.items()
    assert "vllm_enable_sleep_mode" not in settings("sft").chosen


def test_its_version_is_recorded() -> None:
    """Beside those of the libraries that every stage takes."""
    assert ["vllm"] == settings("grpo", use_vllm=True).packages
    assert [] == settings("grpo").packages


MODEL = {"model_type": "qwen2", "num_attention_heads": 14, "max_position_embeddings": 128}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"vllm_tensor_parallel_size": 4}, "vllm_tensor_parallel_size: 4 processes cannot share the 14 heads of"),
        ({"vllm_max_model_length": 129}, "vllm_max_model_length: 129 is more than models/dpo has, 128"),
    ],
)
def test_what_the_model_does_not_have(asked: dict[str, int], said: str) -> None:
    """Said before it is loaded; of a server's engine nothing is known."""
    with pytest.raises(InputError, match=re.escape(said)):
        on_model.check_model_and_device(settings("grpo", use_vllm=True, **asked), MODEL, True, "cuda")
    least = {name: number // 2 for name, number in asked.items()}
    on_model.check_model_and_device(settings("grpo", use_vllm=True, **least), MODEL, True, "cuda")
    on_model.check_model_and_device(settings("grpo", use_vllm=True, vllm_mode="server", **asked), MODEL, True, "cuda")
