"""Which session is drawn next, who is let in, and what gives way first: functions of integers and times.

No threads, sockets or tensors here.
"""

from .admission import ROOM, Admit, Refuse, Running, decide
from .costs import Costs, Shape, load
from .degrading import Level, Rung, ladder, planned, step
from .slack import FIRST, LEAD, Group, Waiting, next_group

__all__ = [
    "FIRST",
    "LEAD",
    "ROOM",
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
    "planned",
    "step",
]
