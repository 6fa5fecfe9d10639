"""Whoever shows the wrong certificate gets no byte from behind the handshake, and the log says what was wrong with it.

The stranger here has knocked (he has a whole stolen device) and uses somebody else's TLS: the system's `openssl`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import trustme
from cryptography.hazmat.primitives.serialization import Encoding

from certs.identity import Identity
from certs.names import Name, NameKind
from controller.authority import Authority
from lab.addresses import TLS_PORT
from lab.perimeter import DOMAIN
from lab.processes import Finished, finish
from lab.visitor import hold_open
from tests.scenarios.intruder import Intruder, Server, Watch, authority_of, controller_of, gateway_of, untroubled

POST_QUANTUM = "X25519MLKEM768"
REQUESTS = {
    NameKind.GATEWAY: "CONNECT payroll:80 HTTP/1.1\r\nHost: payroll:80\r\n\r\n",
    NameKind.CONTROLLER: "GET /v1/nothing HTTP/1.1\r\nHost: main\r\nConnection: close\r\n\r\n",
}


@dataclass(frozen=True)
class Shown:
    """What `openssl s_client` is given: options, and the code the audit log must have."""

    what: str
    options: tuple[str, ...]
    code: str


class Wallet:
    """Certificates as files, the way openssl wants them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, label: str, certificate: bytes, key: bytes) -> tuple[str, ...]:
        """The options that show this certificate."""
        paths = {"-cert": self._directory / f"{label}.pem", "-key": self._directory / f"{label}.key"}
        paths["-cert"].write_bytes(certificate)
        paths["-key"].write_bytes(key)
        return tuple(part for option, path in paths.items() for part in (option, str(path)))

    def identity(self, label: str, identity: Identity) -> tuple[str, ...]:
        return self.put(label, identity.leaf.public_bytes(Encoding.PEM), identity.key.reveal())

    def behind(self, label: str, *identities: Identity) -> tuple[str, ...]:
        """Options that send these chains along."""
        path = self._directory / f"{label}-extra.pem"
        path.write_bytes(b"".join(each.chain_pem for each in identities))
        return ("-cert_chain", str(path))


def unrelated(label: str, wallet: Wallet) -> tuple[str, ...]:
    """A certificate of an authority nobody here has heard of."""
    stranger = trustme.CA().issue_cert("client.example.test", common_name="alice")
    return wallet.put(label, stranger.cert_chain_pems[0].bytes(), stranger.private_key_pem.bytes())


def expired(authority: Authority, name: Name) -> Identity:
    """A certificate of the right authority whose time is over: it lived for one second, before this test began."""
    early = min(each.not_valid_before_utc for each in authority.trust.intermediates()) + timedelta(seconds=2)
    identity = authority.new_identity(name, now=early, lifetime=timedelta(seconds=1))
    assert identity.expired(datetime.now(UTC))
    return identity


async def s_client(openssl: str, intruder: Intruder, server: Server, *options: str) -> Finished:
    """What openssl gets behind a fresh knock; its standard output is what the application said, nothing else."""
    await intruder.open_door(server)
    return await finish(
        [
            openssl, "s_client", "-quiet", "-connect", f"{server.host}:{TLS_PORT}", "-bind", f"{intruder.source}:0",
            "-alpn", "http/1.1", *options,
        ],
        text=REQUESTS[server.name.kind],
    )  # fmt: skip


