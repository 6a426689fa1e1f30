# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The page stands alone, and what it draws is what was shown."""

import base64
import json
import re

import numpy as np
import pytest

from timar_ros.colors import VOICE_COLORS
from timar_ros.learn.figures import Answer, compute_figures
from timar_ros.learn.report import write_report
from timar_ros.motion import get_space

SPACE = get_space('arkit55')
ABOUT = {
    'recording': 'a <script>alert(1)</script> & b.wav',
    'duration_s': 8.0,
    'checkpoint': 'mini.safetensors',
    'checkpoint_sha256': '0' * 64,
    'motion_space': 'arkit55',
    'timing': {'timing': 'anticipate', 'replan_hz': 5.0},
    'sampling': {'steps': 5, 'context_turns': None},
    'seed': 0,
    'normalise': 'causal',
    'user_motion_frames': 0,
    'start_ns': 0,
    'counters': {'plans': 40, 'resets': 0},
    'notes': ['something </script> was lost'],
}


def make_answer(seconds=8.0, **changes):
    rng = np.random.default_rng(0)
    n = round(seconds * 25)
    motion = np.clip(rng.normal(0.1, 0.1, (n, 55)), 0, 1).astype(np.float32)
    voice = (0.1 * rng.standard_normal(round(seconds * 16000))).astype(np.float32)
    values = {'space': SPACE, 'fps': 25, 'frames_per_turn': 25, 'first_frame': 0}
    values |= {'motion': motion, 'user_voice': voice, 'agent_voice': 0.5 * voice}
    return Answer(**(values | changes))


def write(path, answer, **about):
    figures, reasons = compute_figures(answer)
    write_report(path, answer, figures, ABOUT | {'not_measured': reasons} | about)
    return path.read_text(encoding='utf-8')


def data_of(page):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text.group(1))


def unpack(packed):
    stored = np.frombuffer(base64.b64decode(packed['data']), '<i2').astype(float)
    columns = stored.reshape(-1, packed['n']) * np.array(packed['scale'])[:, None]
    return dict(zip(packed['names'], columns, strict=True))


@pytest.fixture
def page(tmp_path):
    return write(tmp_path / 'report.html', make_answer())


def test_the_page_fetches_nothing(page):
    assert not re.search(r'(src|href)\s*=|url\(|@import|https?://|fetch\(|XMLHttpRequest', page)
    assert "default-src 'none'" in page


def test_names_and_notes_cannot_break_the_page(page):
    assert '<script>alert' not in page
    assert 'a &lt;script&gt;alert(1)&lt;/script&gt; &amp; b.wav' in page
    assert 'something &lt;/script&gt; was lost' in page


def test_nothing_is_left_to_fill_in(page):
    assert not re.search(r'\{\{\w+\}\}', page)


def test_the_head_that_is_drawn_is_the_head_that_was_shown(page):
    answer = make_answer()

    drawn = unpack(data_of(page)['motion'])

    np.testing.assert_allclose(drawn['pitch'], np.rad2deg(answer.neck[:, 0]), atol=1e-3)
    np.testing.assert_allclose(drawn['jaw'], np.rad2deg(answer.jaw), atol=1e-3)
    smile = answer.motion[:, SPACE.index('mouthSmileLeft')]
    np.testing.assert_allclose(drawn['mouthSmileLeft'], smile, atol=1e-4)


def test_the_sound_that_is_played_is_that_of_the_voices(page):
    sound = data_of(page)['audio']

    stored = np.frombuffer(base64.b64decode(sound['user']), np.uint8).astype(float)
    y = (stored - 128) / 127
    samples = np.sign(y) * (256 ** np.abs(y) - 1) / 255

    assert sound['rate'] == 16000
    np.testing.assert_allclose(samples, make_answer().user_voice, rtol=0.03, atol=2e-4)


@pytest.mark.parametrize(('seconds', 'rate'), [(160, 8000), (1300, None)])
def test_longer_recordings_have_less_sound_to_carry(tmp_path, seconds, rate):
    said = make_answer(2.0).user_voice
    motion = np.zeros((25 * seconds, 55), np.float32)
    answer = make_answer(motion=motion, user_voice=said, agent_voice=said)

    sound = data_of(write(tmp_path / 'report.html', answer))['audio']

    assert (sound and sound['rate']) == rate


def test_each_figure_has_a_row_with_the_range_of_people(page):
    assert page.count('<code>') == 25
    row = page[page.index('head_speed_p95') :]
    assert '23 to 57' in row[: row.index('</tr>')]


@pytest.mark.parametrize('seconds', [0.04, 1.0, 2.0])
def test_short_recordings_have_a_page(tmp_path, seconds):
    page = write(tmp_path / 'report.html', make_answer(seconds))

    assert data_of(page)['motion']['n'] == round(25 * seconds)
    assert data_of(page)['spectra'] is None


def test_a_voice_that_is_not_there_is_silent(tmp_path):
    page = write(tmp_path / 'report.html', make_answer(user_voice=np.zeros(0, np.float32)))

    data = data_of(page)

    assert data['speech']['user'] == []
    assert data['envelope']['user'] == ''


def test_the_same_answer_makes_the_same_page(tmp_path):
    first, second = (write(tmp_path / f'{i}.html', make_answer()) for i in range(2))

    assert first == second


def test_user_and_agent_have_the_colors_of_all_pictures(page):
    for voice, color in VOICE_COLORS.items():
        assert f'--{voice}: {color};' in page
