"""The soak, short: many tunnels at once, every byte compared at both ends, every end an end and every break a break."""

from lab.soak import soak


async def test_many_tunnels_carry_every_byte() -> None:
    report = await soak(60, 6, lambda _line: None)
    # Whether memory stays level shows in minutes, not here.
    assert [each for each in report.problems if "memory" not in each] == []
    assert report.outcomes["whole"] == report.hidden["whole"] > 0
