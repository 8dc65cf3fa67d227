"""Generates the code of proto/stint/v1 while a wheel is built, or the package is installed for development.

Owns: where the .proto files are and how they are compiled. Does not own: what is packed (pyproject.toml).
"""

from __future__ import annotations

import importlib.resources
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GenerateCode(BuildHookInterface[Any]):
    """Runs protoc."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's names)
        """Generate `stint/v1` below `src`; a source distribution carries the .proto files instead."""
        if self.target_name != "sdist":
            generate(Path(self.root))


def generate(root: Path) -> None:
    """Compile all files of `stint/v1` into `root/src`."""
    from grpc_tools import protoc

    protos = next(
        (
            folder
            for folder in (root / "proto", root.parent.parent / "proto")
            if (folder / "stint/v1").is_dir()
        ),
        None,
    )
    if protos is None:
        raise FileNotFoundError(f"no proto/stint/v1 in {root} or two folders above it")
    files = sorted(str(file.relative_to(protos)) for file in (protos / "stint/v1").glob("*.proto"))
    output = root / "src" / "stint" / "v1"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    into = str(root / "src")
    arguments = [
        "protoc",
        f"-I{protos}",
        f"-I{importlib.resources.files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy={_plugin('protoc-gen-mypy')}",
        f"--plugin=protoc-gen-mypy_grpc={_plugin('protoc-gen-mypy_grpc')}",
        f"--python_out={into}",
        f"--grpc_python_out={into}",
        f"--mypy_out=quiet:{into}",
        f"--mypy_grpc_out=quiet:{into}",
        *files,
    ]
    status = protoc.main(arguments)
    if status != 0:
        raise RuntimeError(f"protoc ended with {status}: it says above what it can't compile")
    (output / "__init__.py").write_text('"""The wire of stint, generated from proto/stint/v1."""\n')


def _plugin(name: str) -> str:
    """Where pip has put a plugin of protoc: beside this Python, or on PATH in an isolated build."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not there: pip install mypy-protobuf")
    return found


if __name__ == "__main__":
    generate(Path(__file__).resolve().parent)
