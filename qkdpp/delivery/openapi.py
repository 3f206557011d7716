"""OpenAPI 3.1 description of the delivery interface, made from the bodies and limits that the server uses."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from qkdpp.delivery.bodies import UUID_PATTERN, Error, KeyContainer, KeyIds, KeyRequest, Limits, Status
from qkdpp.delivery.requests import MAX_AGE, TTL

JSON: Final = "application/json"
REFERENCES: Final = "#/components/schemas/{name}"
REFUSALS: Final = {
    "405": "Another verb than those of the header Allow",
    "400": "Malformed, beyond a limit, unsupported, or not found; nothing was consumed",
    "401": "The caller is no SAE of this KME, or was not named for a key; nothing was consumed",
    "503": "Not enough key, peer not reachable, too many requests, or a fault; no key was given",
}


def describe(limits: Limits) -> dict[str, Any]:
    """The description, as JSON values."""
    kinds = (Status, KeyRequest, KeyIds, KeyContainer, Error)
    made = msgspec.json.schema_components(kinds, ref_template=REFERENCES)
    (_, request, ids, *_), schemas = json.loads(json.dumps(made))
    _bound(schemas, limits)
    integer = {"type": "integer", "minimum": 1}
    number = _query("number", integer | {"maximum": limits.max_key_per_request, "default": 1})
    size = _query("size", _size(limits))
    key_id = _query("key_ID", {"type": "string", "pattern": UUID_PATTERN, "format": "uuid"}, required=True)
    return {
        "openapi": "3.1.0",
        "info": {"title": "qkdpp key delivery (ETSI GS QKD 014 V1.1.1)", "version": "1.1.1"},
        "security": [{"certificate": []}],
        "paths": {
            "/api/v1/keys/{slave_SAE_ID}/status": {
                "parameters": [_path("slave_SAE_ID")],
                "get": _operation("get_status", "Get status", "Status"),
            },
            "/api/v1/keys/{slave_SAE_ID}/enc_keys": {
                "parameters": [_path("slave_SAE_ID")],
                "get": _operation("get_key_simple", "Get key", "KeyContainer") | {"parameters": [number, size]},
                "post": _operation("get_key", "Get key", "KeyContainer") | {"requestBody": _body(request, False)},
            },
            "/api/v1/keys/{master_SAE_ID}/dec_keys": {
                "parameters": [_path("master_SAE_ID")],
                "get": _operation("get_key_with_id", "Get key with key IDs", "KeyContainer") | {"parameters": [key_id]},
                "post": _operation("get_key_with_ids", "Get key with key IDs", "KeyContainer")
                | {"requestBody": _body(ids, True)},
            },
        },
        "components": {"schemas": schemas, "securitySchemes": {"certificate": {"type": "mutualTLS"}}},
    }


def _bound(schemas: dict[str, Any], limits: Limits) -> None:
    """Writes the limits of this server into the schemas of requests."""
    request = schemas["KeyRequest"]["properties"]
    request["number"]["maximum"] = limits.max_key_per_request
    request["size"] = _size(limits)
    request["additional_slave_SAE_IDs"] |= {"maxItems": limits.max_sae_id_count, "uniqueItems": True}
    request["extension_mandatory"]["description"] = f"supported: {TTL}, {MAX_AGE} (seconds)"
    schemas["KeyIds"]["properties"]["key_IDs"]["maxItems"] = limits.max_key_per_request
    schemas["KeyItem"]["properties"]["key"] |= {"contentEncoding": "base64"}


def _size(limits: Limits) -> dict[str, Any]:
    return {
        "type": "integer",
        "minimum": limits.min_key_size,
        "maximum": limits.max_key_size,
        "multipleOf": 8,
        "default": limits.key_size,
    }


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(name: str, schema: dict[str, Any], required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def _body(schema: dict[str, Any], required: bool) -> dict[str, Any]:
    return {"required": required, "content": {JSON: {"schema": schema}}}


def _operation(name: str, summary: str, answer: str) -> dict[str, Any]:
    def response(text: str, schema: str) -> dict[str, Any]:
        return {
            "description": text,
            "content": {JSON: {"schema": {"$ref": REFERENCES.format(name=schema)}}},
        }

    refusals = {code: response(text, "Error") for code, text in REFUSALS.items()}
    return {"operationId": name, "summary": summary, "responses": {"200": response("Done", answer), **refusals}}


if __name__ == "__main__":
    print(json.dumps(describe(Limits()), indent=1))  # noqa: T201
