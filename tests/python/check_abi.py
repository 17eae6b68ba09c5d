"""usage: check_abi.py INCLUDE CC: what python/tilth/_abi.py declares is what the headers declare, and its structs
lie in memory as the compiler lays them. Prints what differs; exits 1 then."""

import ctypes
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile

include, cc = pathlib.Path(sys.argv[1]), sys.argv[2]
source = pathlib.Path(__file__).parent.parent.parent / "python/tilth/_abi.py"
spec = importlib.util.spec_from_file_location("_abi", source)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
abi = module.abi
failed = []


def plain(text):
    """Without comments; one space between words, none beside brackets and commas."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"\s+", " ", text)
    return re.sub(r" ?([{}(),;]) ?", r"\1", text).replace(",}", "}")


headers = plain("".join(h.read_text() for h in sorted((include / "tilth").glob("*.h"))))
declarations = abi.split(module.DECLARATIONS)
for d in declarations:
    if plain(d + ";") not in headers:
        failed.append("not in the headers: " + d)

structs = {n: t for n, t in abi.types.items() if isinstance(t, type) and issubclass(t, ctypes.Structure)}
lines = [f'#include <tilth/{h.name}>' for h in sorted((include / "tilth").glob("*.h"))]
lines += ["#include <stddef.h>", "#include <stdio.h>", "int main(void) {"]
expected = []


def expect(c, value):
    lines.append(f'  printf("%lld\\n", (long long)({c}));')
    expected.append((c, value))


for name, value in abi.constants.items():
    expect(name, value)
for name, struct in structs.items():
    expect(f"sizeof({name})", ctypes.sizeof(struct))
    for field, _ in struct._fields_:
        expect(f"offsetof({name}, {field})", getattr(struct, field).offset)
        expect(f"sizeof((({name} *)0)->{field})", getattr(struct, field).size)
lines.append("}")
with tempfile.TemporaryDirectory() as folder:
    program = pathlib.Path(folder, "layout")
    program.with_suffix(".c").write_text("\n".join(lines))
    subprocess.run([cc, f"-I{include}", program.with_suffix(".c"), "-o", program], check=True)
    values = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
for (c, value), real in zip(expected, values):
    if value != int(real):
        failed.append(f"{c} is {real}, not {value}")

if len(declarations) < 60 or len(structs) < 15 or len(values) != len(expected):
    failed.append(f"only {len(declarations)} declarations, {len(structs)} structs, {len(values)} values were compared")
print("\n".join(failed))
sys.exit(bool(failed))
