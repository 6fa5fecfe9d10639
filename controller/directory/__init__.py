"""What decisions know: users, groups, devices, gateways, resources, grants, policies, as one frozen value.

directory.py  the value (pure)
loader.py     rows of the database to the value
service.py    the current one, replaced whole after every change
"""

from controller.directory.directory import CycleError, Directory
from controller.directory.loader import load
from controller.directory.service import DirectoryService, bump_revision

__all__ = ["CycleError", "Directory", "DirectoryService", "bump_revision", "load"]
