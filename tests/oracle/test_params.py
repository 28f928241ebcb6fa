"""What sets are made of: decoding against plain sums, gradients, bytes by hand, and what an artifact keeps of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from plain_matching import slopes
from plain_params import PLAIN, plain_transform

from attar.budget import Budget
from attar.condensed import condense, open_condensed
from attar.distill.dm import DM
from attar.errors import UsageError
from attar.execute.compile import fast, switched
from attar.execute.plan import Plan
from attar.method import State
from attar.optim import Opt
from attar.params import frequency, memory, pixels
from attar.params.table import TABLE, decoded, first, images, made_of, rows
from attar.real.realset import RealSet
from attar.run import run, tensors_of
from attar.seeds import Seeds
from attar.testing.toys import toy
from attar.testing.trial import cast

SPECS = (
    "tiles:factor=2",
    "tiles:factor=3",
    "frequency:share=0.2",
    "frequency:share=1",
    "bases:styles=2",
    "memory",
    "memory:share=0.7:smaller=3",
)
LEAST = {"bases": 3}
"""Images of each class that a budget must have for the toys, where that is more than one."""
SHAPES = ((1, (8, 8)), (3, (7, 9)))


def least(spec: str) -> Budget:
    """The smallest budget that the toys need."""
    return Budget(ipc=LEAST.get(spec.partition(":")[0], 1))


def start(spec: str, real: RealSet) -> State:
    """The first state in float64, its learned tensors moved a little."""
    state = cast(made_of(spec).init(real, least(spec), Seeds(0), kind="real"), torch.float64)
    g = torch.Generator().manual_seed(1)
    moved = made_of(spec).learn(Opt(lr=1.0))
    return {n: v + torch.randn(v.shape, generator=g, dtype=v.dtype) if n in moved else v for n, v in state.items()}


def plain(spec: str, state: State, real: RealSet, stored: State | None = None) -> torch.Tensor:
    """The images by plain sums, from what is stored alone."""
    grey = real.normalise(torch.full((real.shape[0], 1, 1), 0.5))
    stored = made_of(spec).stored(state) if stored is None else stored
    return PLAIN[spec.partition(":")[0]](stored, state["label"], real.shape, grey.double())


def test_everything_in_the_table_is_looked_at() -> None:
    assert {s.partition(":")[0] for s in SPECS} | {"pixels"} == set(TABLE)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("channels", "size"), SHAPES)
def test_decoding_is_a_plain_sum(spec: str, channels: int, size: tuple[int, int]) -> None:
    real = toy((6, 6), channels=channels, size=size)
    state = start(spec, real)
    found = images(spec, state)
    assert found.dtype == torch.float64 and found.shape == (len(state["label"]), *real.shape)
    assert torch.allclose(found, plain(spec, state, real), rtol=1e-6, atol=1e-6)  # constants are rounded to float32


@pytest.mark.parametrize("spec", SPECS)
def test_decoding_by_finite_differences(spec: str) -> None:
    real = toy((6, 6), size=(5, 7))
    state = start(spec, real)
    for name in made_of(spec).learn(Opt(lr=1.0)):
        assert torch.autograd.gradcheck(lambda x, n=name: images(spec, {**state, n: x}), state[name].requires_grad_())


@pytest.mark.parametrize("spec", SPECS)
def test_nothing_is_rounded_where_networks_run_in_half_precision(spec: str) -> None:
    real, budget = toy(), least(spec)
    whole = made_of(spec).init(real, budget, Seeds(0), kind="real")
    seen = made_of(spec).decode(whole)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        found = first(spec, real, budget, Seeds(0), kind="real")
        assert torch.equal(images(spec, found), seen)
    assert all(torch.equal(found[n], v) and found[n].dtype == v.dtype for n, v in whole.items())
    method = DM(params=spec, steps=2, batch=4, net="convnet:width=4:depth=1")
    state = run(method, real, [budget], seed=0, plan=Plan(dtype="bfloat16")).states[0]
    assert {n: state[n].dtype for n in whole} == {n: v.dtype for n, v in whole.items()}


@pytest.mark.parametrize("spec", SPECS)
def test_a_method_sees_the_decoded_images(spec: str) -> None:
    """DM's loss of a set is that of its decoded images as pixels, and its gradient is right in every learned tensor."""
    real = toy((6, 6), channels=3)
    method = DM(net="convnet:width=4:depth=1:act=swish", batch=4, params=spec)
    state, batch = start(spec, real), method.draw(real, Seeds(0).at("step", 0), {}, 0)
    batch = cast(tensors_of(batch), torch.float64)
    as_pixels = DM(net=method.net).loss({"image": images(spec, state), "label": state["label"]}, batch)
    assert torch.equal(method.loss(state, batch), as_pixels)
    for name in method.learn:
        value = state[name].clone().requires_grad_()
        (grad,) = torch.autograd.grad(method.loss({**state, name: value}, batch), value)
        where, found = slopes(lambda x, n=name: method.loss({**state, n: x}, batch), state[name], places=20)
        assert found.abs().max() > 1e-4
        assert torch.allclose(grad.flatten()[where], found, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spec", SPECS)
def test_labels_follow_the_images_and_the_budget_is_kept(spec: str) -> None:
    real, made = toy((9, 4, 12), channels=3), made_of(spec)
    for budget in (Budget(ipc=4), Budget(rows=17), Budget(bytes=13 * 192 + 3)):
        state = made.init(real, budget, Seeds(0), kind="real")
        asked = budget.counts(real.sizes, example_bytes=192)
        assert state["asked"].bincount(minlength=3).tolist() == asked
        assert state["label"].bincount(minlength=3).tolist() == made.counts(real.shape, asked)
        assert torch.equal(state["label"], state["label"].sort().values)
        assert sum(v.nbytes for v in made.stored(state).values()) <= 4 * 192 * sum(asked)
    assert decoded(spec, real, Budget(ipc=2)) == sum(made.counts(real.shape, [2, 2, 2]))


@pytest.mark.parametrize(
    ("spec", "counts", "used"),
    [
        ("tiles:factor=3", [18, 0, 9], 3 * 768),
        # 64 places: 13 of each of 3 channels are 156 bytes, a mask 8: (1536 - 8) // 156 and (768 - 8) // 156
        ("frequency:share=0.2", [9, 0, 4], 3 * (4 * 156 + 8)),
        ("frequency:share=1", [2, 0, 1], 3 * 768),  # no mask
        # a hallucinator: 27 + 3 + 2 * 108 + 81 + 3 = 330 of 3 * 192 floats; 246 left: 2 * 246 // (3 * 64) and 246 // 192
        ("bases:styles=1", [2, 0, 1], (3 * 64 + 330) * 4),
        # 0.4 * 576 // 48 = 4 bases; 576 - 192 = 384 floats left: 2 * 384 // (3 * 4) and 384 // 12; with one each 32 thrice
        ("memory", [64, 0, 32], (4 * 48 + 4 * 96) * 4),
        # 0.9 * 576 // 27 = 19 bases; 576 - 513 = 63 floats left: 126 // 57 and 63 // 57; with one each 1 thrice
        ("memory:share=0.9:smaller=3", [2, 0, 1], (19 * 27 + 19 * 3) * 4),
        ("memory:share=0.01:smaller=1", [256, 0, 128], (192 + 3 * 128) * 4),  # one base
    ],
)
def test_bytes_by_hand(spec: str, counts: list[int], used: int) -> None:
    """Images of 3 x 8 x 8, 768 bytes each: two for the first class, none for the second, one for the third; then one each."""
    real, made = toy((5, 5, 5), channels=3), made_of(spec)
    assert made.counts(real.shape, [2, 0, 1]) == counts
    stored = made.stored(made.init(real, Budget(ipc=1), Seeds(0), kind="noise"))
    assert sum(v.numel() * v.element_size() for v in stored.values()) == used


@pytest.mark.parametrize("spec", SPECS)
def test_an_artifact_can_be_decoded_again_and_counts_what_is_stored(spec: str, tmp_path: Path) -> None:
    real = toy((6, 6), channels=3)
    state = made_of(spec).init(real, Budget(ipc=4), Seeds(0), kind="real")
    found = rows(spec, state, {"protocol": "dsa"})
    lineage = [{"verb": "distill", "method": "test"}]
    kept = open_condensed(condense(found, real, kind="synthetic", lineage=lineage).save(tmp_path / "kept"))
    names = {n: n.removeprefix("stored.") if n != "stored" else "image" for n in kept.exact if n.startswith("stored")}
    stored = {short: kept.exact[n] for n, short in names.items()}
    assert torch.allclose(
        plain(spec, state, real, cast(stored, torch.float64)), kept.images.double(), rtol=1e-5, atol=1e-5
    )
    budget, used = kept.manifest["budget"], sum(v.nbytes for v in stored.values())
    assert (kept.counted, kept.worth, kept.recipe["params"]) == ([4, 4], 8, spec)
    assert (budget["rows"], budget["stored"], budget["stored_per_class"]) == (len(found), 8, [4, 4])
    assert (budget["bytes_examples"], budget["bytes_labels"]) == (used, 8)
    assert kept.image_bytes(eight_bit=False) == used <= 4 * 8 * 192
    assert kept.image_bytes(eight_bit=True) == (8 * 192 if "image" in stored else len(kept) * 192)


@pytest.mark.parametrize("spec", SPECS)
def test_it_compiles(spec: str) -> None:
    """No branch on data and no number that leaves the graph."""
    real = toy((6, 6), channels=3)
    state, made = made_of(spec).init(real, least(spec), Seeds(0), kind="real"), made_of(spec)
    explained = torch._dynamo.explain(made.decode)(state)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)
    with switched(False):
        assert fast(made.decode) == made.decode


