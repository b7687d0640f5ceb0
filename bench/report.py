"""The results as markdown tables, each with the goals beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench import engine, pairs, scale


def heading(about: Mapping[str, object]) -> str:
    return (
        f"ltsp image beside mksquashfs {about['mksquashfs']}, with Python {about['python']} on {about['processors']} "
        f"processors: a root of {about['bytes']:,} bytes in {about['files']:,} names, read from a warm cache."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of_pairs(results: Sequence[pairs.Result]) -> str:
    head = ["codec", "runs", "mksquashfs s", "ltsp s", "speed", "mksquashfs bytes", "ltsp bytes", "size"]
    head += ["processor s", "memory MB", "goals", "reached"]
    return table(
        head,
        [
            [
                row.pair.name,
                str(row.rounds),
                f"{row.theirs.seconds:.2f}",
                f"{row.ours.seconds:.2f}",
                f"{row.speed:.2f} times",
                f"{row.theirs.size:,}",
                f"{row.ours.size:,}",
                f"{(row.growth - 1) * 100:+.2f} %",
                f"{row.theirs.processor:.2f} → {row.ours.processor:.2f}",
                f"{row.theirs.peak / 1e6:,.0f} → {row.ours.peak / 1e6:,.0f}",
                f"≥ {row.pair.speed:g} times, ≤ {(row.pair.growth - 1) * 100:+.1f} %, memory ≤",
                f"no: {', '.join(row.misses)}" if row.misses else "yes",
            ]
            for row in results
        ],
    )


def of_costs(results: Sequence[engine.Costs]) -> str:
    head = ["codec", "scan s", "contents s", "tables s", "sha256 of the image s", "check s", "fsync s"]
    head += ["processor s", "in codecs", "in hashes"]
    return table(
        head,
        [
            [
                row.name,
                *(f"{value:.2f}" for value in (row.scan, row.contents, row.tables, row.sha256, row.check, row.fsync)),
                f"{row.processor:.2f}",
                f"{row.codecs:.2f} ({row.codecs / row.processor:.0%})",
                f"{row.hashes:.2f} ({row.hashes / row.processor:.0%})",
            ]
            for row in results
        ],
    )


def of_scale(results: Sequence[scale.Result]) -> str:
    head = ["files", "mksquashfs s", "ltsp s", "µs a file", "mksquashfs MB", "ltsp MB", "goals", "reached"]
    rows = []
    before = 0.0
    for row in results:
        misses = ["linear"] if before and row.per_file > before * scale.LINEAR else []
        misses += ["memory"] if row.ours.peak > scale.MOST_MEMORY else []
        before = row.per_file
        rows.append(
            [
                f"{row.files:,}",
                f"{row.theirs.seconds:.2f}",
                f"{row.ours.seconds:.2f}",
                f"{row.per_file:.0f}",
                f"{row.theirs.peak / 1e6:,.0f}",
                f"{row.ours.peak / 1e6:,.0f}",
                f"linear, ≤ {scale.MOST_MEMORY / 1e6:,.0f} MB",
                f"no: {', '.join(misses)}" if misses else "yes",
            ]
        )
    return table(head, rows)
