"""The settings of the carrier that `tollwire up` creates: the simulator (docs/simulator.md)."""

from shared.domain.receipt_auth import SIGNATURE_HEADER

_BODY = {
    "id": "$message_id",
    "attempt": "$attempt_no",
    "part": "$part_no",
    "to": "$msisdn",
    "from": "$sender",
    "text": "$text",
    "encoding": "$encoding",
    "segments": "$segments",
    "validity": "$valid_for_seconds",
}
_RECEIPTS = {
    "auth": {"kind": "hmac", "header": SIGNATURE_HEADER},
    "items": "receipts",
    "reference": "reference",
    "state": "state",
    "done_at": "done_at",
    "msisdn": "to",
    "error_code": "error",
    "part_no": "part",
    "message_id": "id",
    "attempt_no": "attempt",
}


def simulator_carrier_settings(base_url: str) -> dict[str, object]:
    """Return the settings of an HTTP carrier that submits to a simulator at `base_url`.

    They are also the example of a full set. The carrier's secret is the simulator's
    TOLLWIRE_SIMULATOR_SECRET: it authenticates our submits and signs the receipts.
    """
    base = base_url.rstrip("/")
    return {
        "url": f"{base}/submit",
        "headers": {"Authorization": "Bearer $secret"},
        "body": dict(_BODY),
        "reference": "reference",
        "error_code": "error.code",
        "error_text": "error.text",
        "error_codes": {"unknown_number": "permanent", "try_again": "temporary", "too_fast": "throttled"},
        "bulk": {
            "url": f"{base}/submit/bulk",
            "batch_max": 100,
            "status": "status",
            "retry_after": "retry_after",
        },
        "receipts": {**_RECEIPTS},
    }
