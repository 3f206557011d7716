"""Expected ends of a block: one enum for results, reports and documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class AbortReason(StrEnum):
    """Why a block ended without a key."""

    NO_LOCK = "no_lock"
    TOO_FEW_DETECTIONS = "too_few_detections"
    QBER_TOO_HIGH = "qber_too_high"
    NOT_VERIFIED = "not_verified"
    NO_KEY_LEFT = "no_key_left"
    IMPLAUSIBLE_COUNTS = "implausible_counts"
    CONDITIONS_DRIFTED = "conditions_drifted"
    UNHEALTHY_KEY = "unhealthy_key"
    AUTHENTICATION_FAILED = "authentication_failed"
    POOL_EXHAUSTED = "pool_exhausted"
    PARAMETERS_DIFFER = "parameters_differ"
    PROTOCOL_VIOLATION = "protocol_violation"
    PEER_ABORTED = "peer_aborted"
    LINK_LOST = "link_lost"
    PEER_RESTARTED = "peer_restarted"
    DEADLINE_PASSED = "deadline_passed"
    INSTRUMENT_FAILED = "instrument_failed"
    SECURITY_ALARM = "security_alarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted:
    """A block that ended without a key, and the evidence for it (numbers and names, never key bits)."""

    reason: AbortReason
    evidence: Mapping[str, object] = field(default_factory=dict)


class Abort(Exception):  # noqa: N818 - an expected end, not an error
    """Carries an :class:`Aborted` up through nested stages; the link turns it into a value."""

    def __init__(self, reason: AbortReason, **evidence: object) -> None:
        super().__init__(f"{reason.value}: {evidence}")
        self.aborted = Aborted(reason=reason, evidence=evidence)
