from spa.limits import ROLL_BATCH
from spa.locators import KnownKey, LocatorTable
from spa.packet import KnockKind, locator_of

KINDS = frozenset(KnockKind)


def known(number: int) -> KnownKey:
    return KnownKey(f"device/{number}", number.to_bytes(32, "big") + bytes(32), KINDS)


def found_in(table: LocatorTable, key: KnownKey, epochs: range) -> list[int]:
    return [epoch for epoch in epochs if table.find(locator_of(key.key[:32], epoch)) is key]


def size(table: LocatorTable) -> int:
    return sum(map(len, table._shards))


def test_a_key_is_found_in_three_epochs_and_no_other() -> None:
    table, key = LocatorTable(), known(1)
    table.add(key, 100)
    assert found_in(table, key, range(95, 105)) == [99, 100, 101]
    table.remove(key)
    assert found_in(table, key, range(95, 105)) == []
    assert size(table) == 0


def test_a_roll_goes_in_steps_and_nobody_is_lost_meanwhile() -> None:
    table = LocatorTable()
    keys = [known(number) for number in range(10)]
    for key in keys:
        table.add(key, 100)
    while table.roll(100, 4):
        pass  # nothing to do, a few keys at a time
    steps = 1
    while table.roll(101, 4):
        steps += 1
        assert all({100, 101} <= set(found_in(table, key, range(95, 105))) for key in keys)
    assert steps == 3
    assert all(found_in(table, key, range(95, 105)) == [100, 101, 102] for key in keys)
    assert size(table) == 30


def test_keys_added_and_removed_during_a_roll_are_what_they_were_asked_to_be() -> None:
    table = LocatorTable()
    keys = [known(number) for number in range(6)]
    for key in keys[:5]:
        table.add(key, 100)
    table.roll(101, 1)
    table.remove(keys[0])
    table.add(keys[5], 101)
    while table.roll(101, 1):
        pass
    assert found_in(table, keys[0], range(95, 105)) == []
    assert all(found_in(table, key, range(95, 105)) == [100, 101, 102] for key in keys[1:])
    assert len(table) == 5


def test_clocks_that_jump_either_way_leave_three_locators_a_key() -> None:
    table, key = LocatorTable(), known(1)
    table.add(key, 100)
    for epoch in (500, 499, 2, 0):
        table.roll(epoch, 1)
        assert found_in(table, key, range(600)) == [each for each in range(epoch - 1, epoch + 2) if each >= 0]
        assert size(table) == 3


def test_a_new_epoch_is_worked_in_by_small_steps() -> None:
    table = LocatorTable()
    for number in range(10_000):
        table.add(known(number), 100)
    steps = 1
    while table.roll(101, ROLL_BATCH):
        steps += 1
    assert steps >= 10_000 // ROLL_BATCH
    assert size(table) == 30_000