async def test_a_wrong_certificate_gets_no_byte_and_the_log_says_why(
    stage: Any, tool: Callable[[str], str], tmp_path: Path
) -> None:
    openssl = tool("openssl")
    perimeter = stage.perimeter
    intruder = Intruder.with_client(perimeter, await stage.person())
    authority = await authority_of(perimeter)
    wallet = Wallet(tmp_path)
    session, device = intruder.session, intruder.identity
    assert session is not None
    right = {
        NameKind.GATEWAY: wallet.identity("session", session),
        NameKind.CONTROLLER: wallet.identity("device", device),
    }
    cases: dict[Server, list[Shown]] = {}
    for server, good, wrong, name in (
        (gateway_of(perimeter), session, device, Name(DOMAIN, NameKind.SESSION, str(uuid4()))),
        (controller_of(perimeter), device, session, Name(DOMAIN, NameKind.DEVICE, str(uuid4()))),
    ):
        label = server.name.kind.value
        other = unrelated(f"{label}-unrelated", wallet)
        behind = wallet.behind(label, good)
        cases[server] = [
            Shown("no certificate", (), "no_certificate"),
            Shown("of an unrelated authority", other, "wrong_issuer"),
            Shown("expired", wallet.identity(f"{label}-expired", expired(authority, name)), "expired"),
            Shown("of the wrong intermediate", wallet.identity(f"{label}-wrong", wrong), "wrong_issuer"),
            Shown(
                "wrong, and a good chain behind it", (*wallet.identity(f"{label}-both", wrong), *behind), "wrong_issuer"
            ),
            Shown("unrelated, and a good chain behind it", (*other, *behind), "wrong_issuer"),
            Shown("the right one, in TLS 1.2", (*right[server.name.kind], "-tls1_2"), "old_tls"),
            Shown("the right one, over P-256", (*right[server.name.kind], "-groups", "P-256"), "no_group"),
        ]
    for server, shown in cases.items():
        async with Watch.on(perimeter) as watch:
            for each in shown:
                refused = await s_client(openssl, intruder, server, *each.options)
                told = f"{each.what} at the {server.name.kind}: {refused}"
                assert refused.out == "", told
                assert "alert" in refused.err, told
                event = await watch.until("handshake.refused", where=server.where, code=each.code)
                assert event["source"].startswith(intruder.source), told
                watch.take()
            good = await s_client(openssl, intruder, server, *right[server.name.kind])
            assert good.out.startswith("HTTP/1.1 4"), (
                good
            )  # heard, judged and answered: the bytes above could have come
        untroubled(perimeter.directory / f"{'gateway-edge' if server.kind == 3 else 'controller'}.log")


async def test_what_was_negotiated_is_what_status_and_the_log_say(stage: Any, tool: Callable[[str], str]) -> None:
    """Our own client is post-quantum; one whose OpenSSL cannot be gets a tunnel all the same, and is told apart."""
    openssl, perimeter = tool("openssl"), stage.perimeter
    alice = await stage.person()
    gateway = gateway_of(perimeter)
    async with Watch.on(perimeter) as watch:
        forward, host, port = await alice.forward("wiki")
        began = asyncio.Event()
        held = asyncio.create_task(hold_open(host, port, began))
        await asyncio.wait_for(began.wait(), 60)
        live = (await perimeter.gateway_status("edge"))["tunnels"]
        assert [(each["resource"], each["group"]) for each in live] == [("wiki", POST_QUANTUM)]
        assert (await watch.until("tunnel.opened", resource="wiki"))["group"] == POST_QUANTUM
        held.cancel()
        await forward.stop()

        await Intruder.with_client(perimeter, alice).open_door(gateway)
        process = await asyncio.create_subprocess_exec(
            openssl, "s_client", "-quiet", "-connect", f"{gateway.host}:{TLS_PORT}",
            "-bind", f"{Intruder.with_client(perimeter, alice).source}:0", "-alpn", "http/1.1", "-groups", "X25519",
            "-cert", str(alice.state / "session.pem"), "-key", str(alice.state / "session.key"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"CONNECT echo:7 HTTP/1.1\r\nHost: echo:7\r\n\r\n")
        async with asyncio.timeout(60):
            assert (await process.stdout.readline()).startswith(b"HTTP/1.1 200")
        live = (await perimeter.gateway_status("edge"))["tunnels"]
        assert ("echo", "X25519") in {(each["resource"], each["group"]) for each in live}
        assert (await watch.until("tunnel.opened", resource="echo"))["group"] == "X25519"
        process.kill()
        await process.communicate()