def test_tiles_that_do_not_fit_are_refused_by_the_estimate_already() -> None:
    """So that nobody is told hours first."""
    with pytest.raises(
        UsageError, match="factor=99 lays whole tiles beyond the border of images of 8x8 pixels; take 8 or less"
    ):
        decoded("tiles:factor=99", toy((6, 6), channels=3), Budget(ipc=1))


def test_the_grammar_is_that_of_networks() -> None:
    assert made_of("tiles:factor=3") == made_of("tiles:factor=3") != made_of("tiles")
    for spec, why in {
        "tyles": "did you mean 'tiles'",
        "tiles:factr=2": "did you mean 'factor'",
        "tiles:factor=x": "is not of type int",
        "tiles:factor=0": "factor=0",
        "pixels:a=1": "it has no settings",
        "frequency:share=0": "share=0.0 is not in",
        "frequency:share=nan": "share=nan is not in",
        "memory:share=1": "share=1.0 is not in",
        "memory:smaller=0": "smaller=0 must be",
        "memory:lr=nan": "lr=nan must be",
    }.items():
        with pytest.raises(UsageError, match=why):
            made_of(spec)
        with pytest.raises(UsageError, match=why):
            DM(params=spec)


# --- frequencies ---------------------------------------------------------------------------------------------------


