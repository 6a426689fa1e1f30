# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The teacher: conversations with known behaviour, for `python -m timar_ros.learn.simulate`.

    scripts    what is said, in topics           voices     text -> sound, by programs; cached
    recorded   real speech and real mouths       dialogue   who speaks when; cues
    room       rooms, noise, level, telephone    prosody    loudness and pitch of a voice
    mouth      speech -> mouth, learned          head       a head that speaks, listens, rests
    nods       shapes, answers to cues           gaze       eyes, lids
    style      emotions, attitude, persona       person     all of it for one of the two
    endings    how phrases end                   write      the files of a clip
"""
