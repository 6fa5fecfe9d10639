"""People and groups: what administrators do with them."""

from controller.users.service import GroupView, UserService, UserView

__all__ = ["GroupView", "UserService", "UserView"]
