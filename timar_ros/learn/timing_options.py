# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Command-line options for when the head plans, the same in every command.

Responsible for their names, ranges and texts. Not for what they do (`TimingConfig`).
"""

import argparse

from timar_ros.bounds import MAX_REPLANS_HZ
from timar_ros.config import TimingConfig
from timar_ros.strict import number, whole_number

_LONGEST_MS = 60_000
_TEXTS = {
    'replan_hz': 'plans a second; 0: one at the start of each turn',
    'hearing_delay_ms': "delay until the user's sound has arrived, its chunks included",
    'agent_lead_ms': "how far ahead the robot's voice is announced",
    'plan_latency_ms': 'time from a planning moment to the first frame of its plan',
    'blend_ms': 'cross-fade from one plan to the next',
}


def add_timing_options(parser: argparse.ArgumentParser, names=tuple(_TEXTS)) -> None:
    """Add options for fields of `TimingConfig` that are numbers: those named, or all."""
    default = TimingConfig()
    for name in names:
        is_rate = name == 'replan_hz'
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=number(0, MAX_REPLANS_HZ) if is_rate else whole_number(0, _LONGEST_MS),
            metavar='HZ' if is_rate else 'MS',
            default=getattr(default, name),
            help=f'{_TEXTS[name]}{"" if is_rate else ", ms"}; %(default)s',
        )


def add_timing_choice(parser: argparse.ArgumentParser) -> None:
    """Add the option `--timing`."""
    parser.add_argument(
        '--timing',
        choices=('anticipate', 'reactive'),
        default=TimingConfig().timing,
        help='plan while the user speaks, or answer each turn when it is over; %(default)s',
    )
