"""What the Python tests share: waiting with a deadline."""

import asyncio
import time

PAUSE_S = 0.02
PATIENCE_S = 15


def until(what, look, within_s=PATIENCE_S):
    """Looks until `look` gives something true; fails after `within_s` with what was last seen."""
    deadline = time.monotonic() + within_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s} s; last: {seen!r}")
        time.sleep(PAUSE_S)


async def until_async(what, look, within_s=PATIENCE_S):
    """As `until`, for a function that may be a coroutine function."""
    deadline = time.monotonic() + within_s
    while True:
        seen = look()
        if asyncio.iscoroutine(seen):
            seen = await seen
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s} s; last: {seen!r}")
        await asyncio.sleep(PAUSE_S)
