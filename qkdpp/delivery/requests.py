"""What a request asks for, judged by the rules of ETSI GS QKD 014 alone: no network, no store.

Every function takes what arrived and returns values, or raises :class:`Refusal`
with the status code and the text of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from qkdpp.delivery.bodies import (
    NOT_BYTES,
    NOT_FOUND,
    OPTIONAL_UNMET,
    UNMET,
    UNSUPPORTED,
    UUID_PATTERN,
    Error,
    KeyIds,
    KeyRequest,
    Limits,
)

T = TypeVar("T")
BAD_REQUEST, UNAUTHORISED, UNAVAILABLE = 400, 401, 503
TTL: Final = "qkdpp_ttl_s"
MAX_AGE: Final = "qkdpp_max_age_s"
ALWAYS_MET: Final[Mapping[str, tuple[str | int, ...]]] = {
    "qkdpp_route_type": ("direct", "any"),
    "qkdpp_disjoint_paths": (1,),
}
"""Values that one link meets by itself."""
EXTENSIONS: Final = {TTL, MAX_AGE, *ALWAYS_MET}
NO_DETAILS: Final[Mapping[str, str]] = {}
QUERY_INTEGER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer other than 200; nothing was consumed.

    Attributes:
        code: HTTP status.
        error: body.
        retry_after_s: when it is worth asking again; None if not.
    """

    def __init__(
        self, code: int, message: str, details: Mapping[str, str] = NO_DETAILS, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s
        given = tuple({name: text} for name, text in details.items())
        self.error: msgspec.Struct = Error(message=message, details=given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A Get key request within all limits: ``number`` keys of ``nbytes`` bytes for the slaves, the first by path.

    ``max_age_s``: oldest key material that may serve, None for any; ``age_optional``: whether older may serve too.
    """

    number: int
    nbytes: int
    slaves: tuple[str, ...]
    ttl_s: int
    max_age_s: int | None = None
    age_optional: bool = False


def query(pairs: Iterable[tuple[str, str]], allowed: Sequence[str]) -> dict[str, str]:
    """Query parameters by name; refused if one is repeated or not among ``allowed``."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            raise Refusal(BAD_REQUEST, "unknown query parameter", {"allowed": ", ".join(allowed) or "none"})
        if name in found:
            raise Refusal(BAD_REQUEST, "a query parameter is given twice", {"parameter": name})
        found[name] = value
    return found


def key_request_of_query(given: Mapping[str, str]) -> KeyRequest:
    """The Key request of a GET."""
    for name, value in given.items():
        if not QUERY_INTEGER.fullmatch(value) or int(value) < 1:
            raise Refusal(BAD_REQUEST, f"{name}: a positive integer is needed")
    return msgspec.convert({name: int(value) for name, value in given.items()}, KeyRequest)


def decode(body: bytes, kind: type[T]) -> T:
    """A JSON body; refused with the place of the fault if it is not what the standard says."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise Refusal(BAD_REQUEST, "malformed request body", {"reason": str(error)}) from None
    except UnicodeDecodeError:
        raise Refusal(BAD_REQUEST, "malformed request body", {"reason": "not UTF-8"}) from None
    except RecursionError:
        raise Refusal(BAD_REQUEST, "malformed request body", {"reason": "nested too deeply"}) from None


def wanted(request: KeyRequest, slave: str, master: str, limits: Limits) -> Wanted:
    """Judges size, number, slaves and extensions, in this order."""
    size = limits.key_size if request.size is msgspec.UNSET else request.size
    if size % 8:
        raise Refusal(BAD_REQUEST, NOT_BYTES)
    if not limits.min_key_size <= size <= limits.max_key_size:
        raise Refusal(BAD_REQUEST, f"size shall be from {limits.min_key_size} to {limits.max_key_size} bits")
    if request.number > limits.max_key_per_request:
        raise Refusal(BAD_REQUEST, f"number shall be at most {limits.max_key_per_request}")
    slaves = (slave, *request.additional_slave_SAE_IDs)
    if len(slaves) - 1 > limits.max_sae_id_count:
        raise Refusal(BAD_REQUEST, f"at most {limits.max_sae_id_count} additional slave SAEs are possible")
    if len(set(slaves)) != len(slaves) or master in slaves:
        raise Refusal(BAD_REQUEST, "master, slave and additional slave SAEs shall all be different")
    mandatory, optional = _merged(request.extension_mandatory), _merged(request.extension_optional)
    ttl_s, max_age_s, age_optional = limits.ttl_s, None, False
    if mandatory.keys() - EXTENSIONS:
        raise Refusal(BAD_REQUEST, UNSUPPORTED)
    for extensions, most in ((optional, limits.max_ttl_s), (mandatory, limits.max_ttl_s)):
        needed = extensions is mandatory
        ttl_s = _integer(extensions, TTL, most, needed, limits) or ttl_s
        age = _integer(extensions, MAX_AGE, 2**31, needed, limits)
        _check_met(extensions, needed, limits)
        if age is not None:
            max_age_s, age_optional = age, not needed
    if optional.keys() - EXTENSIONS and limits.refuse_optional:
        raise Refusal(BAD_REQUEST, OPTIONAL_UNMET)
    return Wanted(
        number=request.number,
        nbytes=size // 8,
        slaves=slaves,
        ttl_s=ttl_s,
        max_age_s=max_age_s,
        age_optional=age_optional,
    )


def _merged(extensions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Names and values of all objects; refused if one name stands twice."""
    found: dict[str, Any] = {}
    for extension in extensions:
        for name, value in extension.items():
            if name in found:
                raise Refusal(BAD_REQUEST, "an extension parameter is given twice")
            found[name] = value
    return found


def _integer(extensions: Mapping[str, Any], name: str, most: int, needed: bool, limits: Limits) -> int | None:
    """A value from 1 to ``most``; None where it is absent, or optional and not one."""
    value = extensions.get(name)
    if name not in extensions or (type(value) is int and 1 <= value <= most):
        return value
    _unmet(name, f"an integer from 1 to {most} can be met", needed, limits)
    return None


def _check_met(extensions: Mapping[str, Any], needed: bool, limits: Limits) -> None:
    for name, values in ALWAYS_MET.items():
        given = extensions.get(name)
        if name in extensions and not any(type(given) is type(value) and given == value for value in values):
            _unmet(name, f"{' or '.join(map(str, values))} can be met", needed, limits)


def _unmet(name: str, can_be: str, needed: bool, limits: Limits) -> None:
    """Refuses an extension unless it was optional and is not insisted on."""
    if needed:
        raise Refusal(BAD_REQUEST, UNMET, {name: can_be})
    if limits.refuse_optional:
        raise Refusal(BAD_REQUEST, OPTIONAL_UNMET, {name: can_be})


def age_refused(asked: Wanted, limits: Limits) -> None:
    """Refuses ``asked``, whose age cannot be met, unless that was optional and is not insisted on."""
    if not asked.age_optional:
        raise Refusal(BAD_REQUEST, UNMET)
    if limits.refuse_optional:
        raise Refusal(BAD_REQUEST, OPTIONAL_UNMET)


def ids_of_query(given: Mapping[str, str]) -> list[UUID]:
    """The one identifier of a GET."""
    if "key_ID" not in given:
        raise Refusal(BAD_REQUEST, "key_ID is missing")
    if not re.fullmatch(UUID_PATTERN, given["key_ID"]):
        raise Refusal(BAD_REQUEST, "key_ID is not a UUID")
    return [UUID(given["key_ID"])]


def ids(request: KeyIds, limits: Limits) -> list[UUID]:
    """Identifiers of a POST: each once, no more than may be asked for at a time."""
    found = [UUID(item.key_ID) for item in request.key_IDs]
    if len(found) > limits.max_key_per_request:
        raise Refusal(BAD_REQUEST, f"at most {limits.max_key_per_request} keys per request")
    if len(set(found)) != len(found):
        raise Refusal(BAD_REQUEST, "a key_ID is given twice")
    return found


def not_found() -> Refusal:
    """One key or more is not here for this slave and master."""
    return Refusal(BAD_REQUEST, NOT_FOUND)
