from gateway.backoff import Backoff


def test_the_bound_doubles_to_its_most_and_starts_anew_after_a_link() -> None:
    backoff = Backoff(first=1, most=5, bound=1)
    bounds = []
    for _ in range(4):
        bounds.append(backoff.wait(lambda: 1.0))
        backoff = backoff.failed()
    assert bounds == [1, 2, 4, 5]
    assert backoff.worked().bound == 1


def test_the_wait_is_drawn_from_nothing_to_the_bound() -> None:
    backoff = Backoff(bound=8)
    assert [backoff.wait(lambda r=r: r) for r in (0.0, 0.25, 1.0)] == [0.0, 2.0, 8.0]
