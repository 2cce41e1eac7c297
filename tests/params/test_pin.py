"""`make pin`: commits are written where they belong, and nothing else in the file changes."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from llmrl import hub
from llmrl.errors import InputError
from llmrl.params import pin

COMMIT = "e235e846458bff3398a88aed812347f7f0756520"
OLDER = "066c50a88d4e14cefc056e31111db2dba17f6c68"
DIGITS = "1" * 40
HUB = {"model.source": "Qwen/Qwen2.5-0.5B", "data.sft.source": "trl-lib/Capybara"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """What the Hub was asked for, where each branch is at COMMIT and each tag at OLDER."""
    found: list[tuple[str, str, str | None]] = []

    def newest(kind: str, name: str, revision: str | None) -> str:
        found.append((kind, name, revision))
        return OLDER if str(revision).startswith("v") else COMMIT

    monkeypatch.setattr(hub, "newest", newest)
    return found


def test_everything_of_the_hub_is_asked_for(setting, asked):
    """Each source of the Hub that has no commit gets one, and is named; what has one keeps it."""
    setting("model.source", "Qwen/Qwen2.5-0.5B   # a base model")
    setting("model.revision", "null   # of the model")
    setting("data.sft.source", "[{source: trl-lib/Capybara, weight: 2}, {source: raw}]")
    setting("data.preference.source", "trl-lib/ultrafeedback_binarized")
    setting("data.preference.revision", OLDER)
    setting("data.prompts.source", "trl-lib/DeepMath-103K")
    setting("data.prompts.revision", "'v1' # a tag")
    before = Path("params.yaml").read_text(encoding="utf-8")
    said = pin.pin()

    assert [
        ("model", "Qwen/Qwen2.5-0.5B", None),
        ("dataset", "trl-lib/Capybara", None),
        ("dataset", "trl-lib/DeepMath-103K", "v1"),
    ] == asked
    assert [
        f"model: Qwen/Qwen2.5-0.5B at {COMMIT}",
        f"data.sft.source[0]: trl-lib/Capybara at {COMMIT}",
        f"data.prompts: trl-lib/DeepMath-103K at {OLDER}",
    ] == said
    expected = before.replace("revision: null   # of", f"revision: {COMMIT}   # of").replace("'v1'", OLDER)
    expected = expected.replace("trl-lib/Capybara", f"trl-lib/Capybara, revision: {COMMIT}")
    assert expected == Path("params.yaml").read_text(encoding="utf-8")
    assert ["params.yaml: every source of the Hub has its commit."] == pin.pin()


@pytest.mark.usefixtures("setting")
def test_nothing_of_the_hub():
    """Where no source is of the Hub, that is said."""
    assert ["params.yaml: no source is of the Hub."] == pin.pin()


@pytest.mark.usefixtures("asked")
def test_a_section_that_is_merged_from_another(setting):
    """It has its commit where that other section has it."""
    setting("data.sft", "&shared {source: trl-lib/Capybara, rows: 10, eval_rows: 10}")
    setting("data.prompts", "{<<: *shared, rows: 20}")

    assert [f"data.{name}: trl-lib/Capybara at {COMMIT}" for name in ("sft", "prompts")] == pin.pin()
    assert f"{{source: trl-lib/Capybara, revision: {COMMIT}, rows" in Path("params.yaml").read_text(encoding="utf-8")


@pytest.mark.usefixtures("asked")
def test_all_or_nothing(setting, monkeypatch):
    """Where one commit is not found none is written, and where there is no place for one it is said."""
    setting("model.source", "Qwen/Qwen2.5-0.5B")
    before = Path("params.yaml").read_bytes()
    monkeypatch.setattr(pin, "with_revision", lambda text, *_: text)
    with pytest.raises(InputError, match=rf"no place to write to; .*\nmodel: Qwen/Qwen2.5-0.5B at {COMMIT}"):
        pin.pin()
    monkeypatch.setattr(hub, "newest", lambda *_: (_ for _ in ()).throw(InputError("no such model")))
    with pytest.raises(InputError, match="no such model"):
        pin.pin()
    assert before == Path("params.yaml").read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  revision: null  # c\n  source: a/b\n", f"  revision: {COMMIT}  # c\n  source: a/b\n"),
        ("  source: 'a/b'\n  revision:   # c\n", f"  source: 'a/b'\n  revision: {COMMIT}   # c\n"),
        ('  source: a/b\n  revision: "v1"', f"  source: a/b\n  revision: {COMMIT}"),
        ("  revision:\n\n  # c\n  source: a/b", f"  revision: {COMMIT}\n\n  # c\n  source: a/b"),
        ("  source: a/b   # c\n\n# the next\n", f"  source: a/b   # c\n  revision: {COMMIT}\n\n# the next\n"),
        ("    source: a/b\n    rows: 1", f"    source: a/b\n    revision: {COMMIT}\n    rows: 1"),
        ("  source: a/b\r\n", f"  source: a/b\r\n  revision: {COMMIT}\r\n"),
        ("  source: a/b", f"  source: a/b\n  revision: {COMMIT}\n"),
        ("  {source: a/b,w: 2 }  # c\n", f"  {{source: a/b, revision: {COMMIT},w: 2 }}  # c\n"),
        ("  {revision: , source: a/b}", f"  {{revision: {COMMIT} , source: a/b}}"),
    ],
)
def test_only_its_line_changes(before: str, after: str) -> None:
    """A commit takes its place among whatever comments, quotes, columns and line endings the file has."""
    rest = "x: {a: 1,b:  +2}   # …\n"
    assert f"{rest}model:\n{after}" == pin.with_revision(f"{rest}model:\n{before}", ("model",), COMMIT)


def test_a_commit_of_digits_alone_is_no_number() -> None:
    """It is quoted, and so is one that YAML would take for 10 to the power of something."""
    for commit in (DIGITS, "12e45" * 8):
        assert f'm: {{source: a/b, revision: "{commit}"}}' == pin.with_revision("m: {source: a/b}", ("m",), commit)


def test_what_the_disk_refuses_to_replace_is_kept(tmp_path: Path) -> None:
    """Where the disk refuses the new file, the former one is there, whole and alone; else its mode is kept."""
    path = tmp_path / "params.yaml"
    path.write_bytes(b"old\n" * 500)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            pin.replace(path, b"new\n" * 500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (b"old\n" * 500, [path]) == (path.read_bytes(), list(tmp_path.iterdir()))

    path.chmod(0o640)
    pin.replace(path, b"new")
    assert (b"new", 0o640) == (path.read_bytes(), path.stat().st_mode & 0o777)
