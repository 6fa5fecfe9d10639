"""Resources: what is hidden behind gateways."""

from controller.resources.service import ResourceService, ResourceView
from controller.resources.target import Target, parse_target

__all__ = ["ResourceService", "ResourceView", "Target", "parse_target"]
