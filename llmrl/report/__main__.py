"""What training did, on one page.

    python -m llmrl.report                          report.html and report.md of what is here
    python -m llmrl.report my-experiment            of a commit, branch or experiment
    python -m llmrl.report main my-experiment       of both, compared
    python -m llmrl.report --compare a b            the comparison alone, in the terminal
    python -m llmrl.report --by dpo.beta            of all experiments, by a setting in which they differ

The page needs no network and no server; report.md is the same to paste into a pull request.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from llmrl.errors import InputError, reported
from llmrl.report.audit import reward_model_audited
from llmrl.report.comparison import compared, selected
from llmrl.report.curves import curves_of
from llmrl.report.document import Block, Command, Grid, Reader, Report, Section, Words, with_signs
from llmrl.report.gaming import was_it_gamed
from llmrl.report.inputs import what_went_in
from llmrl.report.making import what_made_it
from llmrl.report.markdown import LONGEST, pasted
from llmrl.report.outcome import what_came_of_it
from llmrl.report.page import page_parts
from llmrl.report.reading import what_changed, what_changed_between
from llmrl.report.recorded import WORKSPACE, Recorded, experiment_at
from llmrl.session.commit import head, uncommitted

PAGE, PASTED = Path("report.html"), Path("report.md")
VERDICTS = ("comparison", "outcome")  # sections whose paragraphs are printed
TRIPPED = {"audit": "The reward model: ", "gaming": ""}  # of which those that look wrong are, after these words
LARGE = 20e6  # bytes of a page, from which on it is said
WIDE = 200  # columns of a table in a file
STYLES = {"good": "green", "bad": "red", "note": "dim", "plain": ""}


def report_of(experiments: list[Recorded]) -> Report:
    """The report of an experiment, or of several compared."""
    if len(experiments) == 1:
        one = experiments[0]
        sections = [
            what_came_of_it(one),
            what_changed(one),
            reward_model_audited(one),
            was_it_gamed(one),
            what_went_in(one),
            what_made_it(one),
        ]
    else:
        of_each = (what_came_of_it, reward_model_audited, was_it_gamed, what_went_in, what_made_it)
        sections = [compared(experiments), what_changed_between(experiments)]
        for one in experiments:
            found = [section(one) for section in of_each]
            sections += [Section(part.name, part.title, part.blocks, of=one.revision) for part in found]
    sections = told_once([*sections, curves_of({one.revision: one.outdated for one in experiments})])
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    title = " and ".join(one.revision for one in experiments)
    title = "What training did" if title == WORKSPACE else f"What training did: {title}"
    return Report(title, f"{'; '.join(map(called, experiments))}; made {when}", sections)


def told_once(sections: list[Section]) -> list[Section]:
    """The sections, each command of an experiment where it is first told: most bring what several sections lack."""
    told = set()
    found = []
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if not isinstance(block, Command):
                blocks.append(block)
            elif (section.of, block.line) not in told:
                told.add((section.of, block.line))
                blocks.append(block)
        found.append(replace(section, blocks=blocks))
    return found


def called(experiment: Recorded) -> str:
    """A revision with its commit; of the workspace the commit it is of, and whether it has changes."""
    if experiment.commit:
        return f"{experiment.revision}, commit {experiment.commit[:7]}"
    commit, changes = head(), uncommitted()
    said = f"{experiment.revision} at commit {commit[:7]}" if commit else experiment.revision
    return f"{said}, with changes that are not committed" if changes else said


def refuse_place(option: str, path: Path) -> None:
    """Raise InputError where no file can be written: before anything is read, and a folder made for it."""
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder. It takes a file, {path / 'report'} say.")
    if path.exists() and not path.is_file():
        raise InputError(f"{option} {path}: is no file, and would be replaced by one.")
    if not there.is_dir():
        raise InputError(f"{option} {path}: {there} is a file, and can have none in it.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: {there} cannot be written to; make it yours (chown, chmod).")


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write a file whole, or leave the one that there is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(parts)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)  # mkstemp's is for its owner alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def print_blocks(screen: Console, blocks: Iterable[Block]) -> None:
    """Print blocks as wide as the screen, but for commands, which are copied."""
    for block in blocks:
        screen.print(printed(block), soft_wrap=isinstance(block, Command))


def printed(block: Block) -> RenderableType:
    """A block of a comparison in the terminal."""
    match block:
        case Words(text, tone):
            return Text(with_signs(text), STYLES[tone])
        case Command(line, what):
            return Text(with_signs(f"{what}: {line}" if what else line), "cyan")
        case Grid(columns, rows, caption):
            table = Table(box=None, pad_edge=False)
            for column, number in zip(columns, block.numeric(), strict=True):
                table.add_column(Text(with_signs(column)), justify="right" if number else "left")
            for row in rows:
                table.add_row(*(Text(with_signs(cell)) for cell in row))
            return Group(*[Text(with_signs(caption), "dim")] * bool(caption), table)
    raise TypeError(f"a comparison has no {type(block).__name__}")


def verdicts(report: Report) -> list[Block]:
    """What a stage or an experiment came to, a line each, and what brings what is missing for that; what looks wrong,
    and what is left out of the page.
    """
    found: list[Block] = []
    for section in report.sections:
        of = f"{section.of}: " if section.of else ""
        for block in section.blocks:
            if isinstance(block, Words) and (
                section.name in VERDICTS or (section.name in TRIPPED and block.tone == "bad")
            ):
                found.append(Words(f"{of}{TRIPPED.get(section.name, '')}{block.text}", block.tone))
            elif isinstance(block, Command) and section.name in VERDICTS:
                found.append(block)
            elif isinstance(block, Reader) and block.left_out:
                found.append(Words(f"{of}{block.left_out}", "note"))
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m llmrl.report", description="What training did, on one page.")
    parser.add_argument(
        "revisions", nargs="*", metavar="REV", help="commits, branches, experiments; none: what is here"
    )
    parser.add_argument("--compare", nargs="+", metavar="REV", help="print a comparison, and write no page")
    parser.add_argument("--by", metavar="KEY", help="compare experiments by a setting in which they differ: dpo.beta")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help=f"the page, instead of {PAGE}")
    parser.add_argument("--markdown", default=str(PASTED), metavar="FILE", help=f"instead of {PASTED}; -: print it")
    arguments = parser.parse_args()
    with reported():
        screen = Console(highlight=False, stderr=arguments.markdown == "-")
        if not screen.is_terminal and "COLUMNS" not in os.environ:
            screen.width = WIDE
        revisions = [*dict.fromkeys([*arguments.revisions, *(arguments.compare or ())])]
        if arguments.by or arguments.compare:
            print_blocks(screen, compared(selected(arguments.by, revisions)).blocks)
            return
        refuse_place("--out", arguments.out)
        if arguments.markdown != "-":
            refuse_place("--markdown", Path(arguments.markdown))
        report = report_of([experiment_at(one) for one in revisions or [WORKSPACE]])
        write_whole(arguments.out, page_parts(report))
        text = pasted(report)
        if arguments.markdown == "-":
            sys.stdout.write(text)
        else:
            write_whole(Path(arguments.markdown), [text])
        print_blocks(screen, verdicts(report))
        if len(text) > LONGEST:
            screen.print(Text(f"{arguments.markdown} has {len(text):,} characters; a pull request takes {LONGEST:,}."))
        if (size := arguments.out.stat().st_size) > LARGE:
            screen.print(Text(f"{arguments.out} has {size / 1e6:,.0f} MB: a browser takes a while to open it."))
        for path in [arguments.markdown] * (arguments.markdown != "-") + [arguments.out]:
            screen.print(Text(str(path)), soft_wrap=True)


if __name__ == "__main__":
    main()
