"""What the commands ``distill`` and ``select`` share: flags of every method, and what they print."""

# Annotations are evaluated here: cyclopts reads the class of the chosen method from them.
import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from attar import registry
from attar.cli import show, words
from attar.condensed import Condensed
from attar.execute.plan import Plan
from attar.execute.progress import usual
from attar.judged import SCORES
from attar.method import Method
from attar.real.realset import RealSet
from attar.verbs.estimate import estimate, seconds
from attar.verbs.make import Job, make, named
from attar.verbs.options import Amount, Compute, Course, Data, owners
from attar.verbs.schedule import ahead

T = TypeVar("T", Method, Amount, Data)
LONG = 60.0
"""Seconds of work from which on the command says beforehand how long it takes."""
MUCH = 1e11
"""Floating-point operations below which no machine takes so long."""


def command(verb: str, arguments: Sequence[str], default: str) -> Callable[..., None]:
    """The function of ``attar VERB`` with the flags of the method that is asked for."""
    kind = registry.find(words.value(arguments, "--method", default))
    owners((kind, Course, Amount, Data, Compute))  # refuses a setting that attar itself has

    def act(
        source: str,
        /,
        *,
        method: Annotated[
            str, Parameter(help=f"One of {', '.join(registry.names(verb))}; or my.py:MyMethod.")
        ] = default,
        out: Annotated[Path | None, Parameter(help="Folder to write; default SOURCE-METHOD-ipcN here.")] = None,
        amount: Annotated[Amount, show.Flat] = Amount(),
        seed: Annotated[int, Parameter(help="Seed of the run.")] = 0,
        minutes: Annotated[
            float | None,
            Parameter(
                help="Stop after so many minutes at the best state by then (of idc, dream, idm, datm, and ncfm with a sampler, "
                "at the last one)."
            ),
        ] = None,
        quick: Annotated[
            bool,
            Parameter(negative="", help="The method's short schedule for two CPU cores, where nothing else is given."),
        ] = False,
        preset: Annotated[
            str | None,
            Parameter(
                help="The authors' settings for a data set and images per class, as cifar10-10; attar methods NAME lists them."
            ),
        ] = None,
        dry_run: Annotated[bool, Parameter(negative="", help="Print cost and memory, and do nothing.")] = False,
        json: show.Json = False,
        settings: Annotated[Any, show.Named] = None,
        data: Annotated[Data, show.Flat] = Data(),
        compute: Annotated[Compute, show.Flat] = Compute(),
    ) -> None:
        made = settings if settings is not None else kind()
        instead = ahead(kind, words.typed(arguments), quick=quick, preset=preset)
        amount = replaced(amount, instead)
        job = Job(
            verb=verb,
            source=source,
            name=method,
            method=replaced(made, instead),
            amount=amount,
            data=replaced(data, instead),
            compute=compute,
            seed=seed,
            minutes=minutes,
            out=named((out or words.default_out(source, method, amount)).expanduser()),
            forewarn=partial(forewarn, quick=quick),
        )
        if dry_run:
            _show_estimate(estimate(job), json)
        else:
            began = time.monotonic()
            _show_result(make(job, usual()), time.monotonic() - began, json)

    act.__annotations__["settings"] = Annotated[kind, show.Named]
    act.__kwdefaults__ = {**(act.__kwdefaults__ or {}), "settings": kind()}
    act.__doc__ = f"""{verb}

    Parameters
    ----------
    source
        digits, a folder of class folders, a parquet file or a folder of them, an npz file, hf:owner/name, or (to select) a
        COCO folder; shards of features are selected from with --on (attar select --on local --help).
    """
    return act


def replaced(settings: T, instead: Mapping[str, Any]) -> T:
    """The settings with those of ``instead`` that are among them."""
    known = {field.name for field in dataclasses.fields(settings)}
    return dataclasses.replace(settings, **{name: value for name, value in instead.items() if name in known})


def forewarn(job: Job, real: RealSet, how: Plan, *, quick: bool = False) -> None:
    """Says on stderr how long the work takes where that is a minute or more: shared trainings, and the method if not limited."""
    limited = job.minutes is not None
    flops = job.shared_flops(real) if limited else job.flops(real)
    took = seconds(flops, how) if flops > MUCH else 0.0
    if took >= LONG:
        shorter = "; --quick takes a short schedule" if type(job.method).quick and not quick else ""
        first = " for shared trainings, which come first and which --minutes does not stop" if limited else ""
        show.aside(f"up to {show.about(took)} on this machine{first}{shorter}")


def _show_estimate(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return show.as_json(found)
    kept = " and ".join(map(str, found["kept_rows"]))
    steps = f", {found['steps']} steps" if found["steps"] else ""
    show.lines(
        f"{found['method']} on {found['source']}: {found['real_rows']} examples to {kept}{steps}",
        f"time: {show.about(found['seconds'])} ({found['flops']:.2g} floating-point operations)",
        f"memory: about {show.size(found['memory_bytes'])}"
        + (f" of {show.size(found['free_memory_bytes'])} free" if found["free_memory_bytes"] else ""),
    )


def _show_result(done: list[Condensed], took: float, as_json: bool) -> None:
    """The finished sets; a person is told how long it took in all, not the method's own time without shared trainings."""
    facts = [
        {
            "folder": str(kept.path),
            "rows": len(kept),
            "kind": kept.kind,
            "real_rows": kept.manifest["source"]["rows"],
            "seconds": kept.manifest["lineage"][-1]["seconds"],
            "bytes": kept.manifest["budget"]["bytes_examples"],
            "scores": f"{kept.path}/{SCORES}" if SCORES in kept.files else None,
            "notes": kept.manifest["lineage"][-1].get("notes", []),
        }
        for kept in done
    ]
    if as_json:
        return show.as_json(facts[0] if len(facts) == 1 else {"sets": facts})
    show.lines(*facts[0]["notes"])
    for f in facts:
        made = "synthetic" if f["kind"] == "synthetic" else "real"
        show.lines(
            f"{f['folder']}: {f['rows']} {made} examples in place of {f['real_rows']}, {show.duration(max(took, f['seconds']))}"
        )
    first, scores = facts[0]["folder"], facts[0]["scores"]
    show.lines(f"look at it: {first}/report.html", _next(done[0], shlex.quote(first)))
    show.lines(*([f"what was known of every example: {scores}"] if scores else []))


def _next(kept: Condensed, folder: str) -> str:
    """What one does with such a set."""
    if kept.manifest["task"] == "detection":
        return f"as COCO: attar export {folder} --format coco --to OUT"
    if not kept.labelled:
        return f"its images: attar export {folder} --format folder --to OUT"
    made = kept.manifest["lineage"][0].get("data", {})
    if made.get("unlabelled"):  # a person labelled only what is kept
        return f"how good is it, by labelled data with a test split: attar evaluate {folder} --real DATA"
    return f"how good is it: attar evaluate {folder}"
