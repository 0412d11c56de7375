"""TLS to servers of ours: which authorities are believed, which certificate is shown, what went wrong.

A fault is told with the name of the setting that mends it: "certificate verify failed" alone has cost
many an evening.
"""

import ssl
from dataclasses import dataclass
from typing import Final

# OpenSSL's reasons (x509_vfy.h), as ssl.SSLCertVerificationError.verify_code gives them.
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_NAME_DIFFERS: Final = frozenset({62, 64})
_UNKNOWN_SIGNER: Final = frozenset({2, 18, 19, 20, 21})


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of TLS to one server; ``prefix`` as ``TOLLWIRE_NATS`` names its settings. Empty: none."""

    prefix: str
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def any(self) -> bool:
        """True when a file is named, which is the wish for TLS."""
        return bool(self.ca or self.cert or self.key)


def tls_faults(files: TlsFiles) -> list[str]:
    """Return what is wrong with the files, a line for each, with the setting's name."""
    faults = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.ca:
        try:
            context.load_verify_locations(cafile=files.ca)
        except OSError as error:
            faults.append(f"{files.prefix}_CA_FILE: {files.ca!r} {_reason(error)}")
    if bool(files.cert) != bool(files.key):
        given, missing = ("CERT", "KEY") if files.cert else ("KEY", "CERT")
        faults.append(f"{files.prefix}_{given}_FILE is set; {files.prefix}_{missing}_FILE must be too")
    elif files.cert:
        try:
            context.load_cert_chain(files.cert, files.key, password=_no_password)
        except OSError as error:
            both = f"{files.prefix}_CERT_FILE, {files.prefix}_KEY_FILE: {files.cert!r} and {files.key!r}"
            faults.append(f"{both} {_reason(error)}")
    return faults


def client_context(mode: str, files: TlsFiles) -> ssl.SSLContext:
    """Return how a client looks at a server's certificate, and what it shows itself.

    ``mode``: ``verify-full`` (or empty), ``verify-ca``, ``require``.
    """
    context = ssl.create_default_context(cafile=files.ca or None)
    context.check_hostname = mode in {"", "verify-full"}
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    if files.cert:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    return context


def tls_hint(error: BaseException, prefix: str) -> str | None:
    """Say what an operator does about an error of TLS, by the settings' names; None: it is none of TLS."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _verification_hint(cause, prefix)
        if isinstance(cause, ssl.SSLError):
            if "CERTIFICATE_REQUIRED" in str(cause) or "ALERT" in str(cause):
                return (
                    f"the server refuses our certificate or wants one: {prefix}_CERT_FILE and "
                    f"{prefix}_KEY_FILE ({_reason(cause)})"
                )
            return f"TLS failed ({_reason(cause)}): does the server speak TLS at this port? {prefix}_TLS"
    return None


def _verification_hint(error: ssl.SSLCertVerificationError, prefix: str) -> str:
    if error.verify_code == _EXPIRED:
        return "the server's certificate has expired: it must be renewed"
    if error.verify_code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet: look at both machines' clocks"
    if error.verify_code in _NAME_DIFFERS:
        return (
            "the server's certificate is for another name than the one we connect to: use that name, or "
            f"{prefix}_TLS=verify-ca"
        )
    if error.verify_code in _UNKNOWN_SIGNER:
        return f"the server's certificate is not signed by who {prefix}_CA_FILE names (or the system trusts)"
    return f"the server's certificate is refused ({error.verify_message}): {prefix}_CA_FILE"


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and what caused it, nearest first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return f"cannot be read: {error.strerror}"


def _no_password() -> str:
    """Answer for a key that is encrypted, for which OpenSSL would ask at the terminal."""
    return ""
