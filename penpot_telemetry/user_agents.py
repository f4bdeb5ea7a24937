"""User agent in, reduced user agent out: known words alone, no device model, no minor version.

This is what browsers have begun to do by themselves (Chromium's user agent reduction, Firefox's and Safari's frozen
parts), applied to every user agent. A user agent is free text of its owner, who may be a person or a firm, so the
grammar of RFC 9110 is read with a closed vocabulary: an unknown word is left out, never copied. Pure.
"""

import re
from functools import lru_cache
from itertools import islice

from penpot_telemetry.vocabulary import (
    CHROMIUM_PRODUCTS,
    COMMENTS,
    FROZEN_VERSIONS,
    GECKO_PRODUCTS,
    LINUX_MACHINES,
    LOOSE_WORDS,
    NOTHING,
    PRODUCTS,
    SYSTEMS,
)

OTHER = "other"

MOST_TEXT = 1024
"""Characters that are looked at: four times the longest user agent of a browser."""

_MOST_PARTS = 24
"""Words and parts of comments that are kept."""

_MOST_READ = 48
"""Words and parts of comments that are looked at: hostile text costs no more than a long user agent."""

_LONGEST_PART = 64

_TOKEN = re.compile(r"\(((?:[^()]|\([^()]*\))*)\)?|[^\s()]+")
"""A comment, with comments in it one level deep (`moto g(7)`), or a word."""
_MAJOR = re.compile(r"[vV]?(\d{1,4})(?!\w)", re.ASCII)
_MACHINES = "|".join(sorted(map(re.escape, LINUX_MACHINES - NOTHING), key=len, reverse=True))

_COMMENT_RULES = tuple(
    (re.compile(pattern, re.ASCII | re.IGNORECASE), template)
    for pattern, template in (
        (r"Android\b.*", "Android 10"),
        (r"(Windows NT (?:3|4|5|6|10)\.\d)(?:\d)?", r"\1"),
        (r"CPU (iPhone )?OS (\d{1,2})(?:[._]\d{1,3})* like Mac OS X", r"CPU \1OS \2 like Mac OS X"),
        (r"(Intel |PPC )?Mac OS X 10[._]15(?:[._]\d{1,3})?", r"\1Mac OS X 10_15_7"),
        (r"(Intel |PPC )?Mac OS X (10[._]\d{1,2}|\d{1,2})(?:[._]\d{1,3})*", r"\1Mac OS X \2"),
        (r"(Intel |PPC )?Mac OS X", r"\1Mac OS X"),
        (rf"CrOS ({_MACHINES})(?: [\d.]+)?", r"CrOS \1 14541.0.0"),
        (rf"Linux ({_MACHINES})(?: on (?:{_MACHINES}))?", r"Linux \1"),
        (r"rv[: ](\d{1,3})(?:\.\w+)*", r"rv:\1.0"),
        (r"MSIE (\d{1,2})(?:\.\w+)*", r"MSIE \1.0"),
        (r"(Trident|IEMobile)[/ ](\d{1,2})(?:\.\w+)*", r"\1/\2.0"),
    )
)
"""A part of a comment and what is left of it, first match first. `Android 10` is how browsers froze theirs."""


def _by_folded_name(names: frozenset[str]) -> dict[str, str]:
    return {name.casefold(): name for name in sorted(names, reverse=True)}


_PRODUCTS = _by_folded_name(PRODUCTS)
_LOOSE = _by_folded_name(LOOSE_WORDS)
_SYSTEMS = _by_folded_name(SYSTEMS - NOTHING)
_COMMENT_WORDS = _SYSTEMS | _by_folded_name(COMMENTS) | {"android": "Android 10"}


def reduce_user_agent(text: str) -> str:
    """A user agent made of known words alone, with major versions; `other` where no known word is left.

    Idempotent; at most 1,024 characters of the text are read, and what comes out is no longer.
    """
    if len(text) > MOST_TEXT:
        text = text[:MOST_TEXT].rpartition(" ")[0]
    return _reduce(text)


@lru_cache(maxsize=1024)
def _reduce(text: str) -> str:
    found: list[str] = []
    kept = read = 0
    for token in islice(_TOKEN.finditer(text), _MOST_READ):
        comment = token[1]
        parts = [token[0]] if comment is None else comment.split(";")[: _MOST_READ - read]
        known = [_reduce_product(token[0])] if comment is None else _reduce_comment(parts)
        known = [part for part in known if part][: _MOST_PARTS - kept]
        if known:
            found.append(known[0] if comment is None else f"({'; '.join(known)})")
        kept, read = kept + len(known), read + len(parts)
    return " ".join(found) or OTHER


def _reduce_product(token: str) -> str:
    """`Chrome/138.0.7204.97` as `Chrome/138.0.0.0`, `curl/8.14.1` as `curl/8`; empty for what is not known."""
    name, slash, version = token.partition("/")
    folded = name.rstrip(",;").casefold()
    if not slash and folded in _LOOSE:
        return _LOOSE[folded]
    product = _PRODUCTS.get(folded, "")
    version = _reduce_version(product, version)
    return f"{product}/{version}" if product and version else product


def _reduce_version(product: str, version: str) -> str:
    if version in FROZEN_VERSIONS.get(product, ()):
        return version
    if product == "Mobile":
        return "15E148"
    if product == "Gecko" and len(version) == len("20100101"):
        return "20100101"
    major = _MAJOR.match(version)
    zeros = ".0.0.0" if product in CHROMIUM_PRODUCTS else ".0" if product in GECKO_PRODUCTS else ""
    return f"{major[1]}{zeros}" if major else ""


def _reduce_comment(parts: list[str]) -> list[str]:
    """The known parts of a comment. `K` takes the place of what is not known beside Android: the device model."""
    known = [reduced for part in parts if (reduced := _reduce_part(part.strip()))]
    if "Android 10" in known and len(known) < len(parts) and "K" not in known:
        known.insert(known.index("Android 10") + 1, "K")
    return known


def _reduce_part(part: str) -> str:
    if len(part) > _LONGEST_PART:
        return "Android 10" if part.startswith("Android ") else ""
    if word := _COMMENT_WORDS.get(part.casefold()):
        return word
    for pattern, template in _COMMENT_RULES:
        if match := pattern.fullmatch(part):
            return match.expand(template)
    name, _, version = part.rpartition(" ")
    if (system := _SYSTEMS.get(name.casefold())) and (major := _MAJOR.match(version)):
        return f"{system} {major[1]}"
    product = _reduce_product(part)
    return product if "/" in product else ""
