"""The runs there were, and which of them, at which commit, made a model or a data set.

    python -m llmrl.lineage.runs                a line a run: its folder, what it made, and how it ended
    python -m llmrl.lineage.runs models/grpo    the run, commit and experiment that made what lies there, or in a copy

A product is found by its hash, which is the one that DVC has for it: in run.json of runs/, and in what the three
dvc.lock were in any commit or experiment. So a model need not name a commit, and is the same bytes at each.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from llmrl import repository
from llmrl.errors import InputError, reported
from llmrl.session.commit import git
from llmrl.session.records import Record, records


def commits(product: str) -> list[tuple[str, str]]:
    """The commits and experiments in which a dvc.lock first has a product of this hash, oldest first: what each is
    called, and the command that goes back to it.
    """
    locks = [str(lock) for lock in repository.LOCKS]
    listed = git("log", "--all", "--reverse", "--format=%h %s", f"-S{product}", "--", *locks) or ""
    found = []
    for line in listed.splitlines():
        commit = line.partition(" ")[0]
        if product not in "".join(git("show", f"{commit}:./{lock}") or "" for lock in locks):
            continue  # the one that has it no more
        names = git("for-each-ref", "--points-at", commit, "--format=%(refname:lstrip=-1)", "refs/exps/??/*/*") or ""
        found += [(f"experiment {name}", f"dvc exp apply {shlex.quote(name)}") for name in names.splitlines()]
        if not names:
            found.append((f"commit {line}", f"git checkout {commit} && dvc checkout"))
    return found


def ended(record: Record | None) -> str:
    """How a run ended, in a line."""
    if record is None:
        return "its record is cut short"
    if "exit" not in record:
        return "is running, or was killed"
    trained = "trained" if "training" in record["phases"] else "measured alone"
    return trained if record["exit"] == 0 else str(record["exit"]).partition("\n")[0]


def began(record: Record) -> str:
    """The commit that a run began from, where there was one, and what was changed since."""
    said = [f"commit {record['commit'][:7]}"] if record["commit"] else []
    if record["changed"] is None:
        said.append("what was changed since is not known" if said else "not known")
    elif record["changed"]:
        said.append(f"with changes in {', '.join(record['changed'])}")
    return ", ".join(said)


def what_made(product: Path) -> Text:
    """The runs and commits that have made what lies in a folder. Raises InputError where there are none."""
    if not product.is_dir():
        raise InputError(f"{product} is no folder; models/grpo, for one, is where a stage writes.")
    digest = repository.digest(product)
    said = [("hash", digest)]
    runs = [record for record in records().values() if record and record.get("model") == digest]
    for record in runs:
        said.append(("run", f"runs/{record['id']}: {ended(record)}, {record['started']}, on {record['machine']}"))
        if at := began(record):
            said.append(("  at", at))
    found = commits(digest)
    for called, back in found:
        said += [("recorded", called), ("  back to it", back)]
    if not runs and not found:
        raise InputError(
            f"{product}: no run of this clone, and no commit or experiment that it knows, made a product of the hash "
            f"{digest}. Either a file in it was changed, or it was made elsewhere: `git fetch` and `dvc exp pull "
            "origin` bring commits and experiments."
        )
    return Text("\n".join(f"{name:14}{text}" for name, text in said))


def every() -> Text:
    """A line for each run of this clone. Raises InputError where there are none."""
    if not (found := records()):
        raise InputError("There are no runs yet: `dvc repro` makes some.")
    width = max(len(folder.name) for folder in found)
    made = {folder: (record or {}).get("model", "")[:8] for folder, record in found.items()}
    lines = (f"{one.name:{width}}  {made[one]:8}  {ended(record)}" for one, record in found.items())
    return Text("\n".join(lines))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m llmrl.lineage.runs", description="Which run made what.")
    parser.add_argument("product", nargs="?", type=Path, help="a folder such as models/grpo; without: all runs")
    arguments = parser.parse_args()
    with reported():
        console = Console(highlight=False)
        if not arguments.product and console.is_terminal:
            console.print(every(), no_wrap=True, overflow="ellipsis")
        else:
            console.print(what_made(arguments.product) if arguments.product else every(), soft_wrap=True)


if __name__ == "__main__":
    main()
