# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What comes late is missed by the plans that should have heard it, and counted."""

import numpy as np
import pytest

from timar_ros.config import TimingConfig
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.conversation import Conversation

RATE, CHUNK = 16000, 640  # a frame
MS = 1_000_000
# Moments each 80 ms, a turn of 4 frames is 160 ms.
TIMING = TimingConfig(
    replan_hz=12.5, hearing_delay_ms=80, agent_lead_ms=160, plan_latency_ms=40, blend_ms=80
)


def converse(model, late_ms):
    """Play 2 s of the user, whose sixth frame comes so much later than the others."""
    rng = np.random.default_rng(1)
    samples = (0.1 * rng.standard_normal(2 * RATE)).astype(np.float32)
    arrivals = []
    for i, start in enumerate(range(0, len(samples), CHUNK)):
        packet = AudioPacket(i * 40 * MS, start, None, RATE, samples[start : start + CHUNK, None])
        arrivals.append(((i + 1) * 40 * MS + (late_ms * MS if i == 5 else 0), packet))
    arrivals.sort(key=lambda item: item[0])
    conversation, plans = Conversation(model, TIMING), []
    moment = conversation.next_plan_ns(0)
    while moment <= 2 * 10**9:
        while arrivals and arrivals[0][0] <= moment:
            arrival_ns, packet = arrivals.pop(0)
            conversation.push_audio('user', packet, arrival_ns)
        plan = conversation.plan(moment)
        if plan is not None:
            conversation.accept(plan)
            plans.append(plan.motion)
        conversation.settle()
        moment = conversation.next_plan_ns(moment + 1)
    return plans, conversation.counters()


@pytest.mark.parametrize(('late_ms', 'n_plans'), [(0, 0), (40, 0), (120, 1), (200, 2)])
def test_each_plan_that_misses_a_frame_counts_it(make_model, late_ms, n_plans):
    model = make_model(cache='banded', history='masked', level='causal')

    plans, counters = converse(model, late_ms)

    # the frame ends at 240 ms and counts from the moment at 320 ms on; at 400 ms its turn is over
    missed = counters['late_user_frames'], counters['missing_user_frames']
    assert missed == (min(n_plans, 1), max(n_plans - 1, 0))
    in_time, _ = converse(model, 0)
    changed = [not np.array_equal(a, b) for a, b in zip(plans, in_time, strict=True)]
    assert any(changed) == (n_plans > 0)
