# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Lines of code in each folder, without blank lines, comments and docstrings.

    python toolchain/count_code.py [FOLDER]      (timar_ros if none is given)
"""

import ast
import collections
import io
import pathlib
import sys
import tokenize

_LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


def count(source: str) -> int:
    """Return how many lines of `source` hold code."""
    code = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        has_docstring = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, has_docstring) and ast.get_docstring(node, clean=False) is not None:
            code.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(code)


def main() -> None:
    """Print one line a folder, and the sum."""
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'timar_ros')
    lines, files = collections.Counter(), collections.Counter()
    for path in sorted(root.rglob('*.py')):
        lines[path.parent] += count(path.read_text(encoding='utf-8'))
        files[path.parent] += 1
    for folder in sorted(lines):
        print(f'{lines[folder]:6d} lines {files[folder]:3d} files  {folder}')
    print(f'{lines.total():6d} lines {files.total():3d} files')


if __name__ == '__main__':
    main()
