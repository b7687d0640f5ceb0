"""What a wheel installs besides the program: the files of tools/share.py, made when it is built."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling loads this class from the file named in pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # in a checkout, `make man` writes them
        sys.path[:0] = [self.root, str(Path(self.root, "src"))]
        from tools import share  # noqa: PLC0415 -- importable from here on

        # The wheel is packed after this returns, so the directory is removed when the interpreter exits.
        self._share = tempfile.TemporaryDirectory()
        share.write(self._share.name)
        build_data["shared_data"] |= {str(Path(self._share.name, name)): f"share/{name}" for name in share.files()}
