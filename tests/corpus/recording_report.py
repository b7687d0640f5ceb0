"""A report that records what an applet reports."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, field


@dataclass
class RecordingReport:
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)
    facts: dict = field(default_factory=dict)

    def step(self, _title, _total=None):
        return nullcontext()

    def say(self, text):
        self.lines.append(text)

    note = failure = say

    def warn(self, text):
        self.warnings.append(text)

    def table(self, _headings, rows):
        self.rows += [tuple(row) for row in rows]

    def result(self, facts):
        self.facts = json.loads(json.dumps(facts))
