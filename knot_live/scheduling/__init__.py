"""Which session is drawn next, who is let in, and what gives way first: functions of integers and times.

No threads, sockets or tensors here.
"""

from .admission import Admit, Refuse, Running, decide, load
from .costs import Costs, Shape
from .degrading import Level, Rung, ladder, step
from .slack import Group, Waiting, next_group

__all__ = [
    "Admit",
    "Costs",
    "Group",
    "Level",
    "Refuse",
    "Rung",
    "Running",
    "Shape",
    "Waiting",
    "decide",
    "ladder",
    "load",
    "next_group",
    "step",
]
