"""Keys for applications: the delivery interface ETSI GS QKD 014 V1.1.1 over a key store.

``bodies`` and ``requests`` are what the standard says, without a network;
``peer`` and ``channel`` agree on keys with the key manager at the other end;
``app`` answers, ``server`` runs it all; ``client`` asks. ``docs/formats/delivery.md``.
"""

from qkdpp.delivery.client import Client, DeliveredKey, DeliveryError, Stream, StreamChunk

__all__ = ["Client", "DeliveredKey", "DeliveryError", "Stream", "StreamChunk"]
