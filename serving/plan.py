"""Plans of batches, for whoever has queries of many tasks: ours, and those of PetS beside it.

They stand in udfs/tasks/plan.py, since the server's own functions plan their batches as well.
"""

from pageformer.udfs.tasks.cuts import Batches, Cost, Request, TaskCost
from pageformer.udfs.tasks.pets_plans import alpha_only, beta_only, coordinated
from pageformer.udfs.tasks.plan import plan

__all__ = [
    "Batches",
    "Cost",
    "Request",
    "TaskCost",
    "alpha_only",
    "beta_only",
    "coordinated",
    "plan",
]
