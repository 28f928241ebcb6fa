"""attar evaluate."""

# Annotations are evaluated here: cyclopts reads them.
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from attar.cli import show, words
from attar.report import table
from attar.verbs.evaluate import evaluate
from attar.verbs.options import Compute, Data, Published

OF_PT = Parameter(name="*", group="Of a published .pt")
AS_MADE = Parameter(
    name="*", show_default=False, group="How the real data are read; left out, as when the set was made"
)


def command(arguments: Sequence[str]) -> Callable[..., None]:
    """The command; it tells settings that were typed from defaults."""
    typed = words.typed(arguments)

    def act(
        folder: str,
        /,
        *,
        protocol: Annotated[
            str | None,
            Parameter(
                help="dc, dsa, dc-best, dsa-best, idc, fkd, rded or dd-ranking; left out, that nearest to the method's paper."
            ),
        ] = None,
        nets: Annotated[
            str, Parameter(name=["--nets", "--net"], help="Networks, as in convnet,mlp or my.py:MyNet.")
        ] = "convnet",
        teacher: Annotated[
            str | None,
            Parameter(
                help="Network, trained on the real data, that labels under fkd and rded (left out, the scored one), and random "
                "examples beside a set with soft labels."
            ),
        ] = None,
        teacher_epochs: Annotated[
            int | None, Parameter(help="Epochs of that network's training; left out, about 2,500 updates.")
        ] = None,
        seeds: Annotated[int, Parameter(help="Networks trained for each score.")] = 5,
        first_seed: Annotated[int, Parameter(help="Seed of the first network; the next ones count up.")] = 0,
        epochs: Annotated[int | None, Parameter(help="Epochs, other than the protocol's.")] = None,
        augment: Annotated[str | None, Parameter(help="Augmentation, other than the protocol's.")] = None,
        random: Annotated[bool, Parameter(help="Score random real examples of the same budget too.")] = True,
        full: Annotated[bool, Parameter(negative="", help="Score training on all real examples too.")] = False,
        eight_bit: Annotated[bool, Parameter(help="Score the 8-bit pictures of a synthetic set too.")] = True,
        json: show.Json = False,
        compute: Annotated[Compute, show.Flat] = Compute(),
        real: Annotated[
            str | None, Parameter(help="The real data; left out, they are found from the manifest.")
        ] = None,
        data: Annotated[Data, AS_MADE] = Data(),
        published: Annotated[Published, OF_PT] = Published(),
    ) -> None:
        """Scores a small set.

        Parameters
        ----------
        folder
            A folder that attar wrote, or a published .pt of images and labels (with --real).
        """
        read = {k: v for k, v in asdict(data).items() if k in typed}
        computed = {k: v for k, v in asdict(compute).items() if v is not None}
        scores = evaluate(
            folder,
            real=real,
            protocol=protocol,
            nets=nets,
            teacher=teacher,
            teacher_epochs=teacher_epochs,
            seeds=seeds,
            first_seed=first_seed,
            epochs=epochs,
            augment=augment,
            random=random,
            full=full,
            eight_bit=eight_bit,
            **read,
            **computed,
            **{k: v for k, v in asdict(published).items() if k in typed},
        )
        if json:
            return show.as_json({"folder": folder, "scores": scores})
        show.console().print(table.score_table(scores))
        show.lines(*notes(folder, scores))

    return act


def notes(folder: str, scores: list[dict[str, Any]]) -> list[str]:
    """What the numbers are, the best looks of a protocol that looks, and where the page is."""
    first = scores[0]
    told = [
        f"accuracy on {first['test']['rows']} test examples of {first['test']['name']}, protocol {first['protocol']}"
    ]
    if "random" in first["baseline"]:
        drawn = first["baseline"]["random"]["rows"]
        told.append(f"random: {drawn} real examples, drawn anew for every seed, by the same protocol")
    if any(s["labels"] != s["baseline"].get("random", s)["labels"] for s in scores):
        told.append(
            "beside soft labels random examples have hard ones; --teacher convnet gives them a teacher's answers"
        )
    for s in scores:
        if s["best_mean"] is not None:
            kind = "" if s["labels"] == "hard" else f", {s['labels']} labels"
            told.append(f"best look at the test set, {s['network']}, {s['images']} images{kind}: {s['best_mean']:.3f}")
    told += [line for s in scores if "ranking" in s for line in _ranked(s)]
    return told + ([] if folder.endswith((".pt", ".pth")) else [f"look at it: {Path(folder) / 'report.html'}"])


def _ranked(score: dict[str, Any]) -> list[str]:
    """What a ranking found, in two lines."""
    found = score["ranking"]
    a, both = found["accuracies"], (found["label_robust"], found["augmentation_robust"])
    said = [
        f"{part['score']:.4f}" + (" ({:.4f} to {:.4f})".format(*part["interval"]) if part["interval"] else "")
        for part in both
    ]
    return [
        f"{score['network']}: label-robust score {said[0]}, augmentation-robust score {said[1]}; 0.2689 for random examples "
        "that recover everything",
        "accuracies: " + ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in a.items()),
    ]
