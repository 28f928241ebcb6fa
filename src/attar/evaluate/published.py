"""Settings of the published protocols beside DC and DSA, as they follow from images, classes, budget and network.

Sources: the official code of IDC (snu-mllab/Efficient-Dataset-Condensation), SRe2L (VILA-Lab/SRe2L) and RDED
(LINs-lab/RDED); what their code leaves open for a size or network that they did not use is marked as ours.
"""

from __future__ import annotations

from typing import Any

from attar.augment.idc import COLOR_CROP_FLIP_SCALE_ROTATE, COLOR_CROP_SCALE_ROTATE
from attar.nets import Net
from attar.real.realset import RealSet

IDC_EPOCHS = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
"""(images of a class at most, epochs) on images of more than 32 pixels; 300 beyond."""
RDED_BATCH = ((1, 10), (10, 50))
"""(images of a class at most, batch); 100 beyond. Published for 1, 10 and 50 images of a class; the ranges are ours."""
RDED_LR = {
    "convnet": 0.001,
    "resnet18": 0.001,
    "vgg11": 0.0005,
    "alexnet": 0.0001,
    "vit": 0.0001,
    "swin": 0.0001,
    "efficientnet": 0.002,
    "mobilenet": 0.0025,
}
"""Network -> learning rate; .001 for others, which is ours."""
TEMPERATURE = 20.0


def idc(real: RealSet, *, written: bool, per_class: int, factor: int = 1) -> dict[str, Any]:
    """Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization" (IDC), ICML 2022.

    SGD .01, momentum .9 (kept through both falls of the rate), decay 5e-4, batch 64, rate times .2 at 2/3 and 5/6. Cutmix
    of half of all batches on images up to 32 pixels, of all batches beyond; none for one SVHN image of a class (cutout in its
    place) and for MNIST decoded from tiles. From 100 classes of larger images on: rate .1, decay 1e-4, batch 128, and two
    thirds of the epochs.

    Not as in the official code: larger images get crops and a mirror without colour jitter and lighting.

    Args:
        written: whether a mirror would spoil the classes.
        per_class: images of a class, decoded. factor: tiles a side that they were decoded from.
    """
    common: dict[str, Any] = {"batch": 64, "schedule": "steps", "select": "best"}
    if max(real.shape[1:]) <= 32:
        strategy, name = COLOR_CROP_SCALE_ROTATE if written else COLOR_CROP_FLIP_SCALE_ROTATE, real.name.lower()
        if per_class == 1 and "svhn" in name:
            return {**common, "epochs": 1000, "augment": f"idc:{strategy}_cutout"}
        if factor > 1 and "mnist" in name and "fashion" not in name:
            return {**common, "epochs": 1000, "augment": f"idc:{strategy}"}
        return {**common, "epochs": 1000, "augment": f"idc:{strategy}", "cutmix": 0.5}
    many = real.n_classes >= 100
    heavy = {"lr": 0.1, "weight_decay": 1e-4, "batch": 128} if many else {}
    augment = "rrc:0.5" if written else "rrc:0.5_flip"
    epochs = _upto(IDC_EPOCHS, per_class, 300)
    epochs = epochs * 2 // 3 // 100 * 100 if many else epochs
    return {**common, **heavy, "epochs": epochs, "augment": augment, "cutmix": 1.0}


def fkd(*, written: bool) -> dict[str, Any]:
    """Yin, Xing and Shen, "Squeeze, Recover and Relabel" (SRe2L), NeurIPS 2023; its labels after Shen and Xing, FKD, 2022.

    AdamW .001, decay .01 (of weights of more than one dimension), batch 1024, 300 epochs, cosine; the loss is the
    divergence of the student from the teacher at temperature 20 (without the factor 400) on crops, mirrored and mixed.

    Not as in the official code: the teacher answers at every step, where files of its float16 answers for 300 epochs were
    read; written characters are not mirrored (ours). The rates for CIFAR-100 (mixup, temperature 30) are not among them.
    """
    augment = "rrc:0.08" if written else "rrc:0.08_flip"
    return {**_taught(), "batch": 1024, "schedule": "epoch-cosine", "augment": augment}


def rded(
    real: RealSet, net: Net | None, *, written: bool, per_class: int, factor: int = 1, teacher: str = ""
) -> dict[str, Any]:
    """Sun et al., "On the Diversity and Realism of Distilled Dataset" (RDED), CVPR 2024.

    As :func:`fkd` but: the rate falls along half a cosine and ends at one half; it depends on the network, and the batch
    on images per class and classes; tiles of ``factor`` a side are put into another order and the crop takes 1 / factor
    of the area at least; the test set is looked at every tenth epoch of the last fifth, and the best is published; the
    student meets the images before they are mixed too, without learning, which moves the statistics of batch norms.

    Not as in the official code: images are normalised as their own set is, not as ImageNet; test images are not cropped;
    written characters are not mirrored (ours).
    """
    kind = "" if net is None else net.name
    lr = RDED_LR.get(kind.partition(":")[0], 0.001)
    batch = _upto(RDED_BATCH, per_class, 100) * (2 if real.n_classes >= 100 else 1)
    if real.n_classes == 200 and max(real.shape[1:]) == 64:  # Tiny-ImageNet
        batch = 100
    if _conv3(kind) and _conv3(teacher or kind) and real.n_classes == 100 and max(real.shape[1:]) == 32:  # CIFAR-100
        lr, batch = 0.002, 25
    augment = f"rrc:{1 / factor:.6g}" + ("" if written else "_flip") + (f"_patches{factor}" if factor > 1 else "")
    looks = {"select": "best", "evaluate_every": 10, "looks_after": 0.8}
    rate = {"lr": lr, "batch": batch, "schedule": "half-cosine"}
    return {**_taught(), **rate, **looks, "augment": augment, "unmixed": True}


def _taught() -> dict[str, Any]:
    """What both protocols with a teacher share."""
    adamw = {"optimiser": "adamw", "lr": 0.001, "weight_decay": 0.01, "momentum": 0.0}
    return {**adamw, "epochs": 300, "cutmix": 1.0, "temperature": TEMPERATURE, "labels": "teacher"}


def _conv3(name: str) -> bool:
    """Whether a network is the ConvNet of three blocks."""
    return name.partition(":")[0] == "convnet" and ("depth=" not in name or "depth=3" in name)


def _upto(table: tuple[tuple[int, int], ...], n: int, beyond: int) -> int:
    """The value of the first row whose limit holds n."""
    return next((value for limit, value in table if n <= limit), beyond)
