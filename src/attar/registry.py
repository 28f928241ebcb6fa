"""The field on one page: every method's name, class, family, paper and one line. Nothing is imported until asked for."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from attar import code
from attar.errors import UsageError, nearest

if TYPE_CHECKING:
    from attar.method import Method


@dataclass(frozen=True)
class Entry:
    """One row: ``target`` is module:Class, ``verb`` select or distill, ``line`` what it does in a few words."""

    name: str
    target: str
    verb: str
    family: str
    paper: str
    line: str


METHODS: tuple[Entry, ...] = (
    Entry("random", "attar.select.random:Random", "select", "baseline", "", "random examples, the baseline to beat"),
    Entry("stratified", "attar.select.stratified:Stratified", "select", "baseline", "Neyman 1934", "random examples in the proportions of a column"),
    Entry("kmeans", "attar.select.kmeans:KMeans", "select", "geometry", "Lloyd 1982", "examples nearest to k-means centres"),
    Entry("kcenter", "attar.select.kcenter:KCenter", "select", "geometry", "Sener & Savarese 2018", "farthest-first cover"),
    Entry("herding", "attar.select.herding:Herding", "select", "geometry", "Welling 2009", "examples whose mean follows the class"),
    Entry("moderate", "attar.select.moderate:Moderate", "select", "geometry", "Xia et al. 2023", "examples at the median distance from their class"),
    Entry("prototype", "attar.select.prototype:Prototype", "select", "geometry", "Sorscher et al. 2022", "examples far from every prototype, or near to one"),
    Entry("kmedian", "attar.select.kmedian:KMedian", "select", "geometry", "Bradley et al. 1996", "examples nearest to k-median centres"),
    Entry("density", "attar.select.density:Density", "select", "clusters", "Abbas et al. 2024", "more examples of complex clusters, the hardest of each"),
    Entry("hierarchical-kmeans", "attar.select.hierarchical_kmeans:HierarchicalKMeans", "select", "clusters", "Vo et al. 2024", "the same number of every cluster of clusters"),
    Entry("semdedup", "attar.select.semdedup:SemDeDup", "select", "deduplication", "Abbas et al. 2023", "drops the nearest duplicates first"),
    Entry("ralf", "attar.select.ralf:RALF", "select", "graph", "Ebert et al. 2012", "dense examples, each of which lowers its neighbours"),
    Entry("d2", "attar.select.d2:D2", "select", "graph", "Maharana et al. 2024", "hard and diverse by messages between neighbours"),
    Entry("facility-location", "attar.select.facility_location:FacilityLocation", "select", "submodular", "Wei et al. 2015", "examples that serve all others best"),
    Entry("graph-cut", "attar.select.graph_cut:GraphCut", "select", "submodular", "Iyer et al. 2021", "near to everything, far from the kept"),
    Entry("log-det", "attar.select.log_det:LogDet", "select", "submodular", "Chen et al. 2018", "examples that do not explain each other"),
    Entry("saturated-coverage", "attar.select.saturated_coverage:SaturatedCoverage", "select", "submodular", "Lin & Bilmes 2011", "covers every example up to a limit"),
    Entry("el2n", "attar.select.el2n:EL2N", "select", "training dynamics", "Paul et al. 2021", "largest error early in training"),
    Entry("forgetting", "attar.select.forgetting:Forgetting", "select", "training dynamics", "Toneva et al. 2019", "examples learned and forgotten most often"),
    Entry("aum", "attar.select.aum:AUM", "select", "training dynamics", "Pleiss et al. 2020", "smallest margin over the training"),
    Entry("cartography", "attar.select.cartography:Cartography", "select", "training dynamics", "Swayamdipta et al. 2020", "ambiguous, hard or easy end of the map"),
    Entry("dyn-unc", "attar.select.dyn_unc:DynUnc", "select", "training dynamics", "He et al. 2024", "label's probability still moving"),
    Entry("tdds", "attar.select.tdds:TDDS", "select", "training dynamics", "Zhang et al. 2024", "contribution that varies late in training"),
    Entry("dual", "attar.select.dual:DUAL", "select", "training dynamics", "Cho et al. 2025", "uncertain times hard, easier as fewer are kept"),
    Entry("ccs", "attar.select.ccs:CCS", "select", "training dynamics", "Zheng et al. 2023", "all difficulties evenly but for the hardest"),
    Entry("entropy", "attar.select.entropy:Entropy", "select", "uncertainty", "Settles 2009", "largest entropy of a trained network's answer"),
    Entry("margin", "attar.select.margin:Margin", "select", "uncertainty", "Scheffer et al. 2001", "two best classes closest"),
    Entry("least-confidence", "attar.select.least_confidence:LeastConfidence", "select", "uncertainty", "Lewis & Gale 1994", "best class least probable"),
    Entry("grand", "attar.select.grand:GraNd", "select", "gradients", "Paul et al. 2021", "the longest last-layer gradients"),
    Entry("craig", "attar.select.craig:CRAIG", "select", "gradients", "Mirzasoleiman et al. 2020", "weighted examples that stand for all gradients"),
    Entry("gradmatch", "attar.select.gradmatch:GradMatch", "select", "gradients", "Killamsetty et al. 2021", "weighted gradients that add up to that of all"),
    Entry("glister", "attar.select.glister:Glister", "select", "gradients", "Killamsetty et al. 2021", "what lowers the loss of held-out examples"),
    Entry("knn-shapley", "attar.select.knn_shapley:KNNShapley", "select", "valuation", "Jia et al. 2019", "the most valuable to a classifier by neighbours"),
    Entry("active", "attar.select.active:Active", "select", "active learning", "Settles 2009", "asks for the labels that teach a network most"),
    Entry("csod", "attar.select.csod:CSOD", "select", "object detection", "Lee et al. 2024", "images of several objects, in turn for every class"),
    Entry("dm", "attar.distill.dm:DM", "distill", "distribution matching", "Zhao & Bilen 2023", "matches mean features"),
    Entry("datadam", "attar.distill.datadam:DataDAM", "distill", "distribution matching", "Sajedi et al. 2023", "matches attention maps layer by layer"),
    Entry("cafe", "attar.distill.cafe:CAFE", "distill", "distribution matching", "Wang et al. 2022", "matches every layer along networks followed by their accuracy"),
    Entry("wmdd", "attar.distill.wmdd:WMDD", "distill", "distribution matching", "Liu et al. 2025", "matches barycentres and batch-norm statistics of each class"),
    Entry("idm", "attar.distill.idm:IDM", "distill", "distribution matching", "Zhao et al. 2023", "matches mean features under a queue of trained networks"),
    Entry("ncfm", "attar.distill.ncfm:NCFM", "distill", "distribution matching", "Wang et al. 2025", "matches characteristic functions at random frequencies"),
    Entry("dc", "attar.distill.dc:DC", "distill", "gradient matching", "Zhao et al. 2021", "matches training gradients"),
    Entry("dsa", "attar.distill.dsa:DSA", "distill", "gradient matching", "Zhao & Bilen 2021", "DC under one transform of both sides"),
    Entry("dcc", "attar.distill.dcc:DCC", "distill", "gradient matching", "Lee et al. 2022", "matches gradients of all classes together"),
    Entry("idc", "attar.distill.idc:IDC", "distill", "gradient matching", "Kim et al. 2022", "matches gradients of tiled images on really trained networks"),
    Entry("dream", "attar.distill.dream:DREAM", "distill", "gradient matching", "Liu et al. 2023", "IDC on the images that stand for clusters"),
    Entry("mtt", "attar.distill.mtt:MTT", "distill", "trajectory matching", "Cazenavette et al. 2022", "leads training where the real set led experts"),
    Entry("tesla", "attar.distill.tesla:TESLA", "distill", "trajectory matching", "Cui et al. 2023", "MTT whose steps do not bend each other"),
    Entry("ftd", "attar.distill.ftd:FTD", "distill", "trajectory matching", "Du et al. 2023", "MTT of experts in flat valleys, with averaged images"),
    Entry("datm", "attar.distill.datm:DATM", "distill", "trajectory matching", "Guo et al. 2024", "FTD's experts at epochs as hard as the budget allows, learned labels"),
)  # fmt: skip

USER = "attar_user_method_"
"""How the module names of files begin, so that they stand in nobody's way."""

