"""A repository of the Hugging Face Hub at one commit: its files, by way of the Hub's own cache.

Only a source that is of the Hub imports this. What can go wrong is said in one line that tells what to do. The token
comes from the environment or `.env`, and goes nowhere but to the Hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import yaml
from huggingface_hub import constants, errors
from huggingface_hub.utils.sha import git_hash

from llmrl.errors import DISK, InputError
from llmrl.progress import Progress
from llmrl.repository import sha256
from llmrl.sources import COMMIT

# What is worth saying is said here.
huggingface_hub.logging.set_verbosity_error()
huggingface_hub.utils.disable_progress_bars()

# A model's own code is never run, and weights that are pickles never read.
MODEL_FILES = re.compile(r"[\w.-]+\.(json|jinja|model|txt)")
WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


class Repository:
    """A data set's or a model's repository at a commit."""

    def __init__(self, kind: str, name: str, revision: str | None, progress: Progress) -> None:
        if not COMMIT.fullmatch(revision or ""):
            found = f"{revision!r} is none" if revision else "it is missing"
            raise InputError(
                f"params.yaml: {name} is a repository of the Hub and needs its commit as `revision`, 40 hexadecimal "
                f"digits, but {found}. `make pin` writes it."
            )
        self.kind, self.name, self.revision, self.progress = kind, name, str(revision), progress
        self.at: dict[str, Any] = {"repo_type": kind, "revision": revision}

    def __str__(self) -> str:
        return f"{self.name}@{self.revision[:7]}"

    @cached_property
    def tree(self) -> dict[str, str]:
        """All files at the commit, with the Hub's hash of each: of a large one its sha256, else git's.

        The list stays in the cache, for a time without a network.
        """
        with explained(self.kind, self.name, self.revision):
            huggingface_hub.snapshot_download(self.name, **self.at, allow_patterns="README.md")
            files = huggingface_hub.get_cached_repo_tree(self.name, **self.at)
        return dict(sorted((file.path, file.lfs.sha256 if file.lfs else file.blob_id) for file in files))

    def card(self) -> dict[str, Any]:
        """What stands as YAML at the head of README.md."""
        if "README.md" not in self.tree:
            return {}
        try:
            return huggingface_hub.metadata_load(self.file("README.md")) or {}
        except (ValueError, yaml.YAMLError) as error:
            text = str(error).splitlines()[0]
            raise InputError(f"{self}/README.md: its head is not the YAML it must be: {text}.") from None

    def file(self, path: str) -> Path:
        """A file, downloaded where the cache has not got it. Raises InputError, and deletes it, where it is another."""
        name, progress = f"{self.name} {path}", self.progress

        class Meter(huggingface_hub.utils.tqdm):
            """Reports the bytes of a download to our progress, in place of a bar of its own."""

            def update(self, size: float | None = 1) -> None:
                self.n += int(size or 0)
                progress.received(name, self.n, self.total)

            def update_transfer(self, size: float | None = 1) -> None:
                """Xet's, of the bytes before they are unpacked."""

            set_transfer_postfix_str = huggingface_hub.utils.tqdm.set_postfix_str

        with explained(self.kind, self.name, self.revision):
            found = Path(huggingface_hub.hf_hub_download(self.name, path, **self.at, tqdm_class=Meter))
        expected = self.tree[path]
        held = sha256(found) if len(expected) == 64 else git_hash(found.read_bytes())
        if held != expected:
            found.resolve().unlink()
            found.unlink(missing_ok=True)
            raise InputError(
                f"{self}/{path}: what was downloaded is not what the Hub has (hash {held[:12]}…, not "
                f"{expected[:12]}…). It is deleted from the cache; run this again."
            )
        return found


