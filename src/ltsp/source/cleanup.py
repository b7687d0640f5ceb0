"""Cleanup that runs at the end of a block, even if a signal interrupts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from ltsp.errors import LtspError, SourceError


@contextmanager
def remove_at_exit(remove: Callable[[], None]) -> Iterator[None]:
    """Call `remove` when the block ends. It is called twice, and must do nothing if there is nothing to remove.

    A signal may interrupt the first call; the second one then completes it.

    Raises SourceError if the removal failed and the block did not.
    """

    def end(_kind: type[BaseException] | None, failure: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            remove()
        except (OSError, LtspError) as error:
            if failure is None:
                reason = error.message if isinstance(error, LtspError) else str(error.strerror).lower()
                raise SourceError(f"cannot remove the snapshot: {reason}", "the next run will try again") from error

    with ExitStack() as ended:
        ended.push(end)
        ended.push(end)
        yield
