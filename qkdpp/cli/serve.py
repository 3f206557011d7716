"""``qkdpp serve``: keys for applications, from a store that no node has open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.delivery.server import Ports


def command(
    config: Annotated[Path, typer.Argument(help="Delivery file, e.g. kme-a.toml (docs/formats/delivery.md).")],
) -> None:
    """Serve a key store to applications by ETSI GS QKD 014.

    Meets the key manager at the other end, answers applications over mutual TLS until it is interrupted or
    terminated, and finishes what is under way.
    """
    import logging

    from qkdpp.delivery.config import load_delivery
    from qkdpp.delivery.server import serve

    delivery = load_delivery(config)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def started(ports: Ports) -> None:
        print(f"{delivery.server.name}: applications on {delivery.address().host}:{ports.applications}", flush=True)

    serve(delivery, started)
