"""docs/publishing.md: from a model to a card, a repository of the Hub and a server, as far as that can be run here.

The Hub is a stand-in on 127.0.0.1, which takes an upload as the real one does: it checks the card's head, then takes
large files apart from the commit. Files go by LFS, as the client's store of chunks (Xet) is switched off.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from clone import ROOT, Clone, micro_clone
from hub_server import LARGE, Handler, Repository, Server, sha256

PAGE = (ROOT / "docs/publishing.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.+?)(?: +# (.+))?$", PAGE, re.MULTILINE)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNTRIED = ("hf auth login", "vllm serve", "python llama.cpp/convert_hf_to_gguf.py", "llama-server", "ollama")


class Receiving(Handler):
    """A Hub that is also written to."""

    sent: dict[str, bytes]  # large files, by their sha256

    def do_POST(self) -> None:  # noqa: N802
        path, body = urlsplit(self.path).path, self.body()
        self.hub.asked.append(f"POST {path}")
        if path == "/api/repos/create":
            name = "{organization}/{name}".format(**json.loads(body))
            self.hub.repositories[f"models/{name}"] = Repository({COMMIT: {}})
            return self.json({"url": f"{self.hub.endpoint}/{name}", "name": name})
        if path == "/api/validate-yaml":
            wrong = mistakes(json.loads(body)["content"])
            return self.answer(400 if wrong else 200, json.dumps({"errors": wrong, "warnings": []}).encode())
        if "/preupload/" in path:
            modes = {file["path"]: file["path"].endswith(LARGE) for file in json.loads(body)["files"]}
            files = [
                {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
                for name, large in modes.items()
            ]
            return self.json({"files": files})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{self.hub.endpoint}/upload/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return self.json({"transfer": "basic", "objects": objects})
        name = path.removeprefix("/api/models/").partition("/commit/")[0]
        return self.commit(name, [json.loads(line) for line in body.splitlines()])

    def commit(self, name: str, lines: list[dict]) -> None:
        files = self.hub.repositories[f"models/{name}"].commits[COMMIT]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.sent[value["oid"]]
        self.json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_PUT(self) -> None:  # noqa: N802
        content = self.body()
        self.sent[sha256(content)] = content
        self.answer(200)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found


def mistakes(card: str) -> list[dict[str, str]]:
    """What is wrong with the head of a card, by the documentation of the Hub."""
    head = yaml.safe_load(card.split("---\n")[1])
    wrong = [] if isinstance(head.get("datasets", []), list) else ["datasets is no list"]
    wrong += [] if head.get("license", "mit") in ("mit", "apache-2.0", "other") else ["license is not known"]
    for result in (result for model in head.get("model-index", ()) for result in model["results"]):
        whole = {"type"} <= result["task"].keys() and {"type", "name"} <= result["dataset"].keys()
        wrong += [] if whole and all({"type", "value"} <= one.keys() for one in result["metrics"]) else ["model-index"]
    return [{"message": text} for text in wrong]


@pytest.fixture
def hub() -> Iterator[Server]:
    server = Server()
    server.http.RequestHandlerClass = type("Handler", (Receiving,), {"hub": server, "sent": {}})
    yield server
    server.close()


def of_the_hub(server: Server, folder: Path) -> dict[str, str]:
    """An environment whose Hub is the server, with a token, and a home that is empty."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    said = {"HF_ENDPOINT": server.endpoint, "HF_TOKEN": "hf_of_the_test", "HF_HOME": str(folder / "hf")}
    return kept | said | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HOME": str(folder)}


