"""OpenAPI 3.1 description of the delivery interface, made from the bodies and limits that the server uses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from qkdpp.delivery.bodies import UUID_PATTERN, Error, KeyContainer, KeyIds, KeyRequest, Limits, Status
from qkdpp.delivery.requests import EXTENSIONS
from qkdpp.delivery.stream_bodies import (
    LEAST_TIMEOUT_MS,
    MOST_TIMEOUT_MS,
    Chunk,
    Closed,
    Connected,
    GetKey,
    Nothing,
    OpenConnect,
    StreamFault,
)

JSON: Final = "application/json"
REFERENCES: Final = "#/components/schemas/{name}"
STREAM_KINDS: Final = (OpenConnect, Connected, GetKey, Chunk, Nothing, Closed, StreamFault)
REFUSALS: Final = {
    "405": "Another verb than those of the header Allow",
    "400": "Malformed, beyond a limit, unsupported, or not found; nothing was consumed",
    "401": "The caller is no SAE of this KME, or was not named for a key; nothing was consumed",
    "503": "Not enough key, peer not reachable, too many requests, or a fault; no key was given",
}
STREAM_REFUSALS: Final = {
    "400": "Malformed, or status 2 (the index is gone), 3 (closed by the other), 5, 7 or 8; nothing was consumed",
    "401": REFUSALS["401"],
    "404": "No such stream of this SAE",
    "405": REFUSALS["405"],
    "503": "Status 2, 3, 4 or 6: not now; or too many requests, or a fault; no key was given",
}
STREAM_ID: Final = {"type": "string", "pattern": UUID_PATTERN, "format": "uuid"}


def describe(limits: Limits) -> dict[str, Any]:
    """The description, as JSON values."""
    kinds = (Status, KeyRequest, KeyIds, KeyContainer, Error, *STREAM_KINDS)
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
            **_streams(),
        },
        "components": {"schemas": schemas, "securitySchemes": {"certificate": {"type": "mutualTLS"}}},
    }


def _streams() -> dict[str, Any]:
    """The paths of ETSI GS QKD 004; they have no other verb than POST."""

    def path(name: str, summary: str, body: str, answer: str, *, within: bool = True) -> dict[str, Any]:
        request = _body({"$ref": REFERENCES.format(name=body)}, required=not within)
        refusals = {code: text for code, text in STREAM_REFUSALS.items() if within or code != "404"}
        post = _operation(name, summary, answer, refusals, ("400", "503")) | {"requestBody": request}
        parameters = [_path("key_stream_ID") | {"schema": STREAM_ID}] if within else []
        return {"parameters": parameters, "post": post}

    root = "/api/v1/streams"
    return {
        f"{root}/open_connect": path("open_connect", "OPEN_CONNECT", "OpenConnect", "Connected", within=False),
        f"{root}/{{key_stream_ID}}/get_key": path("stream_get_key", "GET_KEY", "GetKey", "Chunk"),
        f"{root}/{{key_stream_ID}}/close": path("close", "CLOSE", "Nothing", "Closed"),
    }


def _bound(schemas: dict[str, Any], limits: Limits) -> None:
    """Writes the limits of this server into the schemas of requests."""
    request = schemas["KeyRequest"]["properties"]
    request["number"]["maximum"] = limits.max_key_per_request
    request["size"] = _size(limits)
    request["additional_slave_SAE_IDs"] |= {"maxItems": limits.max_sae_id_count, "uniqueItems": True}
    request["extension_mandatory"]["description"] = f"supported: {', '.join(sorted(EXTENSIONS))}"
    schemas["KeyIds"]["properties"]["key_IDs"]["maxItems"] = limits.max_key_per_request
    schemas["KeyItem"]["properties"]["key"] |= {"contentEncoding": "base64"}
    schemas["Chunk"]["properties"]["key_buffer"] |= {"contentEncoding": "base64"}
    quality = schemas["Quality"]["properties"]
    quality["Key_chunk_size"] |= {"minimum": limits.min_key_size // 8, "maximum": limits.max_key_size // 8}
    quality["Timeout"] |= {"minimum": LEAST_TIMEOUT_MS, "maximum": MOST_TIMEOUT_MS}
    quality["TTL"] |= {"minimum": 1, "maximum": limits.max_ttl_s, "default": limits.ttl_s}


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


def _operation(
    name: str, summary: str, answer: str, texts: Mapping[str, str] = REFUSALS, with_status: Sequence[str] = ()
) -> dict[str, Any]:
    """``with_status``: codes whose body may be one of ETSI GS QKD 004."""

    def response(text: str, *names: str) -> dict[str, Any]:
        schemas = [{"$ref": REFERENCES.format(name=one)} for one in names]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        return {"description": text, "content": {JSON: {"schema": schema}}}

    def refusal(code: str, text: str) -> dict[str, Any]:
        return response(text, *(("StreamFault", "Error") if code in with_status else ("Error",)))

    refusals = {code: refusal(code, text) for code, text in texts.items()}
    return {"operationId": name, "summary": summary, "responses": {"200": response("Done", answer), **refusals}}


if __name__ == "__main__":
    print(json.dumps(describe(Limits()), indent=1))  # noqa: T201
