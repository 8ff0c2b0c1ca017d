"""Headers that say who we are, made of secrets and secret themselves (threat V-36)."""

from __future__ import annotations

import base64

from localmodels.core.secrets import Secret


def basic(username: str, password: Secret) -> Secret:
    """The ``Authorization`` header of RFC 7617."""
    pair = f"{username}:{password.reveal()}".encode()
    return Secret("Basic " + base64.b64encode(pair).decode())


def bearer(token: str) -> Secret:
    """The ``Authorization`` header of RFC 6750."""
    return Secret(f"Bearer {token}")
