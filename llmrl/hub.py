"""A repository of the Hugging Face Hub at one commit: its files, by way of the Hub's own cache.

Only a source that is of the Hub imports this. What can go wrong is said in one line that tells what to do. The token
comes from the environment or `.env`, and goes nowhere but to the Hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import yaml
from huggingface_hub import constants, errors

from llmrl.errors import DISK, InputError
from llmrl.progress import Progress
from llmrl.sections import COMMIT

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
        self.hashes: dict[str, str] = {}  # sha256 of each file that was asked for

    def __str__(self) -> str:
        return f"{self.name}@{self.revision[:7]}"

    def paths(self) -> list[str]:
        """All files there are at the commit. The list stays in the cache, for a time without a network."""
        at: dict[str, Any] = {"repo_type": self.kind, "revision": self.revision}
        with explained(self.kind, self.name, self.revision):
            huggingface_hub.snapshot_download(self.name, **at, allow_patterns="README.md")
            return sorted(file.path for file in huggingface_hub.get_cached_repo_tree(self.name, **at))

    def card(self) -> dict[str, Any]:
        """What stands as YAML at the head of README.md."""
        if "README.md" not in self.paths():
            return {}
        try:
            return huggingface_hub.metadata_load(self.file("README.md")) or {}
        except (ValueError, yaml.YAMLError) as error:
            text = str(error).splitlines()[0]
            raise InputError(f"{self}/README.md: its head is not the YAML it must be: {text}.") from None

    def file(self, path: str) -> Path:
        """A file, downloaded where the cache has not got it, and compared with the Hub's hash of it."""
        with explained(self.kind, self.name, self.revision):
            found = Path(
                huggingface_hub.hf_hub_download(
                    self.name, path, repo_type=self.kind, revision=self.revision, tqdm_class=self.meter(path)
                )
            )
        if path not in self.hashes:
            self.hashes[path] = self.checked(found, path)
        return found

    def checked(self, file: Path, path: str) -> str:
        """The sha256 of a downloaded file. Raises InputError, and deletes it, where it is not what the Hub has."""
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        # The cache names a file by the Hub's hash: of large files their sha256, of others git's. Where the file
        # system has no links, it does not.
        expected = file.readlink().name if file.is_symlink() else sha256
        found = git(file.read_bytes()) if len(expected) == 40 else sha256
        if found != expected:
            file.resolve().unlink()
            file.unlink()
            raise InputError(
                f"{self}/{path}: what was downloaded is not what the Hub has (hash {found[:12]}…, not "
                f"{expected[:12]}…). It is deleted from the cache; run this again."
            )
        return sha256

    def meter(self, path: str) -> type:
        """What the client reports the bytes of a download to, in place of a bar of its own."""
        name, progress = f"{self.name} {path}", self.progress

        class Meter:
            def __init__(self, total: int | None = None, initial: int = 0, **_: Any) -> None:
                self.total, self.size = total, initial

            def __enter__(self) -> Meter:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def update(self, size: float | None = 1) -> None:
                self.size += int(size or 0)
                progress.received(name, self.size, self.total)

            def update_transfer(self, size: float | None = 1) -> None:
                pass

            set_postfix_str = set_transfer_postfix_str = set_description_str = lambda *_, **__: None
            close = refresh = lambda *_: None

        return Meter


def model(name: str, revision: str | None, folder: Path) -> None:
    """Link the files of a model into a folder: those of the commit alone, whatever else the cache may hold of it."""
    with Progress("models/base") as progress:
        repository = Repository("model", name, revision, progress)
        paths = repository.paths()
        wanted = [path for path in paths if MODEL_FILES.fullmatch(path) or WEIGHTS.fullmatch(path)]
        if not any(WEIGHTS.fullmatch(path) for path in wanted):
            held = ", ".join(path for path in paths if re.search(r"\.(bin|pth?|ckpt|gguf|h5|msgpack)$", path))
            raise InputError(
                f"{repository} has no weights as model.safetensors, which alone are read"
                f"{f' (but {held})' if held else ''}; use another model."
            )
        folder.mkdir(parents=True)
        for path in wanted:
            (folder / path).symlink_to(repository.file(path).absolute())


