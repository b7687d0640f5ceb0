"""Compress blocks in threads, and write the results in order.

The codecs release the interpreter lock, so threads suffice. Regardless of their number and timing, blocks reach the
output in the order of submission, and a fixed number of bytes is in progress.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from time import thread_time
from types import TracebackType
from typing import Protocol, Self

from ltsp.squashfs.compression import Codec, Compression
from ltsp.squashfs.format import BLOCK_STORED
from ltsp.squashfs.output import ImageOutput, OutputMark

_MIN_BYTES_IN_FLIGHT = 16 << 20
"""Bytes of source that may wait for a worker or their turn, with few threads and small blocks: reading ahead during
large files keeps the threads busy while many small ones are opened."""
_BLOCKS_PER_THREAD = 8
"""Blocks in progress for each thread: enough that one slow block does not stall the others."""


class BlockSink(Protocol):
    """Receives the locations of blocks."""

    def put(self, mark: OutputMark, block_sizes: Sequence[int]) -> None:
        """One size word for each block, in order; the first block is at the mark."""
        ...


@dataclass(slots=True)
class _CompressJob:
    sink: BlockSink
    blocks: Sequence[bytes]
    size: int
    """Total bytes of the blocks."""
    sparse: bool
    """Whether a block of zeros becomes a hole."""
    pieces: list[bytes | bytearray] = field(default_factory=list)
    block_sizes: Sequence[int] = ()
    error: BaseException | None = None
    seconds: float = 0.0
    """Seconds of CPU time."""
    finished: LockType = field(default_factory=allocate_lock)
    """Locked until a worker has finished the job."""


@dataclass(slots=True)
class Workers:
    """A context manager that runs the threads. All methods must be called by the thread that opened it."""

    output: ImageOutput
    compression: Compression
    block_size: int
    threads: int
    codec_seconds: float = field(init=False, default=0.0)
    """Seconds of CPU time in all threads."""
    _jobs: SimpleQueue[_CompressJob | None] = field(init=False, default_factory=SimpleQueue)
    _jobs_in_order: deque[_CompressJob] = field(init=False, default_factory=deque)
    _bytes_in_flight: int = field(init=False, default=0)
    _max_bytes_in_flight: int = field(init=False)
    _threads: list[Thread] = field(init=False, default_factory=list)
    _zeros: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._max_bytes_in_flight = max(_MIN_BYTES_IN_FLIGHT, self.threads * _BLOCKS_PER_THREAD * self.block_size)
        self._zeros = bytes(self.block_size)

    def __enter__(self) -> Self:
        # A codec whose library is missing fails here, before anything is read.
        codecs = [self.compression.codec(self.block_size) for _ in range(self.threads)]
        self._threads = [Thread(target=self._compress_jobs, args=(codec,), daemon=True) for codec in codecs]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(Empty):
                while True:
                    self._jobs.get_nowait()
            self._jobs_in_order.clear()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, sink: BlockSink, blocks: Sequence[bytes], size: int, *, sparse: bool) -> None:
        """Compress blocks of `size` bytes in total, and write them after everything submitted before."""
        job = _CompressJob(sink, blocks, size, sparse)
        job.finished.acquire()
        self._jobs_in_order.append(job)
        self._jobs.put(job)
        self._bytes_in_flight += size
        jobs_in_order = self._jobs_in_order
        while self._bytes_in_flight > self._max_bytes_in_flight or (
            jobs_in_order and not jobs_in_order[0].finished.locked()
        ):
            self._write_next()

    def submit_holes(self, sink: BlockSink, count: int) -> None:
        """Add `count` holes, each as large as a block, in order."""
        self._jobs_in_order.append(_CompressJob(sink, (), 0, sparse=True, block_sizes=array("I", bytes(4 * count))))

    def drain(self) -> None:
        """Wait until everything submitted is written."""
        while self._jobs_in_order:
            self._write_next()

    def _write_next(self) -> None:
        job = self._jobs_in_order.popleft()
        job.finished.acquire()
        self._bytes_in_flight -= job.size
        if job.error is not None:
            raise job.error
        self.codec_seconds += job.seconds
        job.sink.put(self.output.mark(), job.block_sizes)
        for piece in job.pieces:
            self.output.write(piece)

    def _compress_jobs(self, codec: Codec) -> None:
        compress, zeros = codec.compress, self._zeros
        while (job := self._jobs.get()) is not None:
            started = thread_time()
            try:
                _compress(job, compress, zeros)
            except BaseException as error:  # raised again when the result is collected
                job.error = error
            job.blocks = ()
            job.seconds = thread_time() - started
            job.finished.release()


def _compress(job: _CompressJob, compress: Callable[[bytes], bytes | bytearray], zeros: bytes) -> None:
    block_sizes: list[int] = []
    for block in job.blocks:
        size = len(block)
        if job.sparse and block == (zeros if size == len(zeros) else zeros[:size]):
            block_sizes.append(0)
            continue
        piece = compress(block)
        if len(piece) < size:
            block_sizes.append(len(piece))
        else:
            piece = block
            block_sizes.append(size | BLOCK_STORED)
        job.pieces.append(piece)
    job.block_sizes = block_sizes
