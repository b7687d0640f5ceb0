"""The results as markdown tables, each with its goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench import codec_pairs, engine, scale, startup


def heading(about: Mapping[str, object]) -> str:
    return (
        f"ltsp image compared with mksquashfs {about['mksquashfs']}, with Python {about['python']} on "
        f"{about['processors']} processors: a root of {about['bytes']:,} bytes in {about['files']:,} names, "
        "read from a warm cache."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of_pairs(results: Sequence[codec_pairs.Result]) -> str:
    head = ["codec", "runs", "mksquashfs s", "ltsp s", "speed", "mksquashfs bytes", "ltsp bytes", "size"]
    head += ["CPU s", "CPU ratio", "memory MB", "goals", "reached"]
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
                f"{row.ours.processor / row.theirs.processor:.2f} times",
                f"{row.theirs.peak / 1e6:,.0f} → {row.ours.peak / 1e6:,.0f}",
                f"≥ {row.pair.speed:g} times, ≤ {(row.pair.growth - 1) * 100:+.1f} %, memory ≤",
                f"no: {', '.join(row.misses)}" if row.misses else "yes",
            ]
            for row in results
        ],
    )


def of_costs(results: Sequence[engine.Costs]) -> str:
    head = ["codec", "start s", "scan s", "prepare s", "contents s", "tables s", "check s", "sha256 of the image s"]
    head += ["fsync s", "CPU s", "in codecs", "in hashes"]
    rows = []
    for row in results:
        stages = (row.start, row.scan, row.prepare, row.contents, row.tables, row.check, row.sha256, row.fsync)
        shares = (f"{value:.2f} ({value / row.processor:.0%})" for value in (row.kernel_codecs, row.hashes))
        rows.append([row.name, *(f"{value:.2f}" for value in stages), f"{row.processor:.2f}", *shares])
    return table(head, rows)


def of_misses(results: Sequence[codec_pairs.Result]) -> str:
    """The missed goals of pairs, one a line; the stages show where the time goes."""
    return "\n".join(
        f"Missed: {row.pair.name}, {', '.join(row.misses)}: {row.speed:.2f} times as fast (goal {row.pair.speed:g}), "
        f"{(row.growth - 1) * 100:+.2f} % larger (goal {(row.pair.growth - 1) * 100:+.1f} %)."
        for row in results
        if row.misses
    )


def of_scale(results: Sequence[scale.Result]) -> str:
    head = ["files", "mksquashfs s", "ltsp s", "µs per file", "mksquashfs MB", "ltsp MB", "goals", "reached"]
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


def of_startup(results: Sequence[startup.Result]) -> str:
    head = ["command", "ms", "python3 -c pass ms", "ratio", "goal", "reached"]
    rows = [
        [
            row.command,
            f"{row.seconds * 1e3:.0f}",
            f"{row.bare * 1e3:.0f}",
            f"{row.seconds / row.bare:.1f} times",
            f"≤ {startup.FACTOR:g} times and {startup.MARGIN * 1e3:.0f} ms, {row.goal * 1e3:.0f} ms",
            "no" if row.misses else "yes",
        ]
        for row in results
    ]
    return table(head, rows)
