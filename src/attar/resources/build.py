"""Builds what a task needs, or takes it from the cache: a resource is itself a run, made once for all who share it."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from attar.augment.strategy import written
from attar.errors import ResourceError
from attar.execute import cluster, crew
from attar.execute.identity import describe, files, key
from attar.execute.plan import Plan
from attar.execute.progress import Progress
from attar.io import atomic, tensors
from attar.io.lock import Held, lock
from attar.method import State
from attar.real.cache import root
from attar.real.realset import RealSet
from attar.resources.resource import Resource, needed
from attar.run import run

TENSORS, FACTS = "tensors.safetensors", "facts.json"


def gather(task: Any, real: RealSet, *, seed: int, plan: Plan, progress: Progress) -> dict[str, State]:
    """All resources that a task needs, by name.

    Args:
        task: anything with ``needs``.
        seed: of the run that asks; of the resources' runs, too, where they have none of their own.
        plan: how they are computed where they are not in the cache.
    """
    order, built = needed(task), {}
    _crowd([r for r in order if r.crowd and not r.needs()], real, seed=seed, plan=plan, progress=progress)
    for resource in order:
        built[resource.name] = made(resource, real, built, seed=seed, plan=plan, progress=progress)
    return built


def _crowd(resources: Sequence[Resource], real: RealSet, *, seed: int, plan: Plan, progress: Progress) -> None:
    """Makes those that the cache lacks: on a Ray cluster, or here as many at the same time as the plan has threads.

    One that another process makes is left to it, so that runs which begin together train what they share together.
    """
    missing = [r for r in resources if not _serving(r, identify(r, real, seed, plan)).exists()]
    if len(missing) < 2:
        return
    total, label = sum(r.length(real) for r in missing), f"{missing[0].name} to {missing[-1].name}"
    if cluster.at_hand() and plan.device in ("cpu", "cuda"):
        shared, gpus = (real, seed, plan), int(plan.device == "cuda")
        pieces = [(r, identify(r, real, seed, plan)) for r in missing]
        done = cluster.done(_sent_back, shared, pieces, gpus=gpus, progress=progress, label=label, total=total)
        for number, files_of in done:
            _keep(_place(*pieces[number]), files_of)
    else:

        def one(resource: Resource, shown: Progress) -> None:
            with suppress(Held):
                made(resource, real, {}, seed=seed, plan=plan, progress=shown, wait=False)

        if plan.threads > 1 and plan.device == "cpu":
            pieces = [partial(one, r) for r in missing]
            crew.done(pieces, workers=plan.threads, progress=progress, label=label, total=total)
        else:
            for resource in missing:
                one(resource, progress)


def _sent_back(
    shared: tuple[RealSet, int, Plan], piece: tuple[Resource, dict[str, Any]], progress: Progress
) -> dict[str, bytes]:
    """Makes a resource on another machine: the files of its folder, for those who do not see that machine's cache.

    Raises:
        ResourceError: what it is made by is not the same there.
    """
    (real, seed, plan), (resource, wanted) = shared, piece
    if identify(resource, real, seed, plan) != wanted:
        raise ResourceError(
            f"the machine {platform.node()} of the Ray cluster would make another {resource.name}: it has another attar, or "
            f"another file of {', '.join(wanted['files']) or 'the settings'}; give all machines the same, under the same paths"
        )
    made(resource, real, {}, seed=seed, plan=plan, progress=progress)
    folder = _serving(resource, wanted)
    return {name: (folder / name).read_bytes() for name in (TENSORS, FACTS)}


def _keep(folder: Path, files_of: dict[str, bytes]) -> None:
    """Puts a resource that another machine made into the cache; where the cache is shared, it is there."""
    if _load(folder) is None:
        with atomic.folder(folder, replace=True) as tmp:
            for name, content in files_of.items():
                atomic.write_new(tmp / name, content)


def alone(resource: Resource, plan: Plan) -> Plan:
    """The plan by which a resource is made: one of a crowd takes one thread."""
    return dataclasses.replace(plan, threads=1) if resource.crowd and plan.device == "cpu" else plan


def chance(resource: Resource, seed: int) -> int:
    """The seed by which a resource is made: its own where it has one, else that of the run that asks."""
    return seed if resource.own_seed is None else resource.own_seed


def made(
    resource: Resource,
    real: RealSet,
    res: dict[str, State],
    *,
    seed: int,
    plan: Plan,
    progress: Progress,
    wait: bool = True,
) -> State:
    """One resource from the cache, or built and put there; a build that was interrupted goes on.

    The cache key is the hash of its settings, schema, data, preprocessing, seed and plan. What its own needs hold follows
    from these. One that holds more of the same (``grows``) serves as well.

    Raises:
        Held: another process makes it, and ``wait`` is False.
    """
    plan, seed = alone(resource, plan), chance(resource, seed)
    identity = identify(resource, real, seed, plan)
    folder = _place(resource, identity)
    building = folder.with_name(folder.name + ".attar-run")
    found = _load(_serving(resource, identity))
    if found is not None and not building.exists():
        return found
    atomic.sweep(folder.parent)
    with lock(building / "lock", f"the resource {folder}", wait=wait):
        found = _load(folder)
        if found is None:
            found = _build(resource, real, res, folder, building, identity, seed, plan, progress)
        atomic.remove(building)
    return found


def spent(task: Any, real: RealSet, *, seed: int, plan: Plan) -> float:
    """Seconds that the resources of a task took when they were made, for this task or another that shares them."""
    places = [_serving(resource, identify(resource, real, seed, plan)) for resource in needed(task)]
    return sum(float(_facts(place).get("seconds", 0)) for place in places)


def identify(resource: Resource, real: RealSet, seed: int, plan: Plan) -> dict[str, Any]:
    """What a resource's content depends on, as JSON."""
    settings = describe(resource)
    return {
        "resource": resource.name,
        "schema": resource.schema,
        "settings": settings,
        "files": files(settings),
        "data": real.fingerprint,
        "preprocessing": real.space,
        "written": written(real),  # which transforms ``auto`` stands for
        "seed": chance(resource, seed),
        "plan": alone(resource, plan).facts(),
    }


