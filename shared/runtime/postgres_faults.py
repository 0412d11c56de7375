"""What an operator does about a PostgreSQL that does not let us in, by the names of the settings."""

from typing import Final

import asyncpg

from shared.runtime import settings
from shared.runtime.tls import tls_hint

PREFIX: Final = f"{settings.PREFIX}POSTGRES"


def login_fault(error: BaseException) -> str | None:
    """Say which setting mends an error of connecting; None: none does, the server is away or full."""
    if hint := tls_hint(error, PREFIX):
        return f"PostgreSQL: {hint}"
    match error:
        case asyncpg.InvalidPasswordError():
            return (
                f"PostgreSQL refuses the password ({error}): {PREFIX}_DSN or {PREFIX}_PASSWORD, "
                "and the role's own in the database"
            )
        case asyncpg.InvalidAuthorizationSpecificationError():
            return (
                f"PostgreSQL refuses the login ({error}): {PREFIX}_DSN names the role; a server that wants "
                f"TLS or a certificate gets them by {PREFIX}_TLS, {PREFIX}_CERT_FILE and {PREFIX}_KEY_FILE"
            )
        case asyncpg.InvalidCatalogNameError():
            return f"PostgreSQL has no such database ({error}): {PREFIX}_DSN names it"
        case ConnectionError() if "rejected SSL upgrade" in str(error):
            return f"PostgreSQL does not speak TLS ({error}): set it up there, or {PREFIX}_TLS=disable"
        case _:
            return None


def closing_hint(error: BaseException) -> str | None:
    """Say what may be behind a connection that was ended without a word; None: the error says more itself."""
    if isinstance(error, asyncpg.ConnectionDoesNotExistError):
        return f"it ends the connection without a word: does it want {PREFIX}_CERT_FILE or {PREFIX}_TLS?"
    return None
