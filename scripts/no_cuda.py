"""torch without the gigabytes of CUDA that its Linux wheels ask for, to run tests on a processor.

The wheel is linked to libraries of CUDA and does not load without them. Stand-ins are compiled in their place, with
every function that the wheel names, each of which fails (100, "no device"): torch then finds no GPU, and computes as
ever. For x86_64: the wheels of other processors bring no CUDA.
"""

import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

CUDA = re.compile(r"lib(cu|nv|nccl)")
CUDA_PACKAGES = re.compile(r"nvidia|cuda|triton")
FAILS = "  mov $100, %eax\n  ret\n"


def needed_beside(requirements: list[str]) -> list[str]:
    """Of what torch's metadata asks for without any extra, the part that is not CUDA's, as it stands there."""
    return [one for one in requirements if "extra ==" not in one and not CUDA_PACKAGES.match(one)]


def stand_in(folder: Path) -> list[str]:
    """Compile what the libraries in a folder lack of CUDA into that folder; the names."""
    libraries = sorted(path for path in folder.glob("*.so*") if not path.is_symlink())
    missing = sorted({name for path in libraries for name in _not_found(path)})
    functions: dict[str, dict[str, set[str]]] = {name: defaultdict(set) for name in missing}
    for path in libraries:
        owner = _owners(path)
        for function, version in _undefined(path):
            if version and owner.get(version) in functions:
                functions[owner[version]][version].add(function)
            elif not version:
                # which library an unversioned one is of is not written down: it stands in each that has no versions
                functions.setdefault("", defaultdict(set))[""].add(function)
    unversioned = functions.pop("", {"": set()})[""]
    for name in missing:
        _compile(folder / name, functions[name] or {"": unversioned})
    return missing


def _not_found(library: Path) -> list[str]:
    """Names of CUDA's libraries that a library is linked to and that are nowhere."""
    said = _said("ldd", library)
    return [
        line.split()[0] for line in said.splitlines() if "not found" in line and CUDA.match(line.split()[0])
    ]


def _owners(library: Path) -> dict[str, str]:
    """The library that each version of symbols is asked of."""
    found: dict[str, str] = {}
    owner = ""
    for line in _said("objdump", "-p", library).splitlines():
        if match := re.match(r"\s+required from (\S+):", line):
            owner = match[1]
        elif match := re.match(r"\s+0x\w+ 0x\w+ \d+ (\S+)$", line):
            found[match[1]] = owner
    return found


def _undefined(library: Path) -> list[tuple[str, str]]:
    """Symbols that a library wants of others, with the version, or "" for none; of those without, only CUDA's."""
    said = _said("nm", "-D", "--undefined-only", "--with-symbol-versions", library)
    pairs = [line.split()[-1].replace("@@", "@").partition("@") for line in said.splitlines()]
    return [(name, version) for name, _, version in pairs if version or re.match(r"(_*cu|nccl|nv)", name)]


def _compile(path: Path, functions: dict[str, set[str]]) -> None:
    """A library of functions by version, all of which fail."""
    names = sorted(name for group in functions.values() for name in group)
    labels = "".join(f".globl {name}\n.type {name}, @function\n{name}:\n" for name in names)
    note = '.section .note.GNU-stack, "", @progbits\n'
    with tempfile.TemporaryDirectory() as scratch:
        source, versions = Path(scratch) / "all.s", Path(scratch) / "versions"
        source.write_text(f".text\n{labels}{FAILS}{note}")
        groups = (
            f"{version} {{ global: {' '.join(f'{name};' for name in sorted(group))} }};\n"
            for version, group in functions.items()
            if version
        )
        versions.write_text("".join(groups))
        options = [f"-Wl,--version-script={versions}"] if versions.stat().st_size else []
        subprocess.run(
            ["cc", "-shared", f"-Wl,-soname,{path.name}", *options, source, "-o", path], check=True
        )


def _said(*command: str | Path) -> str:
    """What a command prints, with plain words."""
    done = subprocess.run(
        [*command], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    )
    return done.stdout
