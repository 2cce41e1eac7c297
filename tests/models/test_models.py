"""Model folders: what loading gives, what a saved model holds, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from library_logs import logged_by_transformers

from llmrl.base import build
from llmrl.errors import InputError
from llmrl.folders import check_kind
from llmrl.models.loading import load_classifier, load_policy, load_tokenizer
from llmrl.models.saving import save

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/base, as made of the built-in model."""
    out = tmp_path_factory.mktemp("base")
    build.make_base(str(ROOT / "models/tiny"), out)
    return out


def test_saved_twice(made: Path, tmp_path: Path) -> None:
    """Saving gives the same bytes each time, the tokenizer's files those of the model it started from."""
    for name in ("one", "other"):
        save(load_policy(str(made)), str(made), tmp_path / name, {"provenance.json": {"b": 1, "a": 2}})
    one, other = ({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()} for name in ("one", "other"))

    assert one == other
    assert (made / "tokenizer.json").read_bytes() == one["tokenizer.json"]
    assert (made / "chat_template.jinja").read_bytes() == one["chat_template.jinja"]


def test_saved_is_what_was_trained(made: Path, tmp_path: Path) -> None:
    """A model loaded from what was saved gives the same logits."""
    model = load_policy(str(made))
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(0.01)
    save(model, str(made), tmp_path / "saved", {})
    tokens = torch.tensor([[5, 6, 7, 8]])

    assert torch.equal(model(tokens).logits, load_policy(str(tmp_path / "saved"))(tokens).logits)


def test_no_warning_of_long_rows(made: Path) -> None:
    """Where there is nothing to be done about it: `max_length` leaves long rows out, and they are counted."""
    tokenizer = load_tokenizer(str(made))

    with logged_by_transformers() as logged:
        assert tokenizer.model_max_length < len(tokenizer("2 + 2 " * 200)["input_ids"])
    assert [] == logged


def test_new_head_is_drawn_by_the_seed(made: Path) -> None:
    """A reward model on a policy's body has a head that the seed alone decides."""
    one, same, other = (load_classifier(str(made), seed).score.weight for seed in (1, 1, 2))

    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_reward_model_is_no_policy(made: Path, tmp_path: Path) -> None:
    """A reward model where a policy belongs is refused by the setting's name, before anything is loaded."""
    save(load_classifier(str(made), 1), str(made), tmp_path / "reward", {})

    with pytest.raises(InputError, match=r"dpo\.init: .*reward holds a Qwen2ForSequenceClassification"):
        check_kind(str(tmp_path / "reward"), "ForCausalLM", "dpo.init")
