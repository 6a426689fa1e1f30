# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The page in one file: each module once, after what it imports; nothing else may run."""

import base64
import hashlib
import re

import pytest

from timar_ros.colors import VOICE_COLORS
from timar_ros.nodes.face_bundle import PAGE_FOLDER, bundle, read_page


def test_a_module_stands_once_and_after_what_it_imports():
    texts = {
        'main.js': "import { b } from './b.js';\nimport { a, A } from './a.js';\nrun(a, b, A);\n",
        'b.js': "import { a } from './a.js';\nconst own = 1;\nexport function b() {}\n",
        'a.js': 'const own = 2;\nexport const a = 1;\nexport class A {}\n',
        'other.js': 'never();\n',
    }

    script = bundle('main.js', texts)

    assert script == (
        'const module_a = (() => {\n'
        'const own = 2;\nconst a = 1;\nclass A {}\n\nreturn { a, A };\n})();\n'
        'const module_b = (() => {\n'
        'const { a } = module_a;\nconst own = 1;\nfunction b() {}\n\nreturn { b };\n})();\n'
        'const module_main = (() => {\n'
        'const { b } = module_b;\nconst { a, A } = module_a;\nrun(a, b, A);\n\nreturn {  };\n})();'
    )


@pytest.mark.parametrize(
    ('texts', 'reason'),
    [
        ({'main.js': "import { a } from './gone.js';\n"}, 'cannot import gone.js'),
        ({'main.js': "import { a } from './main.js';\n"}, 'cannot import main.js'),
        ({'main.js': "import a from './a.js';\n", 'a.js': ''}, 'main.js: cannot be bundled'),
        ({'main.js': 'export default 1;\n'}, 'main.js: cannot be bundled'),
        ({'main.js': "text = '</script>';\n"}, 'main.js: cannot stand in a page'),
    ],
)
def test_what_cannot_be_put_together_is_named(texts, reason):
    with pytest.raises(ValueError, match=reason):
        bundle('main.js', texts)


def test_the_page_is_one_file_with_every_module_in_it():
    text = read_page().files['index.html'].body.decode()
    modules = {path.stem for path in PAGE_FOLDER.glob('*.js')} - {'reload'}

    assert set(re.findall(r'const module_(\w+) = \(\(\) => \{$', text, re.MULTILINE)) == modules
    assert re.findall(r'<(?:script|link)[^>]*(?:src|href)="([^"]*)"', text) == ['data:,']


def test_the_policy_allows_the_scripts_and_the_style_of_the_page_and_no_others():
    page = read_page()
    text = page.files['index.html'].body.decode()

    def hashes(tag):
        inside = re.findall(rf'<{tag}[^>]*>(.*?)</{tag}>', text, re.DOTALL)
        digests = [hashlib.sha256(each.encode()).digest() for each in inside]
        return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]

    policy = dict(part.strip().split(' ', 1) for part in page.content_security_policy.split(';'))
    assert policy['script-src'].split() == ["'self'", *hashes('script')]
    assert policy['style-src'].split() == hashes('style')
    assert len(hashes('script')) == 2


def test_a_page_of_other_contents_is_another_version(tmp_path):
    for path in PAGE_FOLDER.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    same = read_page(tmp_path).version
    (tmp_path / 'rig.js').write_text((tmp_path / 'rig.js').read_text() + '// changed\n')

    assert same == read_page().version
    assert read_page(tmp_path).version != same


def test_user_and_agent_have_the_same_colors_on_the_page_as_in_pictures_and_reports():
    style = (PAGE_FOLDER / 'face.css').read_text()

    for voice, color in VOICE_COLORS.items():
        assert f'  --{voice}: {color};' in style
    for path in sorted(PAGE_FOLDER.glob('*.js')):
        assert not re.search(r"\b(user|agent): '#", path.read_text()), path.name