def model(name: str, revision: str | None, folder: Path) -> None:
    """Link the files of a model into a folder: those of the commit alone, whatever else the cache may hold of it."""
    with Progress("models/base") as progress:
        repository = Repository("model", name, revision, progress)
        wanted = [path for path in repository.tree if MODEL_FILES.fullmatch(path) or WEIGHTS.fullmatch(path)]
        if not any(WEIGHTS.fullmatch(path) for path in wanted):
            held = ", ".join(path for path in repository.tree if re.search(r"\.(bin|pth?|ckpt|gguf|h5|msgpack)$", path))
            raise InputError(
                f"{repository} has no weights as model.safetensors, which alone are read"
                f"{f' (but {held})' if held else ''}; use another model."
            )
        folder.mkdir(parents=True)
        for path in wanted:
            (folder / path).symlink_to(repository.file(path).absolute())


def newest(kind: str, name: str, revision: str | None) -> str:
    """The commit that a branch or tag of a repository stands at, or its main branch."""
    with explained(kind, name, revision):
        return str(huggingface_hub.HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=30).sha)


@contextmanager
def explained(kind: str, name: str, revision: str | None) -> Iterator[None]:
    """Raise InputError in place of whatever the client met, but for a disk that refuses."""
    try:
        yield
    except (httpx.HTTPError, OSError, ValueError, RuntimeError, errors.CachedRepoTreeNotFoundError) as error:
        while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
            error = error.__cause__  # why it had to be in the cache
        if getattr(error, "errno", None) in DISK:
            raise
        raise InputError(f"{name}{f'@{revision[:7]}' if revision else ''}: {reason(error, kind, name)}") from None


def reason(error: BaseException, kind: str, name: str) -> str:
    """What happened, and what to do. Nothing of the error's own text that could hold the token."""
    hub = constants.ENDPOINT
    what, page = ("model", f"{hub}/{name}") if kind == "model" else ("data set", f"{hub}/datasets/{name}")
    token = huggingface_hub.get_token()
    text = next(iter(str(error).strip().splitlines()), "")
    text = text.replace(token, "…") if token else text
    answers = {
        401: f"the Hub does not know your token (401): make one at {hub}/settings/tokens for HF_TOKEN.",
        403: f"the Hub forbids it (403): give your token the permission to read {page}, or ask for access there.",
        404: f"the Hub has nothing there (404): check the name and the commit at {page}.",
        429: "too many requests (429): wait some minutes, then run this again; a token (HF_TOKEN) allows more.",
    }
    match error:
        case errors.OfflineModeIsEnabled() | errors.LocalEntryNotFoundError():
            return (
                f"is not in the Hub's cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE keeps it from being asked "
                "for: run this once with a network and without HF_HUB_OFFLINE."
            )
        case errors.GatedRepoError() if token:
            return f"is gated, and your token has no access: ask for it at {page}, then run this again."
        case errors.GatedRepoError():
            return f"is gated: ask for access at {page}, then put your token into .env (HF_TOKEN=…)."
        case errors.RevisionNotFoundError():
            return f"the {what} has no such commit or branch: write `revision: null` and run `make pin`."
        case errors.RepositoryNotFoundError():
            may = "your token may not read it" if token else "put a token that may read it into .env (HF_TOKEN=…)"
            return f"there is no such {what} at {hub}, or it is private: check the name, or {may}."
        case errors.EntryNotFoundError():
            return f"the {what} has no longer all its files (404); see {page}."
        case errors.HfHubHTTPError():
            if (status := error.response.status_code) >= 500:
                return f"the Hub is out of order ({status}): run this again later; what is in the cache stays there."
            return answers.get(status, f"the Hub answers with {status}; see {page}.")
        case UnicodeEncodeError() | httpx.LocalProtocolError():  # their texts show the token
            return "the token (HF_TOKEN) has a character in it that no token has; copy it anew."
        case httpx.TransportError() | ConnectionError() | TimeoutError():
            return (
                f"the connection to {hub} failed ({type(error).__name__}): check network, proxy and HF_ENDPOINT, and "
                "run this again; what is in the cache stays there."
            )
        case RuntimeError() if "CAS Client Error" in str(error):  # Xet, the Hub's store of large files
            return (
                f"the Hub's store failed ({text}): check network and proxy, and run this again; with "
                "HF_HUB_DISABLE_XET=1 the files come another way."
            )
        case OSError() if "Consistency check failed" in str(error):
            return "a file came incomplete; run this again."
    return f"could not be downloaded ({type(error).__name__}: {text}); run this again."