def test_the_transform_is_the_sum_that_defines_it_and_keeps_lengths() -> None:
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = frequency.transform(x)
    assert torch.allclose(found, torch.stack([plain_transform(image) for image in x]), atol=1e-6)
    assert torch.allclose(found.square().sum(), x.square().sum(), rtol=1e-6)


def test_the_kept_frequencies_explain_most_of_a_classes_variance() -> None:
    real = toy((7, 5), channels=3, size=(4, 5))
    found = frequency.places(real, 6, Seeds(0))
    for k, members in enumerate(real.classes):
        f = torch.stack([plain_transform(x.double()) for x in real.draw(members)])  # [n, C, H, W]
        variance = f.var(0, correction=0).sum(0).flatten()
        assert found[k].tolist() == variance.argsort(descending=True)[:6].sort().values.tolist()


def test_ties_go_to_the_lower_frequency() -> None:
    """One example of a class varies nowhere."""
    real = toy((1, 4), size=(3, 4))
    assert frequency.places(real, 3, Seeds(0))[0].tolist() == [0, 1, 4]  # (0, 0), (0, 1), (1, 0)


def test_first_amplitudes_are_those_of_real_images_of_the_class() -> None:
    real, spec = toy((6, 6), channels=3), "frequency:share=1"
    state = made_of(spec).init(real, Budget(ipc=3), Seeds(0), kind="real")
    for k, members in enumerate(real.classes):
        shown = images(spec, state)[state["label"] == k]
        near = torch.cdist(shown.flatten(1), real.draw(members).flatten(1))  # [3, 6]
        assert near.min(1).values.max() < 1e-3 and len(set(near.argmin(1).tolist())) == 3


def test_a_class_without_an_image_has_no_mask() -> None:
    real, made = toy((5, 5, 5), channels=3), made_of("frequency:share=0.2")
    state = made.init(real, Budget(rows=2), Seeds(0), kind="noise")
    present = state["label"].unique()
    mask = made.stored(state)["mask"]
    assert len(mask) == len(present) == 2
    assert torch.equal(mask, frequency.bits(state["place"], 64)[present])


def test_a_mask_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match=r"cannot hold a mask of 8 bytes and 252 bytes of amplitudes; lower"):
        made_of("frequency:share=0.99").init(toy(), Budget(ipc=1), Seeds(0), kind="noise")


# --- bases ---------------------------------------------------------------------------------------------------------


