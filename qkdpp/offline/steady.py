"""The steady clock that measures stages; the stages themselves know no time."""

from time import perf_counter as now  # noqa: TID251 - handed to the logs, never read by a stage

__all__ = ["now"]
