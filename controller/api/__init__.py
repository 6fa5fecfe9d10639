"""What the controller answers over the network, behind a knock and TLS.

client.py    the routes of devices and invitees, and the application they all live in
routes.py    every route declares whom it is for; one that does not stops the controller from starting
peers.py     who is at the other end: an invitee, a device or a gateway, as the database knows them now
socket.py    the WebSocket of a live session
refusals.py  answers that are no success
"""

from controller.api.client import application

__all__ = ["application"]
