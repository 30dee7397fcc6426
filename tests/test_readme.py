"""The README's promises: its Python blocks run, and its commands are the two that it is known by."""

import pathlib
import re

import jax

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def test_python_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 5
    namespace = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(block, namespace)
    assert namespace["value"].shape == ()


def test_two_install_commands():
    commands = re.findall(r"^pip install.*", README, re.MULTILINE)
    assert commands == ["pip install -e '.[demo]' && python -m jaxloss", "pip install -e '.[test]' && pytest"]
