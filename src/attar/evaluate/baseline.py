"""What a score is compared with: random real examples of the same number, and all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attar.errors import DataError
from attar.real.realset import RealSet
from attar.seeds import Seeds


def random_examples(real: RealSet, counts: Sequence[int], seeds: Seeds) -> tuple[torch.Tensor, torch.Tensor]:
    """Random real examples, as many of every class as the small set has.

    Without replacement inside a class that has enough, else with replacement.

    Args:
        counts: K numbers.
        seeds: another draw for every seed of a network.

    Returns:
        images [M, C, H, W] in the normalised space and labels int64 [M], ordered by class.

    Raises:
        DataError: a class without real examples.
    """
    picks = []
    for k, (members, count) in enumerate(zip(real.classes, counts)):
        if count and not len(members):
            raise DataError(
                f"class '{real.class_names[k]}' has no real examples to compare with; "
                "evaluate on a training split that holds it, or without the random baseline"
            )
        generator = seeds.generator(k)
        enough = len(members) >= count
        pick = (
            torch.randperm(len(members), generator=generator)[:count]
            if enough
            else torch.randint(len(members), (count,), generator=generator)
        )
        picks.append(members[pick])
    index = torch.cat(picks)
    return real.draw(index), real.labels[index]
