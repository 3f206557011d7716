"""The shipped scenarios, as every verb lists them."""

from __future__ import annotations


def print_shipped(*, json_: bool) -> None:
    """Names and titles on stdout."""
    import msgspec

    from qkdpp.scenarios.scenario_file import shipped

    scenarios = shipped()
    if json_:
        print(msgspec.json.encode(scenarios).decode())
        return
    width = max(map(len, scenarios))
    for name, title in scenarios.items():
        print(f"{name:{width}}  {title}")
