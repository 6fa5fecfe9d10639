import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from certs import (
    Identity,
    Issuer,
    Name,
    NameKind,
    Purpose,
    issue_intermediate,
    issue_leaf,
    make_csr,
    new_private_key,
    private_key_pem,
    spki_sha256,
)
from certs.profile import CLOCK_SKEW
from tests.wire.harness import DEVICE, DOMAIN, GATEWAY, SESSION, Authority, Wire
from wire import limits
from wire.errors import LocalError, TlsRefused
from wire.tls import ClientTls, ServerTls, connect_tls, export_binding

CONTROLLER = Name(DOMAIN, NameKind.CONTROLLER, "main")


async def refused_by_server(wire: Wire, server: ServerTls, client: ClientTls) -> tuple[str, str, str]:
    """How a server refuses: its reason and what it saw, and the reason the client learns."""
    async with asyncio.TaskGroup() as group:
        group.create_task(wire.serve_one(server, lambda: pytest.fail("a protocol for a refused peer")))
        connecting = group.create_task(learned(wire, client))
        refusal = await wire.refusals.get()
    assert refusal.source[0] == "127.0.0.1"
    assert refusal.sentence
    return refusal.reason, refusal.presented, connecting.result()


async def learned(wire: Wire, client: ClientTls) -> str:
    """The reason a client gives up with: TLS 1.3 lets it finish before the server has judged it."""
    try:
        _, protocol = await connect_tls(await wire.dial(), client, wire.recorder)
    except TlsRefused as refused:
        return refused.reason
    lost = await protocol.lost
    assert isinstance(lost, TlsRefused), repr(lost)
    return lost.reason


async def test_both_ends_know_each_other_and_the_hybrid_key_exchange(wire: Wire) -> None:
    pair = await wire.pair()
    for transport, peer in ((pair.client.transport, GATEWAY), (pair.server.transport, SESSION)):
        assert transport.get_extra_info("peer") == peer
        assert transport.get_extra_info("group") == "X25519MLKEM768"
        assert transport.get_extra_info("alpn") == "gloam/1"
        assert transport.get_extra_info("sslcontext")
        assert transport.get_extra_info("socket").fileno() > 0
        assert transport.get_extra_info("presented") is None
        assert transport.get_extra_info("nonsense", 7) == 7
    assert pair.server.transport.get_extra_info("peername") == pair.client.transport.get_extra_info("sockname")


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("name", [SESSION, DEVICE, CONTROLLER])
async def test_a_server_takes_the_purposes_it_accepts_and_no_other(wire: Wire, purpose: Purpose, name: Name) -> None:
    server, client = wire.server_tls(purpose), wire.client_tls(wire.authority.identity(name))
    if name.purpose is purpose:
        pair = await wire.pair(server, client)
        assert pair.server.transport.get_extra_info("peer") == name
    else:
        assert await refused_by_server(wire, server, client) == ("wrong_issuer", str(name), "refused_by_peer")


async def test_a_server_that_accepts_several_purposes_knows_which_it_got(wire: Wire) -> None:
    server = wire.server_tls(Purpose.DEVICES, Purpose.SERVICES)
    for name in (DEVICE, CONTROLLER):
        pair = await wire.pair(server, wire.client_tls(wire.authority.identity(name)))
        assert pair.server.transport.get_extra_info("peer") == name


async def test_an_expired_certificate_is_refused(wire: Wire) -> None:
    past = datetime.now(UTC) - timedelta(hours=3)
    client = wire.client_tls(wire.authority.identity(SESSION, now=past))
    assert await refused_by_server(wire, wire.server_tls(), client) == ("expired", str(SESSION), "refused_by_peer")


async def test_a_certificate_of_tomorrow_is_refused(wire: Wire) -> None:
    future = datetime.now(UTC) + timedelta(hours=3)
    client = wire.client_tls(wire.authority.identity(SESSION, now=future))
    assert await refused_by_server(wire, wire.server_tls(), client) == (
        "not_yet_valid",
        str(SESSION),
        "refused_by_peer",
    )


async def test_no_certificate_is_refused_unless_enrolment_allows_it(wire: Wire) -> None:
    client = ClientTls(None, wire.trust, GATEWAY)
    assert await refused_by_server(wire, wire.server_tls(), client) == ("no_certificate", "", "refused_by_peer")
    pair = await wire.pair(wire.server_tls(require_client=False), client)
    assert pair.server.transport.get_extra_info("peer") is None


async def test_where_a_certificate_is_optional_a_bad_one_is_still_refused(wire: Wire) -> None:
    server = wire.server_tls(Purpose.SESSIONS, require_client=False)
    client = wire.client_tls(wire.authority.identity(DEVICE))
    assert (await refused_by_server(wire, server, client))[0] == "wrong_issuer"


