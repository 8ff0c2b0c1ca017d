"""What must hold between settings, each of which is right for itself."""

from __future__ import annotations

from shlex import quote as quoted

from localmodels.config.values import Config, ConfigError
from localmodels.core.address import Site


def check_binds(config: Config, *, has_keys: bool) -> None:
    """Refuses to serve the network where nobody could have a key.

    Args:
        config: says where to listen.
        has_keys: is there a key that opens anything?

    Raises:
        ConfigError: an address is not loopback, there is no key and ``insecure_no_auth`` is off; the message says the
            ways out.
    """
    exposed = [str(address) for address in config.listen if not address.is_loopback]
    if not exposed or has_keys or config.insecure_no_auth:
        return
    port = config.listen[0].port
    there = f"--home {quoted(str(config.home))}"  # said even if it is the usual one: another user's is another
    where = ", where LOCALMODELS_DATABASE_URL is set as for the server" if config.database_url else ""
    raise ConfigError(
        f"{', '.join(exposed)} can be reached from other machines, and there is no key yet. Either\n"
        f"  - make one, and give it to who may ask: localmodels keys add NAME --admin {there}{where}\n"
        f"  - listen on this machine only: --listen 127.0.0.1:{port}\n"
        f"  - come in through a tunnel: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE\n"
        "  - put a reverse proxy that authenticates in front of a loopback address\n"
        "  - or let anybody in who reaches it: --insecure-no-auth"
    )


def check_servers(config: Config) -> None:
    """Looks at the servers beside each other and beside ourselves.

    Raises:
        ConfigError: a name or a bare model twice, or a server that is this one.
    """
    seen: dict[str, str] = {}
    for server in config.servers:
        for what in (f"the server '{server.name}'", *(f"the model '{model}'" for model in server.models)):
            if what in seen:
                raise ConfigError(f"servers: {what} is there twice, of {seen[what]} and of {server.name}")
            seen[what] = server.name
        address = Site.parse(server.url).address
        if any(ours == address or (ours.port == address.port and ours.is_loopback and address.is_loopback)
               for ours in config.listen):  # fmt: skip
            raise ConfigError(f"servers: the server '{server.name}' is this one: {address} is where we listen")
