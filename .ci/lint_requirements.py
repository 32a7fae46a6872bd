"""Print the pinned tools of the extra dev of a pyproject.toml, one a line."""

import re
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text()
extra = re.search(r"^dev = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
assert extra is not None
print(*re.findall(r'"([\w.-]+==[\w.]+)"', extra.group(1)), sep="\n")