async def test_the_same_names_from_another_authority_are_refused(wire: Wire) -> None:
    client = wire.client_tls(Authority.make().identity(SESSION))
    assert await refused_by_server(wire, wire.server_tls(), client) == ("wrong_issuer", str(SESSION), "refused_by_peer")


async def test_a_good_certificate_beside_a_bad_leaf_helps_nobody(wire: Wire) -> None:
    """OpenZiti GHSA-mrpr-756c-xm47: identity from the leaf, trust from another certificate that was presented."""
    stranger = Authority.make().identity(SESSION)
    good = wire.authority.identity(SESSION)
    client = wire.client_tls(stranger)
    for certificate in good.chain:
        client._context.add_extra_chain_cert(certificate)
    assert (await refused_by_server(wire, wire.server_tls(), client))[0] in {"wrong_issuer", "bad_signature"}


@pytest.mark.parametrize("names", [b"\x30\x02\xa3\x00", b"\x30\x80", b"", b"\x30\x04\x86\x02\xff\xfe"])
async def test_a_certificate_with_hostile_names_is_refused_and_described(wire: Wire, names: bytes) -> None:
    key = new_private_key()
    who = x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(who, who, key.public_key(), 7, now, now + timedelta(hours=1))
    extension = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, names)
    certificate = builder.add_extension(extension, critical=True).sign(key, SHA256())
    client = wire.client_tls()
    client._context.use_certificate(certificate)
    client._context.use_privatekey(key)
    reason, presented, _ = await refused_by_server(wire, wire.server_tls(), client)
    assert reason in {"wrong_issuer", "bad_certificate"}
    assert presented in {"serial 7", "unreadable"}


async def test_a_client_takes_only_the_server_it_expects(wire: Wire) -> None:
    client = wire.client_tls(expect=Name(DOMAIN, NameKind.GATEWAY, "other"))
    reason, _, learnt = await refused_by_server(wire, wire.server_tls(), client)
    assert (reason, learnt) == ("closed", "wrong_name")


async def test_a_session_cannot_pose_as_a_server(wire: Wire) -> None:
    server = wire.server_tls(identity=wire.authority.identity(SESSION))
    reason, _, learnt = await refused_by_server(wire, server, wire.client_tls(expect=SESSION))
    assert (reason, learnt) == ("refused_by_peer", "wrong_usage")


def rotated(wire: Wire, purpose: Purpose, days: float) -> ServerTls:
    """The gateway under an intermediate its clients do not hold, made this many days after theirs."""
    theirs = wire.trust.anchors[Purpose.SERVICES][0].not_valid_before_utc + CLOCK_SKEW
    made = theirs + timedelta(days=days)
    issuer = issue_intermediate(wire.authority.root, purpose, DOMAIN, now=made)
    other = Authority(wire.authority.root, {**wire.authority.issuers, Purpose.SERVICES: issuer}, wire.trust)
    identity = other.identity(GATEWAY) if purpose is Purpose.SERVICES else forged(issuer)
    return wire.server_tls(identity=identity)


def forged(issuer: Issuer) -> Identity:
    """The gateway's certificate, signed by an intermediate that may not sign it."""
    key = new_private_key()
    good = issue_leaf(
        issue_intermediate(Authority.make().root, Purpose.SERVICES, DOMAIN, now=datetime.now(UTC)),
        make_csr(key), GATEWAY, now=datetime.now(UTC), lifetime=timedelta(hours=1),
    )  # fmt: skip
    builder = x509.CertificateBuilder(
        issuer.certificate.subject, good.subject, good.public_key(), 7, good.not_valid_before_utc,
        good.not_valid_after_utc,
    )  # fmt: skip
    for each in good.extensions:
        value: x509.ExtensionType = each.value
        if isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(value, critical=each.critical)
    return Identity(private_key_pem(key), (builder.sign(issuer.key, SHA256()), issuer.certificate))


async def test_a_client_that_was_away_takes_a_newer_services_intermediate_of_its_root(wire: Wire) -> None:
    pair = await wire.pair(rotated(wire, Purpose.SERVICES, 0.5), wire.client_tls())
    assert pair.client.transport.get_extra_info("peer") == GATEWAY


@pytest.mark.parametrize(("purpose", "days"), [(Purpose.SERVICES, 0), (Purpose.DEVICES, 0.5), (Purpose.SESSIONS, 0.5)])
async def test_a_client_takes_no_intermediate_as_old_as_its_own_and_none_of_another_purpose(
    wire: Wire, purpose: Purpose, days: float
) -> None:
    _, _, learnt = await refused_by_server(wire, rotated(wire, purpose, days), wire.client_tls())
    assert learnt == "wrong_issuer"


