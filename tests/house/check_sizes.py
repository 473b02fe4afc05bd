#!/usr/bin/env python3
"""Lists what has outgrown a reader of src/: files over 400 lines, functions over 60, constructors with more than 7
arguments, classes with more than 15 members. Reads sources as .clang-format lays them out.

usage: check_sizes.py PROJECT_FOLDER

sizes_with_a_reason.txt, beside this script, has one line for each that stays: KIND WHERE: the reason. Exits 1 when
anything else is over its limit, or a reason is given for what is not.
"""
import pathlib
import re
import sys

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_CONSTRUCTOR_ARGUMENTS = 7
MAX_MEMBERS = 15

SOURCE_ENDINGS = {".hpp", ".cpp", ".cu", ".cuh"}
BLOCK = re.compile(r"^( *)(?:extern \"C\" |inline )?(?:namespace|class|struct|union|enum)\b")
STATEMENT = re.compile(r"^\s*(?:if|else|for|while|do|switch|case|default|try|catch|return|namespace|class|struct|union|enum|"
                       r"extern|using|typedef|public|private|protected|#|//|}|\)|:)")
CLASS = re.compile(r"^( *)(?:template <.*> )?(class|struct) (?:alignas\(\d+\) )?(\w+)(?: final)?(?: : .*)?\s*{$")
CALLED = re.compile(r"(~?[\w:]+|operator\S+)\(")
NO_MEMBER = re.compile(r"^\s*(?:static|using|friend|typedef|template|public|private|protected|explicit|virtual|return|enum|"
                       r"class|struct|union|#|//|})")
MEMBER = re.compile(r"^[^()]*?(?:<[^;]*>|[^()<>;=]*?)[ *&>](\w+)(?:\[[^\]]*\])*(?: = .*|{.*})?;(?:\s*//.*)?$")


def without_strings(line):
    return re.sub(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)'", '""', line)


def end_of_block(lines, first, indent):
    """Index of the line that closes the block which the line `first` opens: the next `}` of its indentation."""
    for at in range(first + 1, len(lines)):
        if re.match(rf"^ {{{indent}}}}}", lines[at]):
            return at
    return None


def indent_of(line):
    return len(line) - len(line.lstrip(" "))


def function_name(signature):
    """The first word before a bracket that is no attribute, as __launch_bounds__ is one."""
    return next((name for name in CALLED.findall(signature) if not name.startswith("__")), None)


def functions(lines):
    """(name, number of lines) of every function with a body of its own lines."""
    at = 0
    while at < len(lines):
        line = lines[at]
        begins = line.strip() and not STATEMENT.match(line) and not line.rstrip().endswith((";", ":"))
        # A declaration may go on over lines that are indented further, up to the one that opens the body.
        if begins and "(" in line and "= [" not in line:
            opens = at
            indent = indent_of(line)
            while not lines[opens].rstrip().endswith("{") and opens + 1 < len(lines) and \
                    indent_of(lines[opens + 1]) > indent and not lines[opens].rstrip().endswith((";", "}")):
                opens += 1
            if lines[opens].rstrip().endswith("{") and not BLOCK.match(line):
                end = end_of_block(lines, opens, indent)
                name = function_name(" ".join(lines[at:opens + 1]))
                if end is not None and name:
                    yield name, end - at + 1
                    at = end + 1
                    continue
        at += 1


def split_arguments(text):
    depth, count = 0, 1 if text.strip() else 0
    for char in text:
        depth += char in "(<[{"
        depth -= char in ")>]}"
        count += char == "," and depth == 0
    return count


def classes(lines):
    """(name, number of data members, arguments of the longest constructor) of every class."""
    for at, line in enumerate(lines):
        match = CLASS.match(line)
        if not match:
            continue
        indent = len(match.group(1))
        end = end_of_block(lines, at, indent)
        if end is None:
            continue
        members, arguments, depth = 0, 0, 0
        body = "\n".join(lines[at + 1:end])
        for inside in lines[at + 1:end]:
            text = without_strings(inside)
            if depth == 0 and indent_of(inside) == indent + 2 and not NO_MEMBER.match(inside) and MEMBER.match(text):
                members += len(re.findall(r", (?=\w+(?: = |,|;|\[|{))", re.sub(r"<[^;]*>|{[^}]*}|\([^)]*\)|\[[^\]]*\]", "", text))) + 1
            depth += text.count("{") - text.count("}")
        for found in re.finditer(rf"^ {{{indent + 2}}}(?:explicit |constexpr )*{match.group(3)}\(", body, re.MULTILINE):
            begin, level, stop = found.end(), 1, found.end()
            while level and stop < len(body):
                level += {"(": 1, ")": -1}.get(body[stop], 0)
                stop += 1
            arguments = max(arguments, split_arguments(re.sub(r"->|\n", " ", body[begin:stop - 1])))
        yield match.group(3), members, arguments


def oversized(root):
    """(kind, where, size, limit) of all that is over its limit."""
    for path in sorted(path for path in (root / "src").rglob("*") if path.suffix in SOURCE_ENDINGS):
        where = str(path.relative_to(root))
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MAX_FILE_LINES:
            yield "file", where, len(lines), MAX_FILE_LINES
        for name, size in functions(lines):
            if size > MAX_FUNCTION_LINES:
                yield "function", f"{where} {name}", size, MAX_FUNCTION_LINES
        for name, members, arguments in classes(lines):
            if members > MAX_MEMBERS:
                yield "class", f"{where} {name}", members, MAX_MEMBERS
            if arguments > MAX_CONSTRUCTOR_ARGUMENTS:
                yield "constructor", f"{where} {name}", arguments, MAX_CONSTRUCTOR_ARGUMENTS


def read_reasons(path):
    reasons = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if line.strip() and not line.startswith("#"):
            what, reason = line.split(": ", 1)
            reasons[tuple(what.split(" ", 1))] = reason
    return reasons


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1]).resolve()
    if not (root / "src").is_dir():
        sys.exit(f"{root}: no src/")
    reasons = read_reasons(root / "tests" / "house" / "sizes_with_a_reason.txt")
    num_bad = 0
    for kind, where, size, limit in oversized(root):
        reason = reasons.pop((kind, where), None)
        num_bad += reason is None
        print(f"{kind} {where}: {size}, more than {limit}: {reason or 'no reason is given'}")
    for kind, where in reasons:
        num_bad += 1
        print(f"{kind} {where}: a reason is given, and it is not over its limit")
    print(f"{num_bad} findings")
    sys.exit(1 if num_bad else 0)


if __name__ == "__main__":
    main()
