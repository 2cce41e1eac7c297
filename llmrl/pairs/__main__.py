"""Makes the pairs that reward and dpo train on: `python -m llmrl.pairs`.

    data/preference -> data/pairs/{train,eval}.parquet, source.json, sample.txt; metrics/data/pairs.json
    or, with data.preference.source: sampled, of the answers of data.preference.policy to data/prompts

Answers are kept in .llmrl/ as they are given (llmrl/session/checkpoints.py), so that a run that was killed goes on, and
ends in the same bytes. One process on one device asks, whatever `launch` starts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl import folders, params, repository
from llmrl.errors import InputError, reported
from llmrl.session import checkpoints, edits, interruption, locks, provenance

if TYPE_CHECKING:
    import pyarrow as pa

    from llmrl.data.settings import Preference
    from llmrl.pairs.sampling import Policy, Questions
    from llmrl.params import Experiment
    from llmrl.progress import Progress
    from llmrl.session.checkpoints import Store
    from llmrl.session.interruption import Stop

OUT, METRICS = Path("data/pairs"), Path("metrics/data/pairs.json")
UNDONE = "has all answers already; with the change they are given anew."
SOURCE, SAMPLE, ANSWERS = "source.json", "sample.txt", "answers.parquet"


def main() -> None:
    """Make data/pairs, whole or not at all, and write its figures into metrics/."""
    experiment = params.experiment()
    if experiment.data.preference.sampled:
        with interruption.heard(experiment.run.grace) as stop:
            said = of_answers(experiment, stop)
    else:
        said = handed_on(Path(experiment.data.preference.policy))
    report = json.loads((OUT / SOURCE).read_text(encoding="utf-8"))
    rows = {side: report["rows"][side] for side in ("train", "eval")}
    figures = {"rows": rows, "overlap": report["overlap"], **report.get("sampled", {})}
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps({"data": {"pairs": figures}}, indent=2) + "\n", encoding="utf-8")
    print(f"{OUT}: {rows['train']:,} pairs to train on, {rows['eval']:,} held out, {said}")


def handed_on(source: Path) -> str:
    """The pairs of data/preference, byte for byte; and whose they are, in words."""
    with repository.replaced(OUT) as out:
        for name in ("train.parquet", "eval.parquet", SOURCE, SAMPLE):
            if not (source / name).exists():
                raise InputError(f"{source / name} is missing: `dvc repro data/dvc.yaml` makes it.")
            shutil.copyfile(source / name, out / name)
    return f"as {source} has them"


def of_answers(experiment: Experiment, stop: Stop) -> str:
    """Pairs of a policy's own answers; and what became of these, in words. Those that DVC's cache has, made so, are
    taken from there.
    """
    preference, settings, recorded = experiment.data.preference, experiment.asked, as_recorded()
    folders.check_kind(preference.policy, "ForCausalLM", "data.preference.policy")
    from transformers.utils import logging  # torch and transformers cost seconds: from here on they are needed

    from llmrl.models.loading import load_tokenizer
    from llmrl.pairs import sampling
    from llmrl.training import hardware

    logging.disable_progress_bar()
    tokenizer = load_tokenizer(preference.policy)
    asked = [sampling.to_ask(side, tokenizer, settings, preference.samples) for side in sampling.SIDES]
    inputs = [Path(preference.policy), *(one.path for one in asked)]
    choice = {"pairs": preference.pairs, "rows": preference.rows, "eval_rows": preference.eval_rows}
    made_by = provenance.what_makes(
        choice | sampling.decide_answers(settings, preference.samples), inputs, sampling.RUNS, sampling.judged_by(asked)
    )
    place = checkpoints.place(OUT.name, made_by)
    stop.goes_on = lambda: checkpoints.progress(place)
    with locks.alone_in(place, OUT.name), locks.device(OUT.name):
        machine = hardware.detect(settings)
        store = begun(place, str(machine))
        with repository.replaced(OUT) as out:
            if not interruption.asked_for() and (files := provenance.cached(str(OUT), made_by)):
                for name, file in files.items():
                    shutil.copyfile(file, out / name)
                return f"made before of the answers of {preference.policy}, and in DVC's cache"
            policy = sampling.Policy(settings, machine, tokenizer, preference.samples)
            said = made(policy, asked, preference, store, out)
            edits.require_unedited(recorded, as_recorded(), OUT.name, str(OUT), UNDONE)
            record = json.dumps(made_by | {"device": machine.kind}, indent=2, sort_keys=True)
            (out / folders.PROVENANCE).write_text(record + "\n", encoding="utf-8")
            answered = store.unfinished / checkpoints.ANSWERED
            answered.mkdir()
            shutil.copy(out / folders.PROVENANCE, answered)
            store.keep(answered, answered.name, {})
    return f"of the answers of {preference.policy}\n{said}"


def as_recorded() -> dict[str, Any]:
    """What DVC would record now of the settings and the code that made the pairs."""
    return edits.snapshot(OUT.name, Path("data/dvc.yaml"))


def begun(place: Path, device: str) -> Store:
    """The store of what the policy has answered so far; nothing where it has answered all, DVC has recorded that, and
    is told to --force.
    """
    store = checkpoints.Store(place, device)
    checkpoints.clean()
    store.open()
    if interruption.asked_for() and checkpoints.is_recorded(place):
        for kept in (store.folder / checkpoints.ANSWERED, *store.answers()):
            store.drop(kept)
    return store


def made(policy: Policy, asked: list[Questions], preference: Preference, store: Store, out: Path) -> str:
    """Ask the policy, and write the pairs; what became of its answers, in words."""
    from llmrl.pairs import sampling, summary
    from llmrl.progress import Progress

    told, read = dict[str, summary.Counts](), list[str]()
    for one, most in zip(asked, (preference.rows, preference.eval_rows), strict=True):
        with Progress(f"{OUT}: {one.side}") as progress:
            answers = sampling.enough_answers(one, preference.pairs, most, keeping(policy, one, store, progress))
        told[one.side], pairs = sampling.write_pairs(one, answers, preference.pairs, most, out)
        asked_of = answers["row"].to_pylist()
        read += summary.first_pairs((one.prompts[asked_of[pair.prompt]]["prompt"], pair) for pair in pairs)
    overlap = sampling.held_out_in(out / asked[0].path.name, asked[1])
    report = summary.report(preference.policy, told, sum(len(one.prompts) for one in asked), overlap)
    (out / SOURCE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (out / SAMPLE).write_text("\n".join(read), encoding="utf-8", errors="backslashreplace")
    return summary.what_became(told)


def keeping(policy: Policy, asked: Questions, store: Store, progress: Progress) -> Callable[[int], pa.Table]:
    """Has the answers to a chunk of a side's prompts, by its number: those that are kept, or else the policy's, which
    are kept as soon as the chunk is whole.
    """
    import pyarrow.parquet as pq

    done = 0

    def counted(more: int) -> None:
        nonlocal done
        done += more
        progress.count(done, len(asked.order) * policy.samples, "answers")

    def chunk(number: int) -> pa.Table:
        nonlocal done
        folder = store.folder / f"{checkpoints.ANSWERS}{asked.side}-{number}"
        if folder.exists():
            done += len(asked.chunks[number]) * policy.samples
        else:
            counted(0)
            written = store.unfinished / folder.name
            written.mkdir()
            pq.write_table(policy.answers(asked, number, counted), written / ANSWERS, compression="zstd")
            store.keep(written, folder.name, {})
        return pq.read_table(folder / ANSWERS)

    return chunk


if __name__ == "__main__":
    with reported():
        main()
