#!/usr/bin/env python3
"""Checks what a compiler does not: the arrows between the rooms of src/, forbidden headers, sizes and the map.

usage: check_house.py PROJECT_FOLDER        prints one line per finding; exits 1 when there is any
"""
import itertools
import pathlib
import re
import sys

# Room -> rooms whose headers it may include (src/README.md draws the same arrows). Siblings do not see each other.
DATA = {"base", "spec"}
HARDWARE = DATA | {"device"}
ARROWS = {
    "base": set(),
    "spec": {"base"},
    "policy": DATA,
    "schedule": DATA,
    "text": DATA,
    "job": DATA,
    "device": DATA,
    "ops": HARDWARE,
    "storage": HARDWARE,
    "comm": HARDWARE,
    "model": HARDWARE | {"ops"},
    "weights": HARDWARE | {"ops", "storage", "model"},
}
ARROWS["batch"] = DATA | {"schedule"}
ARROWS["engine"] = HARDWARE | {"ops", "model", "weights", "policy", "schedule", "storage", "comm"}
ARROWS["probe"] = HARDWARE | {"ops", "storage", "comm"}
ARROWS["run"] = ARROWS["engine"] | {"engine", "batch", "text", "job", "probe"}
ARROWS["serve"] = ARROWS["run"] | {"run"}
ARROWS["app"] = ARROWS["serve"] | {"serve"}

# Tests of rooms below the engine stand without it: the rooms that they may include and link.
TEST_ARROWS = {"policy": DATA | {"policy", "model"}}

# Third-party headers and the rooms that may include them.
ALL_ROOMS = set(ARROWS) | {"main"}
ALLOWED_ROOMS = [
    ("MPI", re.compile(r"mpi\.h$"), {"comm"}),
    ("NCCL", re.compile(r"nccl\.h$"), {"comm"}),
    ("Torch", re.compile(r"(torch|ATen|c10)/"), {"ops", "model", "engine"}),
    ("CUDA", re.compile(r"(cuda|cub/|thrust/|cublas)"), {"device", "ops", "storage", "comm", "model", "engine"}),
]
MAX_LINES = 400
SOURCE_ENDINGS = {".hpp", ".cpp", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def sources(root):
    return sorted(path for path in (root / "src").rglob("*") if path.suffix in SOURCE_ENDINGS)


def room_of(root, path):
    parts = path.relative_to(root / "src").parts
    return parts[0] if len(parts) > 1 else "main"


def includes(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1)


def declared_uses(root):
    """Room -> other rooms that its CMakeLists.txt files name after USES. A room may be built as several targets."""
    calls = []
    for path in sorted((root / "src").rglob("CMakeLists.txt")):
        text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
        calls += [(room_of(root, path), call.split()) for call in re.findall(r"flexgen_room\(([^)]*)\)", text)]
    room_of_target = {words[0]: room for room, words in calls}
    direct = {}
    for room, words in calls:
        used = direct.setdefault(room, set())
        while "USES" in words:
            words = words[words.index("USES") + 1:]
            used |= {room_of_target.get(word, word) for word in itertools.takewhile(lambda w: not w.isupper(), words)}
        used.discard(room)
    return direct


def reachable_uses(root):
    """Room -> rooms that it uses, with those which these use in turn."""
    direct = declared_uses(root)

    def reach(room, seen):
        for used in direct.get(room, set()) - seen:
            seen.add(used)
            reach(used, seen)
        return seen

    return {room: reach(room, set()) for room in direct}


def check_includes(root):
    uses = reachable_uses(root)
    for path in sources(root):
        room = room_of(root, path)
        where = path.relative_to(root)
        if room not in ALL_ROOMS:
            yield f"{where}: src/{room}/ is no room that this check knows: add its arrows"
            continue
        for number, header in includes(path):
            target = header.split("/")[0]
            if target in ARROWS and "/" in header:
                if room not in ("main", target) and target not in ARROWS[room]:
                    yield f"{where}:{number}: {room} may not include {header} (arrow)"
                elif room not in ("main", target) and target not in uses.get(room, set()):
                    yield f"{where}:{number}: includes {header}, but src/{room}/CMakeLists.txt does not use {target}"
                continue
            for name, pattern, rooms in ALLOWED_ROOMS:
                if pattern.match(header):
                    if room not in rooms:
                        yield f"{where}:{number}: {name} header {header} in {room} (only in {', '.join(sorted(rooms))})"
                    elif name == "Torch" and path.suffix in (".cu", ".cuh"):
                        yield f"{where}:{number}: Torch header {header} in a CUDA source"


def check_uses(root):
    for room, used in sorted(declared_uses(root).items()):
        for other in sorted(used - ARROWS.get(room, set())):
            yield f"src/{room}/CMakeLists.txt: uses {other} against the arrows"


def check_tests(root):
    for room, allowed in TEST_ARROWS.items():
        folder = root / "tests" / room
        for path in sorted(folder.rglob("*")):
            if path.suffix not in SOURCE_ENDINGS:
                continue
            for number, header in includes(path):
                target = header.split("/")[0]
                if "/" in header and target in ARROWS and target not in allowed:
                    yield f"{path.relative_to(root)}:{number}: tests of {room} may not include {header} (arrow)"
        lists = folder / "CMakeLists.txt"
        text = re.sub(r"#.*", "", lists.read_text(encoding="utf-8")) if lists.is_file() else ""
        for call in re.findall(r"flexgen_test\(([^)]*)\)", text):
            words = call.split()
            used = words[words.index("USES") + 1:] if "USES" in words else []
            for other in sorted(set(itertools.takewhile(lambda w: not w.isupper(), used)) - allowed):
                yield f"tests/{room}/CMakeLists.txt: uses {other} against the arrows"


def check_sizes(root):
    for path in sources(root):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            yield f"{path.relative_to(root)}: {lines} lines, more than {MAX_LINES}: a room that wants a wall"


def check_headers(root):
    for path in sources(root):
        is_body = path.name.endswith("_body.hpp")  # text that several sources compile, each in its own way
        if path.suffix in (".hpp", ".cuh") and not is_body and "#pragma once" not in path.read_text(encoding="utf-8"):
            yield f"{path.relative_to(root)}: no #pragma once"


def check_map(root):
    """The map is the table of src/README.md: its first column is `room/`, one row for each folder of src/."""
    readme = root / "src" / "README.md"
    if not readme.is_file():
        yield "src/README.md: missing"
        return
    mapped = set(re.findall(r"^\|\s*`([a-z_]+)/`\s*\|", readme.read_text(encoding="utf-8"), re.MULTILINE))
    rooms = {path.name for path in (root / "src").iterdir() if path.is_dir() and any(path.iterdir())}
    for room in sorted(rooms - mapped):
        yield f"src/README.md: the map lacks `{room}/`"
    for room in sorted(mapped - rooms):
        yield f"src/README.md: the map names `{room}/`, which does not exist"


def findings(root):
    for check in (check_includes, check_uses, check_tests, check_sizes, check_headers, check_map):
        yield from check(root)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1]).resolve()
    if not sources(root):
        sys.exit(f"{root}: no sources under src/")
    found = list(findings(root))
    for line in found:
        print(line)
    print(f"{len(sources(root))} files, {len(found)} findings")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
