"""Notebooks as pages: their text, their code, and what it has printed and drawn."""

import json
from pathlib import Path


def markdown_of(path: Path) -> str:
    """A notebook's page in Markdown."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            elif "image/png" in output.get("data", {}):
                picture = "".join(output["data"]["image/png"]).replace("\n", "")
                parts.append(f"![What the lines above have drawn](data:image/png;base64,{picture})")
    return "\n\n".join(parts) + "\n"
