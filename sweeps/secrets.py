"""Which part of a URI is a secret: a URI that holds one is refused, and what is told of it hides it.

Place in the flow: the spec asks before anything else is said of its `tracking`, `tracking.check` and the commands for
what comes from the command line or the environment; every message about a URI goes through `without_secrets`.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

FILE = "sqlite:///"
KEY = r"(?:password|passwd|pwd|token|secret)[^=&]*="


def holds_secret(uri: str) -> bool:
    """Whether a URI has a password in it: a spec, a journal, `ps` and the history of a shell would keep that.

    A file's path may hold @ and : where a server's user and password are. An ODBC connection string is one for all
    that is in it.
    """
    if uri.startswith(FILE):
        return False
    plain = unquote(uri)
    user = re.match(r"[\w+.-]+:/*[^/?#@:]*:[^/]*@|[\w+.-]+:/*[^?#@:/]*:.*@", uri)
    return bool(user or re.search(rf"[?&;][^=&;]*{KEY}|odbc_connect=", plain, flags=re.IGNORECASE))


def without_secrets(text: str, uri: str) -> str:
    """The text with everything that the URI may hold as a secret replaced by ***."""
    secrets = re.findall(rf"{KEY}([^&#;]+)", uri, flags=re.IGNORECASE)
    secrets += re.findall(rf"{KEY}([^&#;]+)", unquote(uri), flags=re.IGNORECASE)
    secrets += re.findall(r"odbc_connect=([^&#]+)", uri, flags=re.IGNORECASE)
    user_info = re.match(r"[\w+.-]+:/*(.*)@", uri)  # greedy: a password may hold / and @, however wrong that is
    if user_info and not uri.startswith(FILE):
        text = text.replace(f"/{user_info[1]}@", "/***@")  # a user's name alone is no secret anywhere else
        secrets += [user_info[1], user_info[1].partition(":")[2]] if ":" in user_info[1] else []
    forms = {form for secret in secrets for form in (secret, unquote(secret), quote(secret, safe="")) if form}
    for secret in sorted(forms, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
