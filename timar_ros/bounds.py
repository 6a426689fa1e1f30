# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The most that is accepted from messages, files and devices.

Every reader checks these before it allocates or computes anything. Larger values are refused with
the bound in the message; frames of plans and samples are cut or clipped, and counted.
"""

SAMPLE_RATES_HZ = (4_000, 384_000)  # lowest and highest rate of a voice
MAX_CHANNELS = 16  # interleaved, of one voice
MAX_VOICE_MESSAGE_BYTES = 4_000_000  # one message of user/audio or agent/audio
MAX_UTTERANCE_MESSAGE_BYTES = 64_000_000  # one message of speaker/utterance
MAX_UTTERANCE_S = 600  # one utterance, all of its messages
MAX_PLAN_FRAMES = 3_000  # of one HeadMotionPlan: two minutes at 25 fps; the rest is cut
MAX_SAMPLE = 4.0  # times full scale; what lies beyond is clipped
MAX_FILE_SAMPLES = 10**9  # of one recording, all channels: 17 hours at 16 kHz
MAX_BAG_RECORD_BYTES = 2**28  # one chunk or message of a bag, unpacked
MAX_ARRAYS_BYTES = 2**29  # all arrays of one npz, unpacked