def _build(
    resource: Resource,
    real: RealSet,
    res: dict[str, State],
    folder: Path,
    building: Path,
    identity: dict[str, Any],
    seed: int,
    plan: Plan,
    progress: Progress,
) -> State:
    outcome = run(
        resource,
        real,
        [None],
        seed=seed,
        plan=plan,
        res=res,
        folder=building,
        identity=identity,
        progress=progress,
        label=resource.name,
    )
    state = resource.finish(outcome.states[0], res)
    data = tensors.encode(state)
    facts = {"identity": identity, "seconds": outcome.seconds, "sha256": tensors.digest(data)}
    with atomic.folder(folder, replace=True) as tmp:
        atomic.write_new(tmp / TENSORS, data)
        atomic.write_new(tmp / FACTS, atomic.json_bytes(facts))
    return tensors.mapped(folder / TENSORS)  # as whoever finds it in the cache gets it, in the same order


def _place(resource: Resource, identity: dict[str, Any]) -> Path:
    """Where the cache keeps a resource."""
    return root() / "resources" / f"{resource.name}-{key(identity)}"


def _serving(resource: Resource, identity: dict[str, Any]) -> Path:
    """Where the cache keeps a resource; where that is not there, the least that holds more of the same."""
    own, most = _place(resource, identity), resource.grows
    if most is None or own.exists():
        return own
    asked, sizes = identity["settings"][most], []
    for folder in own.parent.glob(f"{resource.name}-" + "[0-9a-f]" * 32):
        other = _facts(folder).get("identity", {})
        settings = other.get("settings", {})
        less = {**other, "settings": {**settings, most: asked}}
        if settings.get(most, 0) > asked and key(less) == key(identity):
            sizes.append((settings[most], folder))
    return min(sizes)[1] if sizes else own


def _load(folder: Path) -> State | None:
    """A whole and unchanged resource, or None; its tensors are read where they are used."""
    path = folder / TENSORS
    try:
        whole = tensors.digest_of(path) == _facts(folder).get("sha256")
    except OSError:
        return None
    return tensors.mapped(path) if whole else None


def _facts(folder: Path) -> dict[str, Any]:
    """What was noted of a resource; nothing where it is not there."""
    try:
        return json.loads((folder / FACTS).read_bytes())
    except (OSError, ValueError):
        return {}
