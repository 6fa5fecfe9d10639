"""What can be wrong with names, certificates and the files that hold them.

Every error is a sentence for a person (``str(error)``) and knows what to do about it (``.fix``). A refused
certificate also has a code (``.reason``) for audit, counters and tests.
"""

from enum import StrEnum


class CertsError(Exception):
    """Anything this package refuses."""

    fix: str = "check the certificates with the administrator of the perimeter"


class BadName(CertsError, ValueError):  # noqa: N818 - reads as what it is, like its neighbours
    """Text that is not a name of ours."""

    fix = "use lowercase letters, digits and hyphens, as in spiffe://example.test/gateway/edge"


class Refusal(StrEnum):
    """Why a certificate, a signing request or a bundle was refused."""

    BAD_CSR = "bad_csr"
    BAD_HOST = "bad_host"
    BAD_KEY = "bad_key"
    BAD_LIFETIME = "bad_lifetime"
    BAD_NAME = "bad_name"
    EXPIRED = "expired"
    MALFORMED = "malformed"
    NO_NAME = "no_name"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_DOMAIN = "wrong_domain"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_KIND = "wrong_kind"
    WRONG_PIN = "wrong_pin"
    WRONG_PURPOSE = "wrong_purpose"
    WRONG_USAGE = "wrong_usage"


_FIXES: dict[Refusal, str] = {
    Refusal.EXPIRED: "renew the certificate, and check the clock of this machine",
    Refusal.NOT_YET_VALID: "check the clocks of both machines",
    Refusal.WRONG_DOMAIN: "use an invite of this perimeter",
    Refusal.WRONG_ISSUER: "enrol again: this certificate comes from another authority",
    Refusal.WRONG_PIN: "ask for a new invite: the controller that answered is not the one that made this one",
}


class BadCertificate(CertsError):  # noqa: N818 - the same
    """A certificate, request or key that proves nothing; ``reason`` is the code, ``str()`` the sentence."""

    def __init__(self, reason: Refusal, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.fix = _FIXES.get(reason, CertsError.fix)


class StoreError(CertsError):
    """A file or directory that cannot be used as it is; ``fix`` says what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class MissingFileError(StoreError):
    """A file that is not there."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is missing", "enrol or initialise here first, or name another --state DIR")
