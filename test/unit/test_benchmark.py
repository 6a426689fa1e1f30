# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures what it says: both ways compute the same, and the report is whole."""

import json

import pytest
import torch

from timar_ros import benchmark
from timar_ros.config import PRESETS
from timar_ros.model.stages import Stages


@pytest.fixture
def tiny_preset(monkeypatch, make_config):
    """Put a tiny model among the presets: turns of 0.2 s, so that a plan falls on each start."""
    monkeypatch.setitem(PRESETS, 'tiny', make_config('rebuild', frames_per_turn=5))
    return 'tiny'


@pytest.fixture(autouse=True)
def _one_thread():
    yield
    torch.set_num_threads(1)


def test_the_report_is_one_json_object_with_the_agreed_names(tiny_preset, capsys):
    assert (
        benchmark.main(['--preset', tiny_preset, '--turns', '4', '--threads', '1', '--json']) == 0
    )

    report = json.loads(capsys.readouterr().out)
    for way in ('cached', 'full'):
        for name in ('critical_ms', 'without_speech_ms', 'background_ms'):
            times = report[way][name]
            assert list(times) == ['p50', 'p95', 'p99']
            assert 0 <= times['p50'] <= times['p95'] <= times['p99']
        assert report[way]['without_speech_ms']['p50'] < report[way]['critical_ms']['p50']
        assert {'embed', 'transformer', 'head'} <= set(report[way]['stages_ms'])
    assert report['anticipate']['plan_ms']['p50'] > 0
    assert report['anticipate']['open_turns'] == 3
    assert report['real_time_factor'] > 0 and report['anticipate']['real_time_factor'] > 0
    assert 50 < report['peak_rss_mb'] < 20_000
    assert (report['preset'], report['threads'], report['device']) == ('tiny', 1, 'cpu')
    assert (report['dtype'], report['context_turns'], report['turns']) == ('float32', 5, 4)


def test_with_published_positions_both_ways_draw_the_same_motion(tiny_preset):
    report = benchmark.measure(tiny_preset, 3, 'cpu', 'float32', lambda text: None)

    assert 0 < report['max_abs_difference'] < 1e-4


def test_without_json_people_get_a_table(tiny_preset, capsys):
    assert benchmark.main(['--preset', tiny_preset, '--turns', '1', '--threads', '1']) == 0

    told = capsys.readouterr().out
    for word in ('cached critical', 'full without_speech', 'anticipate, a plan', 'peak memory'):
        assert word in told


def test_options_that_make_no_sense_are_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['--turns', '0'])
    assert (
        "argument --turns: expected a whole number from 1 on, got '0'" in capsys.readouterr().err
    )
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit):
            benchmark.main(['--device', 'cuda'])
        assert '--device cuda needs a GPU' in capsys.readouterr().err


def test_stages_add_up_and_leave_the_model_as_it_was(make_model, make_turns):
    model = make_model(is_stub=False)
    stages = Stages(model)
    audio = torch.zeros(1, model.config.samples_per_turn)
    before = dict(vars(model)), dict(vars(model.speech))

    with stages.watch():
        model.speech(audio)

    assert (dict(vars(model)), dict(vars(model.speech))) == before
    assert set(stages.p50()) == {'speech_convolve', 'speech_context', 'other'}
    model.speech(audio)
    assert len(stages._spans['speech_convolve']) == 1
