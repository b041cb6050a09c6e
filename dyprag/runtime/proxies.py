"""Proxy settings of the environment: validate them once, and bypass proxies for addresses on this machine.

HTTP clients read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY on their own. Without this module they would ask a
company's proxy for 127.0.0.1, where Prefect's server and local endpoints run, and would fail with obscure errors on
proxies or NO_PROXY entries that they cannot parse.
"""

import ipaddress
import os
import re
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from dyprag.errors import ConfigError

KINDS = ("http", "https", "all")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ENTRY = re.compile(r"(?:https?://)?(?:\*?\.)?[a-z0-9_-][a-z0-9_.-]*(?::\d{1,4}|:[1-5]\d{4})?(?:/\d+)?", re.I | re.A)
_networks: set[str] = set()  # networks that NO_PROXY has named
_SCHEMES = ("http", "https", "socks5", "socks5h")


def prepare_proxies(url: str | None = None) -> None:
    """Adapt the environment's proxy variables to HTTP clients. Without proxies, nothing changes.

    Adds addresses of this machine to NO_PROXY and removes entries that clients cannot parse. Networks such as fe80::/10
    are among these; if the host of `url` is in such a network, the host is added instead. socks:// becomes socks5://.

    Args:
        url: an address that the process will connect to.

    Raises:
        ConfigError: a proxy is not a valid URL, or its scheme is not supported.
    """
    names = [name for kind in KINDS for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY") if os.environ.get(name)]
    if not names:
        return
    for name in names:
        os.environ[name] = _checked(name, os.environ[name].strip())
    listed = [entry.strip() for entry in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")]
    _networks.update(entry for entry in listed if "/" in entry)
    host = _host(url)
    bypassed = {*LOOPBACK, *([host] if host and (_on_this_machine(host) or _in_networks(host)) else [])}
    entries = [entry for entry in (entry.strip("[]") for entry in listed) if _is_readable(entry)]
    if "*" not in entries:
        entries += sorted(bypassed - {*entries})
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(entries)


def proxy_of(url: str) -> str:
    """Return the proxy for an address as VARIABLE=ADDRESS, without its password; empty if no proxy is used."""
    parts, proxies = urlsplit(url), getproxies_environment()
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind)), None)
    if kind is None or proxy_bypass(parts.hostname or "") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    name = next(name for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY") if os.environ.get(name))
    return f"{name}={_without_password(proxies[kind])}"


def _checked(name: str, value: str) -> str:
    """Return a proxy variable's value as a URL with a scheme; raise ConfigError if it is not usable."""
    address = value if "://" in value or not value else f"http://{value}"
    address = re.sub(r"^socks:", "socks5:", address)
    parts = urlsplit("")
    with suppress(ValueError):
        parts = urlsplit(address)
        _ = parts.port
        if parts.scheme in _SCHEMES and parts.hostname:
            return address
    known = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
    raise ConfigError(
        f"environment variable {name}", f"{_without_password(value)!r} is not a usable proxy URL",
        f"Set it to SCHEME://HOST:PORT with one of {known}, or unset it.",
    )  # fmt: skip


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", address)


def _is_readable(entry: str) -> bool:
    """Whether clients can parse an entry of NO_PROXY: an address, or a name with or without scheme and port."""
    with suppress(ValueError):
        return bool(ipaddress.ip_address(entry))
    return bool(_ENTRY.fullmatch(entry)) or entry == "*"


def _host(url: str | None) -> str:
    with suppress(ValueError):
        return urlsplit(url or "").hostname or ""
    return ""


def _on_this_machine(host: str) -> bool:
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def _in_networks(host: str) -> bool:
    for entry in _networks:
        with suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
    return False