def test_first_bases_are_real_images_of_the_class_and_hallucinators_those_of_torch() -> None:
    real = toy((6, 6), channels=3)
    coloured, grey = (
        made_of(f"bases:styles=2:grey={grey}").init(real, Budget(ipc=6), Seeds(0), kind="real")
        for grey in ("false", "true")
    )
    assert (coloured["basis"].shape[1], grey["basis"].shape[1]) == (3, 1)
    for state, of in ((coloured, lambda x: x), (grey, lambda x: x.mean(1, keepdim=True))):
        for b, k in zip(state["basis"], state["label"][::2].tolist()):
            assert any(torch.allclose(b, x) for x in of(real.draw(real.classes[k])))
    assert (grey["style.scale"] == 1).all() and (grey["style.shift"] == 0).all()
    bound = 1 / 27**0.5
    assert 0.8 * bound < grey["style.decoder"].abs().max() <= bound
    assert 0.8 / 3 < grey["style.encoder"].abs().max() <= 1 / 3


def test_hallucinators_have_their_own_rate() -> None:
    moved = made_of("bases:lr=0.1").learn(Opt(lr=2.0, momentum=0.5))
    assert moved["basis"] == Opt(lr=2.0, momentum=0.5)
    assert moved["style.scale"] == Opt(lr=0.2, momentum=0.5) and len(moved) == 7


def test_hallucinators_that_leave_no_room_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r"5 hallucinators take 1840 of the 768 bytes of 3 images, which leaves no basis"
    ):
        DM(params="bases").cost(toy(), Budget(ipc=1))
    with pytest.raises(UsageError, match=r"3 x 3 pixels at least, but these have 8 x 2"):
        made_of("bases").init(toy(size=(8, 2)), Budget(ipc=9), Seeds(0), kind="noise")


# --- memory --------------------------------------------------------------------------------------------------------


def small_images(real: RealSet, state: State, size: tuple[int, int]) -> torch.Tensor:
    """The real images that a memory begins with, averaged to the size of its bases: [M, C h w]."""
    counts = state["label"].bincount(minlength=real.n_classes).tolist()
    image = real.draw(pixels.drawn(real, counts, Seeds(0))).double()
    (h, w), (high, wide) = size, (real.shape[1] // size[0], real.shape[2] // size[1])
    blocks = image.unflatten(3, (w, wide)).unflatten(2, (h, high))  # [M, C, h, high, w, wide]
    return blocks.mean((3, 5)).flatten(1)


def test_the_first_memory_is_the_nearest_to_real_images_of_its_class() -> None:
    """No set of as many bases is nearer: what is missed is what the Gram matrix's other eigenvalues say."""
    real = toy((9, 9, 9), channels=3)
    state = made_of("memory").init(real, Budget(ipc=1), Seeds(0), kind="real")
    x, (p, d) = small_images(real, state, (4, 4)), (len(state["base"]), 48)
    base = state["base"].double().flatten(1)
    assert torch.allclose(base @ base.T, d * torch.eye(p, dtype=torch.float64), atol=1e-4)
    shown = state["address"].double() @ base / math.sqrt(192)
    left = torch.linalg.eigvalsh(x.T @ x)[: d - p].sum()  # in rising order
    assert 0 < left < 0.5 * x.square().sum()
    assert torch.allclose((shown - x).square().sum(), left, rtol=1e-4)


def test_more_bases_than_images_and_as_many_as_there_are_numbers() -> None:
    """One example a class: the bases that no image needs are orthogonal to those that one does."""
    real = toy((1, 1), size=(4, 4))
    state = made_of("memory:share=0.9").init(real, Budget(ipc=1), Seeds(0), kind="real")
    assert len(state["base"]) == 4 == state["base"][0].numel()  # 28.8 floats would pay for 7
    made = made_of("memory:smaller=1:share=0.8").init(real, Budget(rows=2), Seeds(0), kind="real")
    assert (len(made["base"]), len(made["label"])) == (1, 16)  # 25.6 floats pay for one
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    found = memory.longest(x, 5)
    assert torch.allclose(found @ found.T, torch.eye(5), atol=1e-5)
    assert torch.allclose(x @ found[:3].T @ found[:3], x, atol=1e-5)


def test_noise_is_as_wide_as_pixels() -> None:
    state = made_of("memory:smaller=1").init(toy((9, 9)), Budget(ipc=9), Seeds(0), kind="noise")
    assert 0.9 < images("memory:smaller=1", state).std() < 1.1


def test_bases_of_a_memory_have_their_own_rate() -> None:
    moved = made_of("memory:lr=0.5").learn(Opt(lr=2.0, momentum=0.5))
    assert moved == {"base": Opt(lr=1.0, momentum=0.5), "address": Opt(lr=2.0, momentum=0.5)}


def test_bases_that_leave_no_address_are_refused() -> None:
    with pytest.raises(UsageError, match=r"7 bases take 448 of the 512 bytes of 8 images, .*lower memory:share=0.9"):
        DM(params="memory:share=0.9:smaller=1").cost(toy((2,) * 8, size=(4, 4)), Budget(ipc=1))