def upload(server: Server, folder: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = (of_this_environment("hf"), "upload", "you/grpo", str(out), *more)
    return subprocess.run(command, env=of_the_hub(server, folder), capture_output=True, text=True, check=False)


def test_what_was_not_tried_says_so() -> None:
    """Those commands alone, and there are some that are."""
    untried = [command for command, note in COMMANDS if "not tried" in note]

    assert untried == [command for command, _ in COMMANDS if command.startswith(UNTRIED)]
    assert 4 == len(COMMANDS) - len(untried)


def test_a_card_that_the_hub_refuses(hub: Server, tmp_path: Path) -> None:
    """Nothing is uploaded: the client asks first."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.safetensors").write_bytes(b"weights")
    (tmp_path / "out/README.md").write_text("---\nlicense: nonesuch\n---\n\n# A model\n")
    refused = upload(hub, tmp_path, tmp_path / "out")
    kept = dict(hub.repositories["models/you/grpo"].commits[COMMIT])
    (tmp_path / "out/README.md").write_text("---\nlicense: mit\n---\n\n# A model\n")
    taken = upload(hub, tmp_path, tmp_path / "out")

    assert 0 != refused.returncode
    assert "license is not known" in refused.stdout + refused.stderr
    assert {} == kept
    assert (0, {"README.md", "model.safetensors"}) == (
        taken.returncode,
        {*hub.repositories["models/you/grpo"].commits[COMMIT]},
    ), taken.stderr


@pytest.mark.slow
def test_the_page_can_be_followed(hub: Server, tmp_path: Path) -> None:
    """Exported, described, uploaded, loaded from there by its name as a stranger does, and served."""
    clone = micro_clone(tmp_path / "project")
    clone.run("dvc", "repro")
    clone.commit("a run")
    (exporting, _), (describing, _), (uploading, _), (serving, _) = (
        (command, note) for command, note in COMMANDS if "not tried" not in note
    )
    assert "in bfloat16" in clone.run(*shlex.split(exporting))
    shown = PAGE.partition(f"$ {describing}\n")[2].partition("```")[0]
    assert shown == clone.run(*shlex.split(describing))
    out = tmp_path / "grpo-bf16"
    assert clone.run("git", "rev-parse", "HEAD").strip() in (out / "README.md").read_text()
    assert "" == clone.run("git", "status", "--porcelain")
    assert "Data and pipelines are up to date." in clone.run("dvc", "status")

    assert uploading.startswith("hf upload you/grpo ../grpo-bf16")
    done = upload(hub, tmp_path, out, *shlex.split(uploading)[4:])
    assert 0 == done.returncode, done.stderr
    held = hub.repositories["models/you/grpo"].commits[COMMIT]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == held
    snippet = (out / "README.md").read_text().partition("```python\n")[2].partition("\n```")[0]
    snippet = snippet.replace('"grpo-bf16"', '"you/grpo"').replace('"…"', '"1 + 1?"')
    environment = of_the_hub(hub, tmp_path)
    stranger = subprocess.run(
        (sys.executable, "-c", f"{snippet}\nprint(model.dtype)"),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert stranger.stdout.endswith("torch.bfloat16\n"), stranger.stderr
    served(clone, serving)


def served(clone: Clone, command: str) -> None:
    """A chat with the server that a command starts, on a port that is free."""
    with socket.socket() as lent:
        lent.bind(("127.0.0.1", 0))
        port = lent.getsockname()[1]
    program, *arguments = shlex.split(command)
    path, environment = of_this_environment(program), clone.environment | {"HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        (path, *arguments, "--port", str(port)), cwd=clone.folder, env=environment, stderr=subprocess.DEVNULL
    ) as server:
        try:
            url, model = f"http://127.0.0.1:{port}", arguments[-1]
            until = time.monotonic() + 300
            while time.monotonic() < until and server.poll() is None:
                try:
                    if httpx.get(f"{url}/health").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.5)
            asked = {"model": model, "messages": [{"role": "user", "content": "1 + 1?"}], "max_tokens": 8}
            answer = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=300)
            assert isinstance(answer.json()["choices"][0]["message"]["content"], str), answer.text
        finally:
            server.terminate()


def of_this_environment(program: str) -> str:
    return str(Path(sys.executable).parent / program)
