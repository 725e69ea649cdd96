"""The package as a whole: what it exports, its README, its style and its types."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import crave_bulk as cb

ROOT = Path(__file__).parent.parent


def test_all_is_complete_and_sorted() -> None:
    public = [
        name
        for name, value in vars(cb).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("crave_bulk")
    ]
    assert sorted([*public, "crave"]) == cb.__all__  # a domain of its own: its names are its own


def test_all_of_the_domain_is_complete() -> None:
    public = [
        name
        for name, value in vars(cb.crave).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("crave_bulk")
    ]
    assert {*public, "TABLES"} == set(cb.crave.__all__)


def test_every_error_is_in_the_tree() -> None:
    errors = [
        value for value in vars(cb).values() if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert errors
    assert all(issubclass(error, cb.BulkError) for error in errors)
    assert all(error.__name__ in (cb.errors.__doc__ or "") for error in errors)


def test_the_code_in_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    readme = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", readme)  # where Pandera looks up what annotations name
    for block in blocks:
        exec(compile(block, "README.md", "exec"), vars(readme))  # the blocks are ours
    assert "inserted" in capsys.readouterr().out


def test_the_readme_has_two_commands() -> None:
    commands = re.search(
        r"## Quick start\n.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert commands is not None
    lines = [line for line in commands[1].splitlines() if line and not line.startswith("#")]
    assert lines == ["pip install . && python -m crave_bulk", 'pip install ".[test]" && pytest']
