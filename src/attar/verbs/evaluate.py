"""evaluate: how good is it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attar import code
from attar.condensed import Condensed, open_condensed
from attar.errors import DataError, UsageError
from attar.evaluate import evaluate as scoring
from attar.evaluate.imported import condensed_from_pt
from attar.evaluate.presets import RANKING
from attar.evaluate.ranking import ranking
from attar.execute import crew, plan
from attar.execute.progress import Progress, usual
from attar.io.lock import lock
from attar.manifest import DATA, EXACT, fault
from attar.nets import build
from attar.real.cache import root
from attar.real.load import load
from attar.real.realset import RealSet, Splits
from attar.report import page
from attar.verbs import read as reading
from attar.verbs.options import Compute, Data, Published, divide

EPOCHS = 1000
"""Epochs of a training where nobody gave them, for the choice of threads and of compiling."""


def evaluate(
    condensed: Condensed | str | Path,
    *,
    real: Any = None,
    protocol: str | None = None,
    nets: str | tuple[Any, ...] = "convnet",
    teacher: str | None = None,
    teacher_epochs: int | None = None,
    seeds: int = 5,
    first_seed: int = 0,
    epochs: int | None = None,
    augment: str | None = None,
    random: bool = True,
    full: bool = False,
    eight_bit: bool = True,
    save: bool = True,
    keep_going: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Scores a small set: fresh networks are trained on it and tested on the real test split, beside random examples.

    Args:
        condensed: a folder that attar wrote, a Condensed, or a published ``.pt`` of images and labels (with ``real``).
        real: the real data; left out, they are found from the manifest.
        protocol: ``dc``, ``dsa``, ``idc``, ``fkd``, ``rded`` ...; ``dd-ranking``, or ``dd-ranking:dsa`` for another one than the
            set's own; left out, that of these which is nearest to the paper's of its method, whose page says what differs.
        nets: networks, as a comma-separated string or a tuple.
        teacher: network that labels under fkd and rded, trained on all real examples; left out, the scored one. Beside soft
            labels of the set it answers for the random examples, which else have hard labels.
        teacher_epochs: of its training; left out, about 2,500 updates, fewer than published teachers had.
        seeds: networks trained for each score. first_seed: the first one's seed; the next ones count up.
        epochs, augment: other values than the protocol's.
        random: score random real examples of the same budget too, redrawn for every seed.
        full: score a network trained on all real examples too.
        eight_bit: score the 8-bit pictures of a synthetic set beside its exact tensors.
        save: write the scores, the card and the page into the folder.
        keep_going: a network whose training on the set breaks (its loss becomes NaN) gets a score object that tells so under
            ``broken``, in the place of accuracies, and is not saved; left out, it ends the call, as always under dd-ranking,
            which chooses rates at which trainings hold.
        settings: of a published ``.pt`` ``labels`` (their file), ``index``, ``logits``, ``lr``; ``size`` and whatever reads the
            data, where they are read otherwise than when the set was made; ``device``, ``dtype``, ``compile``; ``threads``:
            where they are left out on a CPU, networks are trained beside each other, a core each.

    Returns:
        Score objects; accuracies are fractions.

    Raises:
        AttarError: one sentence with the remedy.
    """
    _, compute, published = divide(settings, (Data, Compute, Published))
    read = {k: v for k, v in settings.items() if not hasattr(compute, k) and not hasattr(published, k)}
    kept, splits = opened(condensed, real, read, progress or usual(), published)
    _ = kept.labels  # of a set without any, that sentence
    ranked, base = divided(protocol, random)
    score, beside = (
        (ranking, {})
        if ranked
        else (scoring.evaluate, {"random": random, "full": full, "eight_bit": eight_bit, "keep_going": keep_going})
    )
    ways = 8 if ranked else 1 + random + (eight_bit and "image" in kept.exact)
    how = planned(compute, kept, splits.train, specs(nets), epochs=seeds * ways * (epochs or EPOCHS))
    with how.applied():
        scores = score(
            kept,
            splits,
            protocol=base if ranked else protocol,
            nets=specs(nets),
            teacher=teacher,
            teacher_epochs=teacher_epochs,
            seeds=seeds,
            first_seed=first_seed,
            epochs=epochs,
            augment=augment,
            store=root(),
            progress=progress or usual(),
            device=how.device,
            plan=how,
            workers=(workers := side_by_side(compute, how, seeds)),
            **beside,
        )
    told = how.facts() if workers == 1 else {**how.facts(), "threads": 1, "workers": workers}
    scores = [{**s, "plan": told} for s in scores]
    if save and kept.path is not None:
        record(kept, [s for s in scores if "broken" not in s], splits)
    return scores


def divided(protocol: str | None, random: bool) -> tuple[bool, str | None]:
    """Whether a protocol is the ranking, and the one that its trainings follow (None for that of the set).

    Raises:
        UsageError: a ranking without random examples.
    """
    name, _, base = (protocol or "").partition(":")
    if name == RANKING and not random:
        raise UsageError(f"{RANKING} compares a set with random examples; leave --no-random out")
    return name == RANKING, base or None


