"""Which session is drawn next, who is let in, and what gives way first: functions of integers and times.

No threads, sockets or tensors here.
"""

from .admission import ROOM, Admit, Refuse, Running, decide, most_sessions
from .costs import Costs, Measured, Shape, load
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
    "Measured",
    "Refuse",
    "Rung",
    "Running",
    "Shape",
    "Waiting",
    "decide",
    "ladder",
    "load",
    "most_sessions",
    "next_group",
    "planned",
    "step",
]
