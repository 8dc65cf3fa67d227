"""The examples of README.md do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster import Cluster

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ADDRESS = '"127.0.0.1:7440"'


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_each_example_runs(number: int, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    example = EXAMPLES[number]
    assert ADDRESS in example
    exec(
        compile(example.replace(ADDRESS, repr(cluster.address_list)), f"README.md, example {number}", "exec"),
        {},
    )
    printed = capsys.readouterr().out
    if number == 0:
        assert "10 Pods succeeded" in printed
        assert "9 81" in printed
        assert "BackoffLimitExceeded" in printed


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
