"""What has to be removed at the end of a block, whatever ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from ltsp.errors import LtspError, SourceError


@contextmanager
def remove_at_exit(remove: Callable[[], None]) -> Iterator[None]:
    """Call `remove` when the block ends. It is called twice, and does nothing where there is nothing to remove.

    A signal may come in the middle of the first call, and ends the program in the second.

    Raises SourceError where it failed, and the block had not.
    """

    def end(_kind: type[BaseException] | None, failure: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            remove()
        except (OSError, LtspError) as error:
            if failure is None:
                reason = error.message if isinstance(error, LtspError) else str(error.strerror).lower()
                raise SourceError(
                    f"the snapshot cannot be removed: {reason}", "the next run will try it again"
                ) from error

    with ExitStack() as ended:
        ended.push(end)
        ended.push(end)
        yield
