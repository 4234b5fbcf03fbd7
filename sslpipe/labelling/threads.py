"""Calls that may take long, in threads beside the event loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], room: asyncio.Semaphore) -> T:
    """Return what a call returns, or raise what it raises; it runs in a thread as soon as `room` admits it.

    Waiting calls are admitted in order. The thread does not keep the process from ending, unlike those of asyncio and
    of anyio, for which Ctrl-C would wait.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(done.set)

    async with room:
        threading.Thread(target=work, daemon=True).start()
        await done.wait()
    if errors:
        raise errors[0]
    return results[0]
