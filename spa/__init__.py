"""How you knock: single-packet authorization, from both sides.

- ``packet``     the knock's bytes, and the keys it is made with
- ``admission``  what a datagram opens, or why it opens nothing; ``locators`` finds its key among any number
- ``windows``    which sources may connect at which port, until when
- ``cloak``      what keeps the port dark meanwhile
- ``cover``      that at work: it follows the windows, and is mended where somebody touched it
- ``door``       all of that around one TCP port and one UDP port; ``listener`` is its UDP side
- ``sender``     knocks and connects
- ``source``     who stands at the door; ``binding``, ``kernel`` and ``timers`` are how sockets are made to serve it
- ``limits``     every number and its reason; ``errors`` everything that is refused, with its fix
"""

from spa.admission import Admission, Admit, Drop
from spa.cloak import CloakName
from spa.cover import Trouble, TroubleCode
from spa.door import Door
from spa.errors import CloakError, DoorError, DropReason, PacketError, SpaError, Unreachable
from spa.packet import Knock, KnockKey, KnockKind, derive_key
from spa.sender import knock_and_connect, send_knock
from spa.source import Source

__all__ = [
    "Admission",
    "Admit",
    "CloakError",
    "CloakName",
    "Door",
    "DoorError",
    "Drop",
    "DropReason",
    "Knock",
    "KnockKey",
    "KnockKind",
    "PacketError",
    "Source",
    "SpaError",
    "Trouble",
    "TroubleCode",
    "Unreachable",
    "derive_key",
    "knock_and_connect",
    "send_knock",
]