async def test_a_server_of_another_domain_is_refused(wire: Wire) -> None:
    other = Authority.make("other.test")
    identity = other.identity(Name("other.test", NameKind.GATEWAY, "edge"))
    server = ServerTls(identity, other.trust, frozenset({Purpose.SESSIONS}))
    _, _, learnt = await refused_by_server(wire, server, wire.client_tls())
    assert learnt == "wrong_issuer"


async def test_a_pinned_client_needs_nothing_but_the_hash_of_the_root(wire: Wire) -> None:
    root = wire.authority.root.certificate
    client = ClientTls.pinned(spki_sha256(root), GATEWAY, alpn=["http/1.1"])
    pair = await wire.pair(wire.server_tls(require_client=False), client)
    assert pair.client.transport.get_extra_info("presented") == root
    assert pair.client.transport.get_extra_info("peer") == GATEWAY


@pytest.mark.parametrize(
    ("pin", "expect", "reason"),
    [("other", GATEWAY, "wrong_pin"), ("own", CONTROLLER, "wrong_name")],
)
async def test_a_pinned_client_refuses_everybody_else(wire: Wire, pin: str, expect: Name, reason: str) -> None:
    root = (wire.authority if pin == "own" else Authority.make()).root.certificate
    server = wire.server_tls(require_client=False)
    _, _, learnt = await refused_by_server(wire, server, ClientTls.pinned(spki_sha256(root), expect))
    assert learnt == reason


async def test_a_pinned_client_does_not_take_a_leaf_that_the_root_next_to_it_did_not_make(wire: Wire) -> None:
    """An attacker's leaf and intermediate, sent with the true root: the pin matches, the chain does not."""
    stranger = Authority.make()
    server = ServerTls(stranger.identity(GATEWAY), stranger.trust, frozenset(), require_client=False)
    server._context.add_extra_chain_cert(wire.authority.root.certificate)
    client = ClientTls.pinned(spki_sha256(wire.authority.root.certificate), GATEWAY)
    _, _, learnt = await refused_by_server(wire, server, client)
    assert learnt in {"wrong_issuer", "wrong_purpose"}


async def test_a_pinned_client_does_not_take_a_device_for_a_server(wire: Wire) -> None:
    server = wire.server_tls(identity=wire.authority.identity(DEVICE), require_client=False)
    client = ClientTls.pinned(spki_sha256(wire.authority.root.certificate), DEVICE)
    _, _, learnt = await refused_by_server(wire, server, client)
    assert learnt in {"wrong_issuer", "wrong_usage"}


def test_a_pin_is_32_bytes() -> None:
    with pytest.raises(LocalError):
        ClientTls.pinned(b"short", GATEWAY)


async def test_an_application_protocol_nobody_offers_ends_the_handshake(wire: Wire) -> None:
    client = wire.client_tls(alpn=["imap"])
    assert await refused_by_server(wire, wire.server_tls(), client) == ("no_alpn", "", "refused_by_peer")


async def test_a_refused_handshake_leaves_other_connections_alone(wire: Wire) -> None:
    """OpenSSL's error queue belongs to the thread: what one connection left there must not fail another."""
    server = wire.server_tls()
    pair = await wire.pair(server)
    await refused_by_server(wire, server, wire.client_tls(alpn=["imap"]))
    await refused_by_server(wire, server, wire.client_tls(wire.authority.identity(DEVICE)))
    await pair.client.send(b"still here")
    assert await pair.server.wait_for(10) == b"still here"


async def test_the_exporter_gives_both_ends_the_same_bytes_and_others_other_bytes(wire: Wire) -> None:
    first, second = await wire.pair(), await wire.pair()
    bindings = [
        export_binding(recorder.transport, b"EXPORTER-test", context, 32)
        for recorder in (first.client, first.server, second.client)
        for context in (b"", b"x")
    ]
    assert bindings[:2] == bindings[2:4]
    assert len(set(bindings)) == 4
    with pytest.raises(LocalError):
        export_binding(asyncio.Transport(), b"EXPORTER-test", b"", 32)


async def test_a_group_the_policy_does_not_name_is_refused_even_if_openssl_took_it(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was negotiated is read back: a binding that ignored the list would be noticed."""
    server, client = wire.server_tls(), wire.client_tls()
    monkeypatch.setattr(limits, "GROUPS", ("X448",))
    assert (await refused_by_server(wire, server, client))[2] == "weak_parameters"


def test_nothing_else_builds_a_tls_context() -> None:
    root = Path(__file__).parents[2]
    builders = ("SSL.Context(", "ssl.create_default_context", "ssl.SSLContext", "load_cert_chain")
    found = [
        str(path.relative_to(root))
        for package in ("certs", "spa", "wire", "console", "controller", "gateway", "client")
        for path in (root / package).rglob("*.py")
        if any(builder in path.read_text() for builder in builders)
    ]
    assert found == ["wire/tls.py"]
