# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configurations round-trip, know their sizes, and refuse what they do not know."""

import dataclasses

import pytest
import yaml

from timar_ros.config import (
    PRESETS,
    SamplingConfig,
    TimarConfig,
    TimingConfig,
    TrainConfig,
)
from timar_ros.config_file import from_dict, load_yaml, to_dict


def test_the_defaults_are_the_published_large():
    config = TimarConfig()

    assert (config.width, config.n_layers, config.n_heads) == (1024, 32, 16)
    assert (config.samples_per_turn, config.tokens_per_turn, config.n_channels) == (16000, 110, 56)
    assert (config.max_turns, config.turn_s, config.history) == (8, 1.0, 'masked')
    assert SamplingConfig() == SamplingConfig(5, 1.0, 1.0, 1, True, None)


@pytest.mark.parametrize('preset', PRESETS)
def test_a_configuration_survives_yaml(preset, tmp_path):
    path = tmp_path / 'model.yaml'
    path.write_text(yaml.safe_dump(to_dict(PRESETS[preset])))

    assert load_yaml(TimarConfig, path) == PRESETS[preset]


@pytest.mark.parametrize('cls', [SamplingConfig, TimingConfig, TrainConfig])
def test_every_configuration_round_trips(cls):
    assert from_dict(cls, to_dict(cls()), 'here') == cls()


def test_a_whole_number_serves_where_a_float_is_meant():
    assert from_dict(TimingConfig, {'replan_hz': 10}, 'here').replan_hz == 10.0


@pytest.mark.parametrize(
    ('cls', 'mapping', 'told'),
    [
        (TimarConfig, {'n_head': 4}, "^a.yaml: unknown key 'n_head'; did you mean 'n_heads'?"),
        (TimingConfig, {'xyz': 4}, "^a.yaml: unknown key 'xyz'; known: timing, replan_hz"),
        (TimarConfig, {'n_heads': '4'}, "^a.yaml: n_heads must be int, got '4'"),
        (TimarConfig, {'n_heads': 4.0}, 'n_heads must be int, got 4.0'),
        (TrainConfig, {'steps': True}, 'steps must be int, got True'),
        (SamplingConfig, {'context_turns': 'all'}, 'context_turns must be int or NoneType'),
        (TimarConfig, ['n_heads'], r'^a.yaml: expected a mapping of keys to values, got \['),
        (
            TimarConfig,
            {'cache': 'rebild'},
            "must be one of rebuild, .* got 'rebild'; did you mean",
        ),
        (TimarConfig, {'motion_space': 'flame'}, "unknown motion space 'flame'"),
        (
            TimarConfig,
            {'noise_scales': {'jaw_x': -1}},
            r"noise_scales\['jaw_x'\] must be at least 0",
        ),
        (
            TimarConfig,
            {'noise_scales': {'jawx': 1.0}},
            "has no channel 'jawx'; did you mean 'jaw_x'",
        ),
        (TimarConfig, {'width': 100}, 'width must be a multiple of n_heads, got 100 and 16'),
        (TimarConfig, {'fps': 30}, 'fps must divide 16000.* got 30'),
        (TimarConfig, {'max_turns': 0}, 'max_turns must be at least 1, got 0'),
        (TimarConfig, {'cache': 'banded'}, "'banded' and positions 'turn' need each other"),
        (TimarConfig, {'positions': 'turn'}, "got 'rebuild', 'turn'"),
        (SamplingConfig, {'steps': 1}, 'steps must be at least 2, got 1'),
        (SamplingConfig, {'temperature': float('nan')}, 'temperature must be at least 0'),
        (
            TimingConfig,
            {'agent_lead_ms': 279},
            r'agent_lead_ms must be at least .* = 280, got 279',
        ),
        (TimingConfig, {'replan_hz': -1.0}, 'replan_hz must be at least 0, got -1.0'),
        (TimingConfig, {'replan_hz': 101.0}, 'replan_hz must be at most 100, got 101.0'),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_fix(cls, mapping, told):
    with pytest.raises(ValueError, match=told):
        from_dict(cls, mapping, 'a.yaml')


def test_a_lead_that_lips_need_is_not_asked_of_the_reactive_protocol():
    assert TimingConfig(timing='reactive', agent_lead_ms=0).agent_lead_ms == 0
    with pytest.raises(ValueError, match='raise agent_lead_ms or replan_hz'):
        TimingConfig(agent_lead_ms=0)


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    path = tmp_path / 'broken.yaml'
    path.write_text('a: [1, 2')

    with pytest.raises(ValueError, match='broken.yaml: not valid YAML'):
        load_yaml(TimarConfig, path)
    with pytest.raises(FileNotFoundError):
        load_yaml(TimarConfig, tmp_path / 'none.yaml')


def test_configurations_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TimarConfig().width = 3


def test_windows_in_time_come_from_lists_and_must_be_in_order():
    windows = {'positions': 'turn', 'cache': 'banded', 'nearness': [[-1, 1], []]}

    assert from_dict(TimarConfig, windows, 'x').nearness == ((-1, 1), ())
    with pytest.raises(ValueError, match=r'nearness takes \[first, last\] frames or \[\], got'):
        from_dict(TimarConfig, windows | {'nearness': [[3, 1]]}, 'x')
    with pytest.raises(ValueError, match='x: nearness must be a list of int, got'):
        from_dict(TimarConfig, windows | {'nearness': [[0.5, 1]]}, 'x')
    with pytest.raises(ValueError, match='x: nearness must be a list of list, got True'):
        from_dict(TimarConfig, windows | {'nearness': True}, 'x')
