"""A knock at the controller of a test."""

from ipaddress import ip_address

from certs import Secret
from spa.admission import Admit, Drop
from spa.packet import Knock, KnockKind, derive_key, encode
from tests.controller.perimeter import SOURCE, Perimeter


def knock(perimeter: Perimeter, secret: Secret | bytes, kind: KnockKind) -> Admit | Drop:
    """What a knock with that secret opens now."""
    now_us = int(perimeter.clock.pass_(microseconds=1).timestamp() * 1_000_000)
    while perimeter.admission.roll(now_us):
        pass
    key = derive_key(secret if isinstance(secret, Secret) else Secret(secret), perimeter.name)
    datagram = encode(Knock(kind, now_us, None, None, 443), key, nonce=bytes(12), pad=b"")
    return perimeter.admission.admit(datagram, ip_address(SOURCE), now_us)
