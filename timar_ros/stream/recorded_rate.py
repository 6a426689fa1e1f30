# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whether the voices of a recording were recorded at the rate that they state.

Responsible for judging both voices together: a recording that was made while another was played
twice as fast is no voice of a wrong format. Not for the pace of one stream: that is `stated_rate`.
"""

from collections.abc import Mapping, Sequence

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.own_clock import duration_ns
from timar_ros.stream.stated_rate import StatedRate

_ALIKE = 0.1
# Recorded so much faster than its stamps: written later, at once; only stamps are times then.
_AT_ONCE = 10


def find_wrong_rates(
    openings: Mapping[str, Sequence[tuple[int, AudioPacket]]],
) -> tuple[dict[str, float], list[str]]:
    """
    Look for voices whose stated rate contradicts time.

    Args:
        openings: 'user', 'agent' -> time of recording and packet of its first messages.

    Returns:
        voice -> by which factor its samples come faster than stated, where that is certain; and
        what was noticed, a sentence each.
    """
    factors, notes = {}, []
    for voice, opening in openings.items():
        watch = StatedRate(voice)
        by_stamp = _pace([packet.stamp_ns or 0 for _, packet in opening], opening)
        by_arrival = _pace([received_ns for received_ns, _ in opening], opening)
        is_real = by_arrival is not None and by_arrival < _AT_ONCE * (by_stamp or 1)
        finding = last_count = None
        for received_ns, packet in opening:
            at_ns = received_ns if is_real else 0
            finding = finding or watch.add(packet, at_ns, last_count)
            last_count = packet.first_sample
        if finding is None:
            continue
        others = [_pace([r for r, _ in other], other)
                  for name, other in openings.items() if name != voice]  # fmt: skip
        is_alike = any(pace and abs(pace / watch.factor - 1) < _ALIKE for pace in others)
        if not is_alike or (by_stamp and abs(by_stamp / watch.factor - 1) < _ALIKE):
            factors[voice] = watch.factor
            notes.append(f'{voice} audio: {finding}')
        elif not by_stamp:
            notes.append(
                f'samples of both voices come {watch.factor:.2f} times as fast as stated: the bag '
                'was recorded at that speed, or both formats are stated wrongly; they are placed '
                'by their samples'
            )
    return factors, notes


def _pace(times: Sequence[int], opening: Sequence[tuple[int, AudioPacket]]) -> float | None:
    """Return the sound a second of messages at these times; None where there are none."""
    timed = [(t, duration_ns(packet)) for t, (_, packet) in zip(times, opening, strict=True) if t]
    if len(timed) < 2 or timed[-1][0] <= timed[0][0]:
        return None
    return sum(n for _, n in timed[1:]) / (timed[-1][0] - timed[0][0])
