"""Replay protection: which knocks of one key are believed, by their times alone.

Laws:

1. A time is believed once.
2. Knocks of one key may overtake each other: a machine makes them in several processes, and networks reorder datagrams.
   So one is believed as well that is up to `REORDER_US` older than the newest, if it was not used before. Whatever is
   older never is.
3. Memory is bounded: the newest `REMEMBERED` times. Of a key that knocks faster than that, what is older than all of
   them is refused: unknown means used.

The idea is the anti-replay window of ESP (RFC 4303, section 3.4.3), over times instead of sequence numbers.
"""

from spa.limits import REMEMBERED, REORDER_US

Believed = tuple[int, ...]
"""Times in microseconds since 1970, the newest first: what has to be remembered of one key's knocks."""


def believe(believed: Believed, time_us: int) -> Believed | None:
    """`believed` with `time_us` in it, or `None`: it was used, or nobody knows any more whether it was."""
    if not believed or time_us > believed[0]:
        kept = believed[: REMEMBERED - 1]
        while kept and kept[-1] < time_us - REORDER_US:
            kept = kept[:-1]
        return (time_us, *kept)
    forgotten = believed[-1] if len(believed) == REMEMBERED else believed[0] - REORDER_US
    if time_us < forgotten or time_us in believed:
        return None
    return tuple(sorted((*believed, time_us), reverse=True)[:REMEMBERED])
