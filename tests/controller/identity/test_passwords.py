import asyncio
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher, extract_parameters

from controller.errors import Refused
from controller.identity.passwords import MEMORY_KIB, PASSES, Busy, Checked, Passwords

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
CHEAPER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, hash_len=16)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(CHEAP)
    yield made
    made.close()


async def test_a_password_matches_itself_and_nothing_else(passwords: Passwords) -> None:
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$")
    assert await passwords.check(stored, "correct horse") == Checked(matches=True)
    assert await passwords.check(stored, "correct horsf") == Checked(matches=False)
    assert await passwords.check(stored, "") == Checked(matches=False)


async def test_nobody_matches_nothing_not_even_the_decoy(passwords: Passwords) -> None:
    assert await passwords.check(None, "") == Checked(matches=False)
    assert await passwords.check("no hash", "x") == Checked(matches=False)


async def test_a_hash_of_another_time_is_made_anew(passwords: Passwords) -> None:
    checked = await passwords.check(CHEAPER.hash("correct horse"), "correct horse")
    assert checked.matches
    assert checked.rehash is not None
    assert await passwords.check(checked.rehash, "correct horse") == Checked(matches=True)
    assert await passwords.check(CHEAPER.hash("correct horse"), "wrong") == Checked(matches=False)


async def test_a_storm_is_told_to_come_again_and_the_loop_goes_on() -> None:
    passwords = Passwords(PasswordHasher(time_cost=2, memory_cost=16384, parallelism=1), at_once=1, waiting=3)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    counting = asyncio.create_task(count_turns())
    answers = await asyncio.gather(*(passwords.check(None, "x") for _ in range(12)), return_exceptions=True)
    counting.cancel()
    assert sum(isinstance(answer, Busy) for answer in answers) == 8
    assert sum(answer == Checked(matches=False) for answer in answers) == 4
    assert turns > 0, "a hash made in the loop lets nothing else have its turn"
    assert await passwords.check(None, "x") == Checked(matches=False)
    passwords.close()


async def test_nobody_is_verified_with_the_same_work_as_somebody() -> None:
    """The same parameters mean the same time; measuring it would be noise."""
    passwords = Passwords()
    stored = await passwords.hash("correct horse")
    assert extract_parameters(passwords._decoy) == extract_parameters(stored)
    assert await passwords.check(None, "wrong") == await passwords.check(stored, "wrong") == Checked(matches=False)
    passwords.close()


async def test_the_parameters_are_those_of_rfc_9106() -> None:
    passwords = Passwords()
    stored = await passwords.hash("x")
    assert f"m={MEMORY_KIB},t={PASSES},p=1" in stored
    passwords.close()


@pytest.mark.parametrize(
    ("password", "code"), [("", "bad_password"), ("x" * 1025, "bad_password"), ("alice2024", "weak_password")]
)
async def test_a_password_nobody_should_have(passwords: Passwords, password: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        await passwords.hash_new(password, "alice", "example.test")
    assert refused.value.code == code
    stored = await passwords.hash_new("correct horse battery staple", "alice")
    assert (await passwords.check(stored, "correct horse battery staple")).matches


async def test_what_cannot_match_has_a_queue_of_its_own(passwords: Passwords) -> None:
    stored = await passwords.hash("secret")
    passwords._decoy_room = 0
    with pytest.raises(Busy):
        await passwords.decline("guess")
    assert (await passwords.check(stored, "secret")).matches
