"""A stage made anew beside, from the same inputs, and its bytes compared.

It runs in a folder of .llmrl/ that has the code, the settings and the inputs of this workspace, and no cache,
checkpoint or model from which anything could be taken. The folder goes when it has ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors import SafetensorError, safe_open

from llmrl import repository
from llmrl.errors import InputError
from llmrl.folders import PROVENANCE
from llmrl.graph import STAGES
from llmrl.lineage.chain import Chain, Link, some
from llmrl.lineage.outdated import differing
from llmrl.lineage.products import Product
from llmrl.session.commit import git
from llmrl.session.records import records

NO_REASON = "Nothing that was recorded tells why; docs/reproducibility.md has what may give other last bits."


def same_again(chain: Chain, asked: str, screen: Console) -> bool:
    """Whether a stage, named by itself or by what it makes, gives the bytes that lie here; how not is said on the
    screen.

    Raises InputError where it is none, its inputs are not those it was made of, or it cannot be made.
    """
    link = stage_of(chain, asked)
    refuse_others(chain, link)
    beside = repository.root() / ".llmrl"
    (beside / "locks").mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the folder goes then, too
    with tempfile.TemporaryDirectory(prefix="again-", dir=beside) as lent:
        folder = Path(lent)
        laid_out(chain, link, folder)
        screen.print(f"making {link.name} anew in {folder}, which goes when it has ended", soft_wrap=True, markup=False)
        if status := status_of(link.stage.cmd, folder):
            raise InputError(f"{link.name}: made anew, `{link.stage.cmd}` ended with status {status}.")
        lines = [*differences(chain, link, folder)]
        if other := bool(lines):
            lines += [f"{link.name}, made anew of the same inputs, came out otherwise. {likely(link, folder)}"]
        else:
            count = sum(len(one.files) for one in link.products)
            lines = [f"{link.name}, made anew of the same inputs, came out in the same bytes: {count} files."]
    for line in lines:
        screen.print(line, soft_wrap=True, markup=False)
    return not other


def stage_of(chain: Chain, asked: str) -> Link:
    """The stage of that name, or that makes this. Raises InputError where there is none."""
    stages = [link for link in chain.links if not link.stage.is_data_source]
    for link in stages:
        if asked.rstrip("/") in (link.name, link.stage.addressing, *(one.path for one in link.products)):
            return link
    raise InputError(f"--again {asked}: is none of {', '.join(link.name for link in stages)}, nor what one makes.")


def refuse_others(chain: Chain, link: Link) -> None:
    """Raise InputError where a stage's inputs are others than it was made of, so that other bytes would tell nothing,
    or nothing is here to compare with.
    """
    found = (chain.above(chain.files.relative(dep.fs_path)) for dep in link.stage.deps)
    above = [*(one for one in found if one), *answers_above(chain, link)]
    if fault := next(iter([*link.inputs, *(one.fault for one in above if one.fault)]), None):
        raise InputError(f"{link.name} would not be made of what it was made of: {fault.what}. {fault.mended}.")
    if absent := [one.path for one in above if one.absent]:
        raise InputError(f"{', '.join(absent)}: not here, and {link.name} is made of it. `dvc pull` brings it.")
    if not any(one.files for one in link.products):
        raise InputError(f"{link.name} was not made yet, or is not here: `dvc repro` makes it, `dvc pull` brings it.")


def answers_above(chain: Chain, link: Link) -> Iterator[Product]:
    """The answers of the policies that a stage's own comes from: where it scores them it reads them, and no dependency
    names them.
    """
    stages = chain.experiment.stages
    own = stages.get(link.name)
    while own and "reward_model" in STAGES[link.name].models:
        init = Path(own.own.init)
        if init.parent != Path("models") or not (one := chain.made.get(f"metrics/{init.name}/held_out")):
            return
        yield one
        own = stages.get(init.name)


def laid_out(chain: Chain, link: Link, folder: Path) -> None:
    """The project's files, but for figures, and the stage's inputs, copied into a folder; the locks by which a device
    is used by one run alone are shared.
    """
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:
        raise InputError("--again: git must tell which files are the project's, and there is no repository.")
    paths = {name: chain.files.root / name for name in listed.split("\0") if name and not name.startswith("metrics/")}
    for dep in link.stage.deps:
        path = chain.files.relative(dep.fs_path)
        above = chain.above(path)
        files = above.files if above else chain.files.at(path)
        paths |= {f"{above.path if above else path}/{name}".rstrip("/"): file for name, file in files.items()}
    for one in answers_above(chain, link):
        paths |= {f"{one.path}/{name}": file for name, file in one.files.items()}
    for name, file in paths.items():
        if file.is_file():  # git lists what was removed and not committed, too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copied_to(file, folder / name)
    if (env := repository.root() / ".env").exists():
        copied_to(env, folder / env.name)
    (folder / ".llmrl").mkdir()
    (folder / ".llmrl" / "locks").symlink_to(repository.root() / ".llmrl" / "locks")


def status_of(command: str, folder: Path) -> int:
    """The status with which a stage's command ended, started in a folder as if by hand: it trains whatever there is."""
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(("sh", "-c", command), cwd=folder, env=environment, process_group=0)
    try:
        return process.wait()
    except BaseException:  # Ctrl-C, say: nothing that it made is kept, so nobody waits for it
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def copied_to(file: Path, to: Path) -> None:
    """A copy that shares its blocks where the file system can."""
    from dvc_objects.fs.system import reflink

    try:
        reflink(str(file), str(to))
    except OSError:
        shutil.copyfile(file, to)


