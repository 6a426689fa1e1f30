# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether the mouth on the screen is in time with the voice: the browser's screen is filmed."""

import time

import numpy as np

from timar_ros.stream.lips import cross_lag

# Half the size of REGIONS['mouth'], as films are.
MOUTH = (slice(131, 176), slice(120, 200))
# The sound at most 40 ms before and 60 ms after the mouth.
EARLIEST_S, LATEST_S = -0.060, 0.040
TAKES = 4  # a machine that is busy with something else shows frames late


def voice_at(t):
    """Return the loudness of a voice, 0..1: syllables at 2.3 Hz, of uneven stress, with pauses."""
    syllables = np.maximum(0.0, np.sin(2 * np.pi * 2.3 * t))
    return syllables * (0.6 + 0.4 * np.sin(2 * np.pi * 0.43 * t + 1)) * (np.sin(2 * t) > -0.6)


def filmed_lag(browser, robot):
    """Return by how much the filmed mouth follows the voice, whose stamps are the system's."""
    begin_ns = robot.perform(lambda t: {'jawOpen': 0.6 * float(voice_at(t))}, 8.0, begin_s=0.5)
    time.sleep(0.3)
    film = browser.film(6.5)
    at = np.array([when for when, _ in film]) - begin_ns / 1e9
    # The inside of a mouth is the only large dark red on this face.
    opening = np.array([np.sum(picture[MOUTH][..., 2] < 90) for _, picture in film], float)
    grid = np.arange(max(at[0], 0.1), min(at[-1], 7.5), 0.01)
    return cross_lag(np.interp(grid, at, opening), voice_at(grid), 100.0, -0.3, 0.3)


def test_the_filmed_mouth_is_in_time_with_the_voice(browser, robot):
    browser.open(f'{robot.server.url}?still&kiosk')

    takes = []
    for _ in range(TAKES):
        takes.append(filmed_lag(browser, robot))
        if EARLIEST_S <= takes[-1].lag_s <= LATEST_S and takes[-1].correlation > 0.6:
            break

    assert EARLIEST_S <= takes[-1].lag_s <= LATEST_S, takes
    assert takes[-1].correlation > 0.6, takes