GROUP = "attar.methods"
"""Entry-point group of plug-ins: name = "package.module:Class"."""


def names(verb: str | None = None) -> list[str]:
    """Known method names, of one verb or of all, plug-ins included."""
    own = [e.name for e in METHODS if verb in (None, e.verb)]
    return own + [e.name for e in entry_points(group=GROUP) if e.name not in own]


WORDS = ("matching", "selection")
"""What stands for several methods."""


def group(word: str) -> list[str]:
    """The methods that a word stands for: ``matching`` (every family of that kind), ``selection``; else none."""
    if word == "selection":
        return [e.name for e in METHODS if e.verb == "select"]
    return [e.name for e in METHODS if e.family.endswith(" matching")] if word == "matching" else []


def find(name: str, words: Sequence[str] = ()) -> type[Method]:
    """The class of a method.

    Args:
        name: a registered name, a plug-in's name, or ``file.py:Class`` or ``package.module:Class``.
        words: what else could have been meant.

    Raises:
        UsageError: unknown; names the nearest.
    """
    for entry in METHODS:
        if entry.name == name:
            return load(entry.target)
    for plugin in entry_points(group=GROUP):
        if plugin.name == name:
            return load(plugin.value)
    if ":" in name:
        return load(name)
    meant = nearest(name, [*names(), *words], most=24, own="my.py:MyMethod")
    raise UsageError(f"there is no method '{name}'; {meant}")


def name_of(kind: type[Method]) -> str:
    """The name that finds a class again: the registered one, ``file.py:Class`` of one from a file, else ``module:Class``."""
    where, name = kind.__module__, kind.__qualname__
    if where.startswith(USER):
        return f"{sys.modules[where].__file__}:{name}"
    return next((e.name for e in METHODS if e.target == f"{where}:{name}"), f"{where}:{name}")


def load(target: str) -> type[Method]:
    """The class that ``module:Class`` or ``file.py:Class`` names.

    Raises:
        UsageError: no such file, module or class, or not a method.
    """
    from attar.method import Method

    where, _, name = target.rpartition(":")
    module = _from_file(where) if where.endswith(".py") else _from_module(where)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        classes = [
            k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, Method) and v is not Method
        ]
        raise UsageError(
            f"{where} has no method class '{name}'; {nearest(name, classes) if classes else 'it has none'}"
        )
    return found


def _from_module(where: str) -> object:
    try:
        return code.remember_module(importlib.import_module(where))
    except (ImportError, ValueError) as e:
        raise UsageError(f"module '{where}' cannot be imported ({e}); check its name and that it is installed") from e


def _from_file(where: str) -> object:
    path = Path(where)
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give the path of a Python file, as in my.py:MyMethod")
    known = f"{USER}{path.stem}_{hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()}"
    held = code.unchanged(path)
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[known] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[known]
        raise UsageError(f"{path} cannot be imported ({type(e).__name__}: {e}); mend it and try again") from e
    code.remember(path, held)
    return module
