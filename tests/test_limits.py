"""docs/protocol.md, "Limits", against the constants themselves: the same names with the same values."""

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

PROTOCOL = Path(__file__).parent.parent / "docs" / "protocol.md"
ROW = re.compile(r"^\| `(\w+)` \| (?:`(.+?)`|(\S+)) \|", re.MULTILINE)


def documented(heading: str, known: ModuleType) -> dict[str, object]:
    """Name → value of the table below the heading; a value may be an expression of the names before it."""
    table = PROTOCOL.read_text().split(f"(`{heading}`)\n", 1)[1].split("\n#", 1)[0]
    values = {}
    for name, expression, plain in ROW.findall(table):
        written = expression or plain
        try:
            values[name] = ast.literal_eval(written)
        except ValueError:
            values[name] = eval(written, {"__builtins__": {}}, vars(known))  # noqa: S307 - our own document
    return values


@pytest.mark.parametrize("file", ["spa/limits.py", "wire/limits.py", "gateway/limits.py"])
def test_the_limits_are_those_that_the_document_says(file: str) -> None:
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    there_are = {name: value for name, value in vars(module).items() if name.isupper()}
    assert documented(file, module) == there_are
