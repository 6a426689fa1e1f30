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
MAX_PACKET_S = 60  # of sound in one message of a voice
MAX_UTTERANCE_MESSAGE_BYTES = 64_000_000  # one message of speaker/utterance
MAX_UTTERANCE_S = 600  # speech that waits to be spoken: an utterance sent at once
MAX_PLAN_FRAMES = 3_000  # of one HeadMotionPlan: two minutes at 25 fps; the rest is cut
MAX_REPLANS_HZ = 100  # plans a second
MAX_SAMPLE = 4.0  # times full scale; what lies beyond is clipped
MAX_CHECKPOINT_VALUES = 4 * 10**9  # numbers in one file of weights
MAX_FILE_SAMPLES = 10**9  # of one recording, all channels: 17 hours at 16 kHz
MAX_RECORDING_S = 86_400  # from the begin of a recorded conversation to its end
MAX_BAG_RECORD_BYTES = 2**28  # one chunk or message of a bag, unpacked
MAX_ARRAYS_BYTES = 2**29  # all arrays of one npz, unpacked

# What a file of weights may ask for: lowest and highest of each size.
MODEL_SIZES = {
    'fps': (1, 1_000),
    'frames_per_turn': (1, 1_000),
    'sample_rate_hz': (1, SAMPLE_RATES_HZ[1]),
    'max_turns': (1, 1_000),
    'speech_width': (1, 65_536),
    'mel_bands': (1, 1_024),
    'token_width': (2, 65_536),
    'width': (1, 65_536),
    'n_layers': (1, 1_000),
    'n_heads': (1, 1_024),
    'denoiser_width': (1, 65_536),
    'denoiser_blocks': (1, 1_000),
}
MAX_WINDOW_TOKENS = 32_768  # of all turns of a window
MAX_MODEL_FACTOR = 1_000  # of temperatures, spreads and frames of memory
MAX_MODEL_NAMES = 1_000  # of personas, and of windows of attention heads
