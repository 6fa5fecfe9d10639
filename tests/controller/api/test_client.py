"""Enrolment and login over real TLS."""

import asyncio
import socket

import pytest
from cryptography import x509

from certs import Identity, make_csr, new_private_key, private_key_pem
from tests.controller.perimeter import asked_for, proofs
from tests.controller.served import Edge, Served
from wire.enrol import enrol as join
from wire.invite import BINDING_BYTES, BINDING_LABEL, Invite, enrol_proof
from wire.messages import EnrolReply, EnrolRequest, LoginReply, LoginRequest, Refusal
from wire.tls import export_binding


async def enrol(served: Served, invite: Invite, *, binding: bytes | None = None) -> tuple[int, bytes]:
    """Over one connection whose exporter the proof is bound to."""
    key = new_private_key()
    csr = make_csr(key).decode()
    client = served.client(None)
    async with client.get("/nowhere") as response:  # opens the connection that is used again
        await response.read()
    [[(protocol, _)]] = client.connector._conns.values()
    bound = binding or export_binding(protocol.transport, BINDING_LABEL, b"", BINDING_BYTES)
    request = EnrolRequest(invite=invite.id, proof=enrol_proof(invite.secret, bound, csr.encode()), csr=csr)
    async with client.post("/v1/enrol", data=request.model_dump_json()) as response:
        return response.status, await response.read()


async def test_an_invitee_becomes_a_device(served: Served) -> None:
    await served.perimeter.add_user("alice")
    invite = await served.perimeter.invites.for_user("alice", actor="admin")
    status, body = await enrol(served, invite)
    assert status == 200
    reply = EnrolReply.model_validate_json(body)
    assert x509.load_pem_x509_certificates(reply.trust.encode())[0] == served.perimeter.authority.trust.root
    [event] = await served.perimeter.events("device.enrolled")
    assert event.source == "127.0.0.1"


async def test_a_proof_made_on_another_connection_is_worth_nothing(served: Served) -> None:
    await served.perimeter.add_user("alice")
    invite = await served.perimeter.invites.for_user("alice", actor="admin")
    status, body = await enrol(served, invite, binding=bytes(32))
    assert (status, Refusal.model_validate_json(body).code) == (403, "invite_refused")
    status, body = await enrol(served, invite)
    assert status == 200
    status, body = await enrol(served, invite)
    assert (status, Refusal.model_validate_json(body).code) == (409, "invite_used")


async def test_the_newcomers_side_and_ours_agree(served: Served) -> None:
    """wire.enrol, as `gloam enrol` and `gloam-gateway join` use it."""
    await served.perimeter.add_user("alice")
    invite = await served.perimeter.invites.for_user("alice", actor="admin")

    async def dial() -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - socket's signature
        await asyncio.get_running_loop().sock_connect(sock, served._listener.getsockname())
        return sock

    enrolled = await join(invite, invite.controllers[0], dial, device_name="laptop", platform="Linux")
    assert enrolled.user == "alice"
    assert str(enrolled.name) == f"spiffe://example.test/device/{enrolled.name.id}"


async def test_a_login_over_the_network(served: Served, edge: Edge) -> None:
    perimeter = served.perimeter
    await perimeter.add_user("alice")
    machine = await perimeter.enrol("alice")
    client = served.client(machine.identity)

    async def log_in(otp: str | None = None) -> tuple[LoginReply, bytes]:
        key = new_private_key()
        asked = LoginRequest(user="alice", proofs=proofs(password="correct horse", otp=otp), csr=make_csr(key).decode())
        async with client.post("/v1/login", data=asked.model_dump_json()) as response:
            assert response.status == 200
            return LoginReply.model_validate_json(await response.read()), private_key_pem(key)

    reply, _ = await log_in()
    assert asked_for(reply) == {"totp_enrolment"}
    reply, key = await log_in(await perimeter.code("alice"))
    assert reply.status == "done"
    identity = Identity.from_pem(key, reply.session.certificate.encode())
    assert identity.name.id == str(reply.session.id)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"user": "alice", "extra": 1}', b"\xff", b"[" * 60_000])
async def test_what_is_not_in_the_protocol_is_refused_and_audited(served: Served, body: bytes) -> None:
    await served.perimeter.add_user("alice")
    machine = await served.perimeter.enrol("alice")
    async with served.client(machine.identity).post("/v1/login", data=body) as response:
        assert response.status == 422
        assert Refusal.model_validate_json(await response.read()).code == "protocol_error"
    [event] = await served.perimeter.events("client.protocol_error")
    assert event.device == machine.id


async def test_a_body_is_bounded(served: Served) -> None:
    await served.perimeter.add_user("alice")
    machine = await served.perimeter.enrol("alice")
    async with served.client(machine.identity).post("/v1/login", data=b"x" * 70_000) as response:
        assert response.status == 413
