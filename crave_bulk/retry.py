"""What is tried again, how often and after what pause."""

from __future__ import annotations

from collections.abc import Callable

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from crave_bulk.watch import Watch

# Attempts of one call. Pauses grow from 0.02 s to 2 s, each drawn at random from zero up, as two that have met
# must not meet again: some 10 s in all, in which a server can be restarted.
ATTEMPTS = 15
_PAUSE = 0.02
_LONGEST = 2.0
_ENOUGH = 30.0  # seconds after which no new attempt begins, as each may have waited for a lock


def again(
    watch: Watch,
    transient: Callable[[BaseException], bool],
    tell: Callable[[int, BaseException], None] | None = None,
) -> Retrying:
    """Run a block until it succeeds, fails for good, or has failed too often.

    Args:
        watch: ends a pause where the call is cancelled or runs out of time.
        transient: whether what was raised may not be raised the next time.
        tell: called with the number of each attempt that has failed so, and what it raised.

    Returns:
        Attempts to iterate over; each is a context manager, and the last error is raised as it is.

    Example:
        >>> failed = []
        >>> for attempt in again(Watch(), lambda error: True, lambda number, error: failed.append(number)):
        ...     with attempt:
        ...         _ = 1 / len(failed)
        >>> failed
        [1]
    """

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if tell is not None and error is not None:
            tell(state.attempt_number, error)

    return Retrying(
        retry=retry_if_exception(transient),
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(_ENOUGH),
        wait=wait_random_exponential(multiplier=_PAUSE, max=_LONGEST),
        sleep=watch.pause,
        before_sleep=before_sleep,
        reraise=True,
    )
