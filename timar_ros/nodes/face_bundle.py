# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The face's page as one file, with its style and script inside.

Responsible for reading `face_page/` and putting it together. Not for serving it.

One request brings all or nothing, so no screen is left with half of a page when many load at the
same moment. The modules are also served one by one: tests import them.
"""

import base64
from collections.abc import Iterable
import dataclasses
import hashlib
import pathlib
import re

PAGE_FOLDER = pathlib.Path(__file__).with_name('face_page')
_TYPES = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript'}
_STYLE_LINK = '<link rel="stylesheet" href="face.css">'
_SCRIPT_LINK = re.compile(r'<script(?P<type> type="module")? src="(?P<name>\w+\.js)"></script>')
_IMPORT = re.compile(r"^import \{ ([\w, ]+) \} from '\./(\w+\.js)';$", re.MULTILINE)
_EXPORT = re.compile(r'^export (?=(?:async )?(?:const|class|function) (\w+))', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class PageFile:
    """Content of a file to send, and its type."""

    body: bytes
    content_type: str


@dataclasses.dataclass(frozen=True)
class Page:
    """
    All that a browser may get.

    Attributes:
        files: by name; `index.html` holds all that it needs.
        version: changes with any of the files.
        content_security_policy: allows what is in `index.html`, and nothing else.
    """

    files: dict[str, PageFile]
    version: str
    content_security_policy: str


def read_page(folder: pathlib.Path = PAGE_FOLDER, frames: Iterable[str] = ()) -> Page:
    """
    Read the page's files and put `index.html` together.

    Args:
        folder: of the files.
        frames: origins whose pages may show it in a frame, besides its own.
    """
    texts = {p.name: p.read_text('utf-8') for p in sorted(folder.iterdir()) if p.suffix in _TYPES}
    digest = hashlib.sha256(''.join(texts.values()).encode()).hexdigest()
    style, scripts = texts['face.css'], []

    def inline(match: re.Match) -> str:
        is_module = bool(match['type'])
        scripts.append(bundle(match['name'], texts) if is_module else texts[match['name']])
        return f'<script{match["type"] or ""}>{scripts[-1]}</script>'

    page = _SCRIPT_LINK.sub(inline, texts['index.html'])
    texts['index.html'] = page.replace(_STYLE_LINK, f'<style>{style}</style>')
    files = {
        name: PageFile(text.encode(), _TYPES[pathlib.Path(name).suffix])
        for name, text in texts.items()
    }
    return Page(files, digest[:16], _policy(style, scripts, frames))


def bundle(name: str, texts: dict[str, str]) -> str:
    """
    Return a module and all that it imports as one script.

    Args:
        name: of the module that is run.
        texts: of all modules, by name. Each `import { a, b } from './c.js';` stands on a line of
            its own; what is exported is a const, class or function.

    Raises:
        ValueError: an import is missing, circular or of another form.
    """
    done: dict[str, str] = {}
    _add_module(name, texts, done, ())
    return '\n'.join(done.values())


def _add_module(name: str, texts, done: dict[str, str], importers: tuple[str, ...]) -> None:
    if name in done:
        return
    if name in importers or name not in texts:
        raise ValueError(f'{importers[-1:]}: cannot import {name}: not there, or a circle')
    for _, imported in _IMPORT.findall(texts[name]):
        _add_module(imported, texts, done, (*importers, name))
    body = _IMPORT.sub(lambda m: f'const {{ {m[1]} }} = {_variable(m[2])};', texts[name])
    exported = _EXPORT.findall(body)
    body = _EXPORT.sub('', body)
    if unread := re.search(r'^(import|export)\b.*$', body, re.MULTILINE):
        raise ValueError(f'{name}: cannot be bundled: {unread[0][:80]}')
    if '</script' in body or '<!--' in body:
        raise ValueError(f'{name}: cannot stand in a page: it has </script or <!--')
    done[name] = (
        f'const {_variable(name)} = (() => {{\n{body}\nreturn {{ {", ".join(exported)} }};\n}})();'
    )


def _variable(name: str) -> str:
    return f'module_{name.removesuffix(".js")}'


def _policy(style: str, scripts: list[str], frames: Iterable[str]) -> str:
    script_hashes = ' '.join(map(_hash, scripts))
    ancestors = ' '.join(["'self'", *frames])
    return (
        f"default-src 'none'; script-src 'self' {script_hashes}; style-src {_hash(style)}; "
        "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        f'frame-ancestors {ancestors}'
    )


def _hash(text: str) -> str:
    """Return how a policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
