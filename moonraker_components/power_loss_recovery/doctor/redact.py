# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Takes what is nobody's business out of configurations and logs, line by line.

Rather too much than too little: a bug report does not need the rest of such a line.
"""
from __future__ import annotations

import re

REMOVED = "(removed)"
_WORDS = (
    r"pass(?:word|wd|phrase)?|secret|token|api[_-]?key|auth|credential|chat_?id|user|"
    r"login|webhook|psk|private|cookie|session|topic|mail"
)
_HINT = re.compile(_WORDS, re.IGNORECASE)
# Names of options are short: a long line must not take long.
_SECRET = rf"[\w.-]{{0,40}}(?:{_WORDS})[\w.-]{{0,40}}"
# option: value, "key": "value", header: value
_OPTION = re.compile(
    rf"""^(?P<head>\s*[#;"']*\s*(?P<name>{_SECRET})["']?\s*[:=]\s*)(?P<rest>.*)$""",
    re.IGNORECASE,
)
_INSIDE = re.compile(
    rf"""(?P<head>\b{_SECRET}["']?\s*[:=]\s*)"""
    r"""(?:Bearer\s+|Basic\s+)?(?P<value>"[^"]*"|'[^']*'|[^\s,;&}]+)""",
    re.IGNORECASE,
)
_URL = re.compile(r"\b([a-z][a-z0-9+.-]{1,20})://[^\s\"'<>,]+", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+")
_KEY = re.compile(r"\b[0-9a-fA-F]{32}\b")
# A path of a URL that only its owner should know
_LONG = re.compile(r"(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{20,}")
# Named as if they were secret
PUBLIC = frozenset(
    "trusted_clients force_logins max_login_attempts default_source"
    " user_id tokens pass_through".split()
)


def redact(text: str) -> str:
    found: list[str] = []
    hidden = -1  # indent of an option whose value goes on in the next lines
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if hidden >= 0 and line.strip() and indent > hidden:
            found.append(line[:indent] + REMOVED)
            continue
        hidden = -1
        option = _OPTION.match(line) if _HINT.search(line) else None
        if option is not None and option["name"].lower() not in PUBLIC:
            hidden = indent
            rest = REMOVED if option["rest"].strip() else ""
            found.append(option["head"] + rest)
            continue
        found.append(_line(line))
    return "\n".join(found)


def _line(line: str) -> str:
    line = _URL.sub(_url, line)
    line = _JWT.sub(REMOVED, line)
    line = _KEY.sub(REMOVED, line)
    return _INSIDE.sub(_inside, line) if _HINT.search(line) else line


def _inside(found: re.Match[str]) -> str:
    name = re.split(r"[\"'\s:=]", found["head"].strip())[0].lower()
    return found[0] if name in PUBLIC else found["head"] + REMOVED


def _url(found: re.Match[str]) -> str:
    """Of other schemes than the web's the whole is often a key (notifiers)."""
    text, scheme = found[0], found[1].lower()
    if scheme not in ("http", "https", "ws", "wss", "git", "file"):
        return f"{scheme}://{REMOVED}"
    text = re.sub(r"://[^/@]*@", f"://{REMOVED}@", text)
    text = re.sub(r"\?.*", f"?{REMOVED}", text)
    return _LONG.sub(REMOVED, text)
