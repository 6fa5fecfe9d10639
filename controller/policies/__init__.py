"""Who may reach what: grants, and administrators' own Cedar files.

grants.py   grants, which compile to policies
service.py  files: check, apply, show, remove; explain
"""

from controller.decision.check import Checked, PolicyFile, Problem
from controller.policies.grants import GrantService, GrantView
from controller.policies.service import Applied, Explained, PolicyService, PolicyText, Reviewed

__all__ = [
    "Applied",
    "Checked",
    "Explained",
    "GrantService",
    "GrantView",
    "PolicyFile",
    "PolicyService",
    "PolicyText",
    "Problem",
    "Reviewed",
]
