"""Who you are: names, certificates, keys and the files they live in.

- ``names``     SPIFFE names and the purpose each one belongs to
- ``issue``     keys, signing requests, the root, one intermediate for each purpose, leaves
- ``verify``    from a verified chain to the one name it proves
- ``profile``   what our certificates look like, shared by issuing and verifying
- ``trust``     the root and the anchors in use; ``identity`` a key and its chain
- ``store``     the files, private and whole (the only module here that touches the system)
- ``secret``    bytes that do not leak; ``errors`` everything that can be refused, with its fix
"""

from certs.errors import BadCertificate, BadName, CertsError, Refusal, StoreError
from certs.identity import Identity
from certs.issue import (
    Issuer,
    issue_intermediate,
    issue_leaf,
    issue_root,
    load_private_key,
    make_csr,
    new_private_key,
    private_key_pem,
)
from certs.names import Name, NameKind, Purpose, parse_domain, parse_label
from certs.secret import Secret
from certs.trust import Trust
from certs.verify import name_of, spki_sha256

__all__ = [
    "BadCertificate",
    "BadName",
    "CertsError",
    "Identity",
    "Issuer",
    "Name",
    "NameKind",
    "Purpose",
    "Refusal",
    "Secret",
    "StoreError",
    "Trust",
    "issue_intermediate",
    "issue_leaf",
    "issue_root",
    "load_private_key",
    "make_csr",
    "name_of",
    "new_private_key",
    "parse_domain",
    "parse_label",
    "private_key_pem",
    "spki_sha256",
]