def git(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def newest(kind: str, name: str, revision: str | None) -> str:
    """The commit that a branch or tag of a repository stands at, or its main branch."""
    with explained(kind, name, revision):
        return str(huggingface_hub.HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=30).sha)


@contextmanager
def explained(kind: str, name: str, revision: str | None) -> Iterator[None]:
    """Raise InputError in place of whatever the client met, but for a disk that refuses."""
    try:
        yield
    except (httpx.HTTPError, OSError, ValueError, RuntimeError, errors.CachedRepoTreeNotFoundError) as met:
        error: BaseException = met
        while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
            error = error.__cause__  # why it had to be in the cache
        if getattr(error, "errno", None) in DISK:
            raise
        raise InputError(f"{name}{f'@{revision[:7]}' if revision else ''}: {reason(error, kind, name)}") from None


def reason(error: BaseException, kind: str, name: str) -> str:
    """What happened, and what to do. Nothing of the error's own text that could hold the token."""
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"
    known = huggingface_hub.get_token() is not None
    what = {"dataset": "data set", "model": "model"}[kind]
    match error:
        case errors.OfflineModeIsEnabled() | errors.LocalEntryNotFoundError():
            return (
                f"is not in the Hub's cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE keeps it from being asked "
                "for: run this once with a network and without HF_HUB_OFFLINE."
            )
        case errors.GatedRepoError():
            if known:
                return f"is gated, and your token has no access: ask for it at {page}, then run this again."
            return f"is gated: ask for access at {page}, then put your token into .env (HF_TOKEN=…)."
        case errors.RevisionNotFoundError():
            return f"the {what} has no such commit or branch: write `revision: null` and run `make pin`."
        case errors.RepositoryNotFoundError():
            hint = "your token may not read it" if known else "put a token that may read it into .env (HF_TOKEN=…)"
            return f"there is no such {what} at {constants.ENDPOINT}, or it is private: check the name, or {hint}."
        case errors.EntryNotFoundError():
            return f"the {what} has no longer all its files (404); see {page}."
        case errors.HfHubHTTPError():
            return refused(error.response, page)
        case UnicodeEncodeError() | httpx.LocalProtocolError():  # their texts show the token
            return "the token (HF_TOKEN) has a character in it that no token has; copy it anew."
        case httpx.TransportError() | ConnectionError() | TimeoutError():
            return (
                f"the connection to {constants.ENDPOINT} failed ({type(error).__name__}): check network, proxy and "
                "HF_ENDPOINT, and run this again; what is in the cache stays there."
            )
        case RuntimeError() if "CAS Client Error" in str(error):  # Xet, the Hub's store of large files
            return (
                f"the Hub's store failed ({shown(error)}): check network and proxy, and run this again; with "
                "HF_HUB_DISABLE_XET=1 the files come another way."
            )
        case OSError() if "Consistency check failed" in str(error):
            return "a file came incomplete; run this again."
    return f"could not be downloaded ({type(error).__name__}: {shown(error)}); run this again."


def refused(response: httpx.Response, page: str) -> str:
    """What an answer of the Hub means, by its status."""
    status = response.status_code
    if status == 401:
        return f"the Hub does not know your token (401): make one at {constants.ENDPOINT}/settings/tokens for HF_TOKEN."
    if status == 403:
        return f"the Hub forbids it (403): give your token the permission to read {page}, or ask for access there."
    if status == 404:
        return f"the Hub has nothing there (404): check the name and the commit at {page}."
    if status == 429:
        return "too many requests (429): wait some minutes, then run this again; a token (HF_TOKEN) allows more."
    if status >= 500:
        return f"the Hub is out of order ({status}): run this again later; what is in the cache stays there."
    return f"the Hub answers with {status}; see {page}."


def shown(error: BaseException) -> str:
    """The first line of an error's text, without the token."""
    text = (str(error).strip().splitlines() or [""])[0]
    token = huggingface_hub.get_token()
    return text.replace(token, "…") if token else text