def differences(chain: Chain, link: Link, folder: Path) -> Iterator[str]:
    """Of each product the first file that came out otherwise, and how; `folder` has the new ones."""
    for one in link.products:
        made = folder / one.path
        new = {"" if made.is_file() else file.relative_to(made).as_posix(): file for file in files_at(made)}
        if not one.files:
            if one.recorded and repository.digest(made) != one.recorded:
                yield f"{one.path}: not here, and not what {one.lock} recorded"
            continue
        old = {name: chain.files.hashed(file) for name, file in one.files.items() if file.exists()}
        digests = {name: repository.digest(file) for name, file in new.items()}
        if other := sorted(name for name in old | digests if old.get(name) != digests.get(name)):
            more = f"; {len(other) - 1} more of its files differ" if len(other) > 1 else ""
            said = how(one.files.get(other[0]) if other[0] in old else None, new.get(other[0]))
            yield f"{one.path}/{other[0]}".rstrip("/") + f": {said}{more}"


def files_at(path: Path) -> list[Path]:
    """Those of a folder, or a file."""
    return [path] if path.is_file() else repository.files(path)


def how(old: Path | None, new: Path | None) -> str:
    """In what two files differ, in words."""
    if not old or not new:
        return "made anew, there is none" if old else "made anew, there is one more"
    if new.suffix == ".json":
        before, after = read(old), read(new)
        if isinstance(before, dict) and isinstance(after, dict) and (names := differing(before, after)):
            return f"other {some(names)}"
    if new.suffix == ".safetensors":
        with suppress(SafetensorError, TypeError):  # where one is not whole, or of a type that numpy lacks
            return tensors(old, new)
    sizes = old.stat().st_size, new.stat().st_size
    return "other bytes" + (f", {sizes[1]:,} of them, which were {sizes[0]:,}" if sizes[0] != sizes[1] else "")


def read(file: Path) -> Any:
    """What JSON holds; None where it is none, or no such file."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def tensors(old: Path, new: Path) -> str:
    """Which tensors of two files differ, and by how much."""
    gaps = {}
    with safe_open(old, framework="np") as before, safe_open(new, framework="np") as after:
        names = sorted(before.keys())
        if names != sorted(after.keys()):
            return f"other tensors, as {min({*names} ^ {*after.keys()})}"
        for name in names:
            one, other = before.get_tensor(name), after.get_tensor(name)
            if (one.shape, one.dtype) != (other.shape, other.dtype):
                return f"{name} is {other.dtype} {other.shape}, and was {one.dtype} {one.shape}"
            if one.tobytes() != other.tobytes():
                gaps[name] = float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max())
    if not gaps:
        return "the same tensors under another header"
    worst = max(gaps, key=lambda name: gaps[name])
    return f"{len(gaps)} of {len(names)} tensors differ, {worst} the most, by up to {gaps[worst]:.3g}"


def likely(link: Link, folder: Path) -> str:
    """What was other when the model was made, and likely is why: versions, device, machine."""
    model = next((one for one in link.products if one.path.startswith("models/")), None)
    if not model or PROVENANCE not in model.files:
        return NO_REASON
    both = [read(model.files[PROVENANCE]) or {}, read(folder / model.path / PROVENANCE) or {}]
    then, now = ({"device": said.get("device"), **said.get("versions", {})} for said in both)
    runs = [run for run in records().values() if run and run.get("model") == model.recorded]
    for run, known in (
        (runs[-1] if runs else None, then),
        (next(map(read, folder.glob("runs/*/run.json")), None), now),
    ):
        known |= {"on": f"{run.get('machine')} ({run.get('device')})"} if run else {}
    names = [name for name in differing(then, now) if name in then and name in now]
    if names:
        return f"Likely because of {', '.join(f'{name} {then[name]}, now {now[name]}' for name in names)}."
    return NO_REASON
