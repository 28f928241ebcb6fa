"""Networks: named architectures, the user's own, and :class:`Net`, a network as a pure function of its parameters."""

from attar.nets.build import Spec, build
from attar.nets.net import Net, Params
from attar.nets.table import names

__all__ = ["Net", "Params", "Spec", "build", "names"]
