"""A cable that is taken out: hosts notice it after a moment, so that a call or two may still get through."""

from qkdpp_drivers.errors import TransportClosed, TransportTimeout


def use_until_gone(call, times=100):
    """Repeats ``call`` until it tells that the instrument is gone; what it tells, or None."""
    for _ in range(times):
        try:
            call()
        except (TransportClosed, TransportTimeout) as error:
            return error
    return None