def planned(compute: Compute, kept: Condensed, real: RealSet, nets: tuple[Any, ...], *, epochs: int) -> plan.Plan:
    """How to compute, from the work that all trainings are together.

    Args:
        epochs: of all trainings of one network.
    """
    work = 0.0
    if real.images is not None:
        c, h, w = real.shape
        work = max(6.0 * build(spec, channels=c, size=(h, w), classes=real.n_classes).macs for spec in nets) * len(kept)
    return plan.make(
        device=compute.device,
        threads=compute.threads,
        dtype=compute.dtype,
        compiled=compute.compile,
        flops_per_step=work,
        flops=work * epochs * len(nets),
    )


def side_by_side(compute: Compute, how: plan.Plan, seeds: int) -> int:
    """How many networks are trained at the same time, each by one thread.

    One, unless threads were left open and processes can be forked: then as many as there are cores and seeds, where one
    thread each is enough for a network, or where that leaves no more than half of the cores idle.
    """
    if compute.threads is not None or how.device != "cpu" or not crew.able():
        return 1
    cores = plan.cores()
    return min(seeds, cores) if how.threads == 1 or cores <= 2 * seeds else 1


def specs(nets: str | tuple[Any, ...]) -> tuple[Any, ...]:
    """``"convnet,mlp"`` -> the specs of two networks.

    Raises:
        UsageError: a file of a network was edited since it was imported.
    """
    found = tuple(n.strip() for n in nets.split(",")) if isinstance(nets, str) else tuple(nets)
    for path in (code.file_of(n) for n in found if isinstance(n, str)):
        if path is not None:
            code.unchanged(path)
    return found


def opened(
    condensed: Condensed | str | Path,
    real: Any,
    read: dict[str, Any],
    progress: Progress,
    published: Published | None = None,
) -> tuple[Condensed, Splits]:
    """The small set and its real data.

    Args:
        read: settings of :class:`Data`; those left out are as when the set was made, but that a set with labels is scored by
            data with labels. A whitened set brings its own transform, so that none is fitted again.
        published: what a ``.pt`` does not tell.

    Raises:
        UsageError: what is told of a ``.pt`` is told of another set.
    """
    if isinstance(condensed, (str, Path)) and str(condensed).endswith((".pt", ".pth")):
        if real is None:
            raise UsageError(f"{condensed} does not tell its real data; give them, as in --real path/to/data")
        splits = reading.read(real, divide(read, (Data,))[0], progress=progress)
        own = published or Published()
        told = {k: v for k, v in vars(own).items() if k != "lr"}
        return condensed_from_pt(condensed, real=splits.train, recipe=own.recipe(), **told), splits
    if published not in (None, Published()):
        raise UsageError("labels, index, logits and lr are told of a published .pt; a set of attar tells its own")
    kept = condensed if isinstance(condensed, Condensed) else open_condensed(condensed)
    if read.get("zca", kept.whitening is not None) != (kept.whitening is not None):
        made = "not whitened" if kept.whitening is None else "whitened"
        raise UsageError(
            f"the images of this set are {made}, and so are those that it is compared with and tested on; leave zca out"
        )
    first = kept.manifest["lineage"][0]
    told = _read_as(first, kept.path)
    foreign = (
        {"unlabelled"} if kept.labelled else set()
    )  # of a person's labels; those to score by have to be in the data
    if isinstance(real, (Splits, RealSet)):
        foreign = {"size", "unlabelled"}  # it is read already
    told = {k: v for k, v in told.items() if k not in foreign}
    arguments = divide({**told, **read}, (Data,))[0].arguments()
    if real is not None:
        return kept, load(real, progress=progress, **arguments)
    if first.get("source") is None:
        raise UsageError("this set was made from data in memory; give them, as in --real path/to/data")
    try:
        return kept, load(first["source"], progress=progress, **arguments)
    except UsageError as e:
        raise UsageError(f"the real data of the set cannot be read ({e}); give them, as in --real path/to/data") from e


def _read_as(made: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """How the real data of a set were read, by the first entry of its lineage.

    Raises:
        DataError: settings that attar does not write.
    """
    wrong = fault(told := made.get("data", {}), {}, "lineage[0].data")
    if wrong is None and not isinstance(made.get("source"), str | None):
        wrong = "lineage[0].source is no path"
    try:
        if wrong is None:
            divide(told, (Data,))[0].arguments()
    except UsageError as e:
        wrong = str(e)
    if wrong is not None:
        raise DataError(
            f"{path or 'the set'} does not tell how its real data were read ({wrong}); restore it from a copy"
        )
    return told


def record(kept: Condensed, scores: list[dict[str, Any]], splits: Splits) -> Condensed:
    """Writes scores, card and page into the set's folder, in one step.

    Raises:
        DataError: by now another set lies there.
    """
    assert kept.path is not None
    place = kept.path.resolve()
    with lock(place.with_name(place.name + ".attar-lock"), str(kept.path)):
        found = open_condensed(kept.path)
        if _learned_from(found) != _learned_from(kept):
            raise DataError(f"{kept.path} was made anew while it was evaluated; nothing was written, evaluate it again")
        scored = found.scored(scores)
        if scored.manifest["scores"] == found.manifest["scores"]:
            return found
        scored.files["report.html"] = page.render(scored, real=splits.train).encode()
        scored.save(kept.path, replace=True)
    kept.manifest = scored.manifest
    return scored


def _learned_from(kept: Condensed) -> list[Any]:
    """Sizes and checksums of the files that networks learn from."""
    return [kept.manifest["files"].get(name) for name in (DATA, EXACT)]
