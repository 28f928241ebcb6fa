"""Rules: from a score to a choice. A method names one as ``top``, ``ccs:strata=50:cutoff=0.1`` and so on."""

from attar.select.rules.pool import Pool
from attar.select.rules.ranked import ranked, ranking_cost
from attar.select.rules.table import TABLE, Rule, names, rule_of

__all__ = ["TABLE", "Pool", "Rule", "names", "ranked", "ranking_cost", "rule_of"]
