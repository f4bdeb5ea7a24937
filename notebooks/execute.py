"""Run the notebooks top to bottom and keep what they print: `python notebooks/execute.py [NOTEBOOK …]`.

What changes from run to run without meaning anything (times, ids of displays, the kernel's version) is taken out, so
that a notebook whose results are the same is the same file. nbval compares the rest. Pictures are packed as tightly as
their format allows, to a quarter.
"""

import base64
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> None:
    """Execute one notebook in place."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(HERE)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", coalesce_streams=True, resources=resources).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                picture = pack_picture(base64.b64decode(output["data"]["image/png"]))
                output["data"]["image/png"] = base64.b64encode(picture).decode()
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.write(notebook, path)
    # without --keep-count nbval would compare nothing
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "nbstripout", "--keep-output", "--keep-count", "--keep-id", str(path)], check=True
    )


def pack_picture(png: bytes) -> bytes:
    """The same pixels in fewer bytes: altair's renderer does not compress hard."""
    head, data, rest = b"", b"", b""
    for kind, content in read_chunks(png):
        if kind == b"IDAT":
            data += content
        elif data:
            rest += build_chunk(kind, content)
        else:
            head += build_chunk(kind, content)
    return png[:8] + head + build_chunk(b"IDAT", zlib.compress(zlib.decompress(data), 9)) + rest


def read_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and the content of each chunk, in order."""
    place = 8
    while place < len(png):
        size, kind = struct.unpack_from(">I4s", png, place)
        yield kind, png[place + 8 : place + 8 + size]
        place += 12 + size


def build_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        print(path.name, flush=True)
        execute(path)
