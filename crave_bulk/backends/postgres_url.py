"""Read a libpq URI for what may be shown of it, and refuse one whose parts cannot be told apart.

libpq quotes what it does not understand of a URI in its messages, and that may be a part of the password. So it is
never given a URI that it does not understand, and of what it says about a good one nothing is shown that the URI
keeps secret.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote

_LOGIN = re.compile(r"(?P<user>[^:@/?#\[\]]*)(?::(?P<password>.*))?@", re.DOTALL)  # up to the last @
_HOST = r"(?:\[[^\]\[@/?#]*\]|[^\]\[:/?#@,]*)(?::[0-9]{0,5})?"
_PLACE = re.compile(
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)(?:/(?P<database>[^/?#@]*))?(?:\?(?P<options>.*))?", re.DOTALL
)
_OPTION = re.compile(r"\?.*=", re.DOTALL)
_RISKY = re.compile(r"[@/?#\[\]]")
_NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")

# The options whose values are shown; any other might be a secret.
_SHOWN = {"host", "hostaddr", "port", "dbname", "user", "sslmode", "application_name", "connect_timeout"}
# fmt: off
_KNOWN = _SHOWN | {
    "service", "servicefile", "password", "passfile", "channel_binding", "client_encoding", "options",
    "fallback_application_name", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
    "tcp_user_timeout", "ssl", "sslnegotiation", "sslcompression", "sslcert", "sslkey", "sslcertmode",
    "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "requirepeer", "require_auth",
    "min_protocol_version", "max_protocol_version", "ssl_min_protocol_version", "ssl_max_protocol_version",
    "gssencmode", "krbsrvname", "gsslib", "gssdelegation", "replication", "target_session_attrs",
    "load_balance_hosts", "scram_client_key", "scram_server_key", "oauth_issuer", "oauth_client_id",
    "oauth_client_secret", "oauth_scope", "sslkeylogfile",
}
# fmt: on


def without_password(url: str) -> str:
    """Take the password out of a URL, wherever one may stand; of a URL that is not understood nothing is left.

    Example:
        >>> without_password("postgresql://ann:s3#cr@t@db/crave?sslmode=require&password=x")
        'postgresql://ann:***@db/crave?sslmode=require&password=***'
        >>> without_password("postgresql://ann:s3cret")
        'postgresql://***'
    """
    scheme, _, rest = url.partition("://")
    login = _LOGIN.match(rest)
    place = _PLACE.fullmatch(rest, login.end() if login else 0)
    if place is None or (login and _OPTION.search(login["password"] or "")):  # the last @ may be in its value
        return f"{scheme}://***"
    shown = f"{login['user']}{':***' if login['password'] else ''}@" if login else ""
    shown += place["hosts"] + ("" if place["database"] is None else f"/{place['database']}")
    if place["options"] is None:
        return f"{scheme}://{shown}"
    return f"{scheme}://{shown}?{'&'.join(map(_shown, place['options'].split('&')))}"


def _shown(option: str) -> str:
    name = option.partition("=")[0]
    if name in _SHOWN and option.count("=") == 1:
        return option
    return f"{name}=***" if name in _KNOWN else "***"


def problem(url: str) -> str | None:
    """Say why libpq would not understand a URL, in words that hold nothing of it; None if it would.

    Example:
        >>> problem("postgresql://ann:s3cret@[::1/crave")
        'the host, the port or the database is not written as in postgresql://user:password@host:5432/name'
    """
    rest = url.partition("://")[2]
    login = _LOGIN.match(rest)
    if login and _RISKY.search(login["password"] or ""):
        return "the password holds one of @ / ? # [ ], which a URL takes for something else"
    if "\0" in url or _NOT_ENCODED.search(rest):
        return "a % is not followed by two hexadecimal digits other than 00"
    if re.search(r"\s", rest):
        return "there is a blank in the URL, which is written %20"
    place = _PLACE.fullmatch(rest, login.end() if login else 0)
    if place is None:
        return "the host, the port or the database is not written as in postgresql://user:password@host:5432/name"
    options = (place["options"] or "").split("&") if place["options"] else []
    if any(option.count("=") != 1 or unquote(option.partition("=")[0]) not in _KNOWN for option in options):
        return "what follows the ? is not a list of libpq's options, written as name=value&name=value"
    return None


def secrets(url: str) -> set[str]:
    """List the words that stand in the options which are not shown, as messages of libpq may quote them.

    The password before the host is not among them: nobody quotes that of a URL that is understood.

    Example:
        >>> sorted(secrets("postgresql://ann:x@db/crave?sslmode=require&options=-c%20a.b%3Ds3cret"))
        ['-c', 'a.b', 's3cret']
    """
    pairs = [option.partition("=") for option in url.partition("?")[2].split("&")]
    hidden = [unquote(value) for name, _, value in pairs if unquote(name) not in {*_SHOWN, "password"}]
    return {word for value in hidden for word in re.split(r"[\s=]+", value) if word}


def with_option(url: str, option: str) -> str:
    """Add to what the server is started with: its last word about a setting counts.

    Args:
        url: a URL that is understood.
        option: such as ``-c jit=off``.

    Example:
        >>> with_option("postgresql://db/crave?options=-c%20jit%3Don", "-c jit=off")
        'postgresql://db/crave?options=-c%20jit%3Don&options=-c%20jit%3Don%20-c%20jit%3Doff'
    """
    pairs = [pair.partition("=") for pair in url.partition("?")[2].split("&")]
    given = [value for name, _, value in pairs if unquote(name) == "options"]
    before = given[-1] if given else quote(os.environ.get("PGOPTIONS", ""), safe="")
    mark = "&" if "?" in url else "?"
    return f"{url}{mark}options={before}{'%20' if before else ''}{quote(option, safe='')}"
