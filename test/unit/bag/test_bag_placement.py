# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The same bag is placed alike by evaluate, by replay and by the rules of a live voice."""

import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.nodes.recording_bag import BagRecording
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.bag_topics import Topics
from timar_ros.stream.buffer import VoiceTrack, index_of
from timar_ros.stream.ingest import VoiceIngest

RATE_HZ = 16_000
WALL_S = 1_700_000_000
RAW = (
    'builtin_interfaces/Time timestamp\nuint8[] data\nstring format\nuint32 sample_rate\n'
    'uint32 number_of_channels'
)
CLOCKS = {  # clock of the stamps when the conversation begins, clock of the recorder, s
    'wall': (WALL_S, WALL_S),
    'simulated from 0': (0, 0),
    'simulated': (54, 54),
    'simulated, recorded on the wall': (7, WALL_S),
    'wall, recorded in simulated time': (WALL_S, 7),
}


def smooth(seed, seconds, rate_hz):
    """Make a voice below 300 Hz, int16 `[n]`: a sample's shift changes it by a few percent."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = [np.sin(2 * np.pi * f * t + p) for f, p in rng.uniform((60, 0), (300, 6), (6, 2))]
    return np.rint(3000 * sum(tones)).astype(np.int16)


class Talk:
    """Writes a random conversation, and keeps its messages as a live node would get them."""

    def __init__(self, bags, path, seed, clock):
        self._bags, self.path = bags, path
        self._rng = np.random.default_rng(seed)
        self.base_ns, self.log_base_ns = (round(s * 10**9) for s in CLOCKS[clock])
        self.messages = []  # time of recording, topic, type, fields
        self.writer = bags.Writer(path, 'mcap', bags.definitions | {
            'foxglove_msgs/msg/RawAudio': RAW,
        })  # fmt: skip

    def add_user(self, is_counted, stamps, rate_hz, chunk_ms, holes):
        """Stamps are good, zero, zero at first, jitter, scatter or arrival."""
        rng, samples = self._rng, smooth(1, 4.0, rate_hz)
        n = rate_hz * chunk_ms // 1000
        for i, start in enumerate(range(0, len(samples), n)):
            piece = samples[start : start + n]
            at_ns = start * 10**9 // rate_hz
            end_ns = at_ns + len(piece) * 10**9 // rate_hz
            arrived_ns = end_ns + int(rng.integers(200_000, 4_000_000))
            stamp_ns = self.base_ns + at_ns
            if stamps == 'jitter':
                stamp_ns += int(rng.integers(-8_000_000, 8_000_000)) if i else 0
            if stamps == 'scatter':
                stamp_ns += int(rng.integers(-26_000_000, 49_000_000))
            if stamps == 'arrival':
                stamp_ns = self.base_ns + arrived_ns - 100_000
            if stamps == 'zero' or (stamps == 'zero at first' and i < 7):
                stamp_ns = 0
            if holes and i > 20 and i % 17 < holes:
                continue
            data = np.frombuffer(piece.tobytes(), np.uint8)
            self._add('/user/audio', self.log_base_ns + arrived_ns, is_counted, stamp_ns, 0,
                      start, rate_hz, data)  # fmt: skip

    def add_agent(self, is_counted, lead_ms):
        samples = smooth(2, 3.0, RATE_HZ)
        for start in range(0, len(samples), 320):
            at_ns = 700_000_000 + start * 10**9 // RATE_HZ
            if 16_000 <= start < 32_000:
                continue  # a pause between utterances
            sent_ns = at_ns - lead_ms * 1_000_000
            data = np.frombuffer(samples[start : start + 320].tobytes(), np.uint8)
            self._add('/agent/audio', self.log_base_ns + sent_ns + 300_000, is_counted,
                      self.base_ns + at_ns, self.base_ns + sent_ns,
                      start, RATE_HZ, data)  # fmt: skip

    def _add(self, topic, received_ns, is_counted, stamp_ns, sent_ns, count, rate_hz, data):
        make = self.writer
        if is_counted:
            fields = {
                'header': make.header(stamp_ns),
                'sample_rate': rate_hz,
                'channels': 1,
                'encoding': 'pcm_s16le',
                'first_sample': count,
                'sent': make.time(sent_ns),
                'data': data,
            }
            kind = 'timar_ros/msg/AudioChunk'
        else:
            fields = {
                'timestamp': make.time(stamp_ns),
                'data': data,
                'format': 'pcm-s16',
                'sample_rate': rate_hz,
                'number_of_channels': 1,
            }
            kind = 'foxglove_msgs/msg/RawAudio'
        self.messages.append((received_ns, topic, kind, fields))

    def write(self):
        self.messages.sort(key=lambda message: message[0])
        with self.writer as writer:
            for received_ns, topic, kind, fields in self.messages:
                writer.write(topic, kind, received_ns, **fields)
        return self

    def packets(self, voice):
        """Return arrival and packet of what a live node would have got."""
        return [
            (received_ns, packet_from_fields(self.writer.make(kind, **fields)))
            for received_ns, topic, kind, fields in self.messages
            if topic == f'/{voice}/audio'
        ]


def compose(voice, packets, begin_ns, n):
    """Put packets on a track by the live rules: float32 `[n]` and bool `[n]`."""
    track = VoiceTrack(max_span=2**62)
    ingest = VoiceIngest(voice, track)
    for arrival_ns, packet in packets:
        ingest.push(packet, arrival_ns)
    return track.read(index_of(begin_ns), n)


def replayed(path, voice):
    """Return arrival and packet of what replay publishes, on the clock of the bag."""
    recording = BagRecording(path, Topics())
    events = recording.events(recording.begin_ns, 0, 160)
    return recording, [
        (recording.begin_ns + event.at_ns, packet_from_fields(event.msg))
        for event in events
        if event.topic == f'{voice}/audio'
    ]


def check_alike(bags, talk, is_live_known=True):
    """Compare the three readings, sample for sample; return evaluate's."""
    recording = bags.read(talk.path)
    for voice in recording.voices:
        said = recording.voices[voice]
        n, begin_ns = len(said.samples), recording.begin_ns
        replay, packets = replayed(talk.path, voice)
        assert replay.begin_ns == begin_ns
        samples, is_present = compose(voice, packets, begin_ns, n)
        assert_array_equal(is_present, said.is_present, err_msg=voice)
        assert_array_equal(samples, said.samples, err_msg=voice)
        if is_live_known:
            samples, is_present = compose(voice, talk.packets(voice), begin_ns, n)
            # holes may end a sample earlier or later
            assert (is_present != said.is_present).sum() <= 40, voice
            both = is_present & said.is_present
            assert (np.abs(samples - said.samples)[both] > 0.03).sum() <= 40, voice
    return recording


def check_truth(recording, voice, samples, begin_ns):
    """Check that a voice is heard as it was said, all of it by the same 0 to 4 ms late."""
    said = recording.voices[voice]
    assert said.is_present.all()
    late = index_of(recording.begin_ns) - index_of(begin_ns)
    assert 0 <= late <= 4 * RATE_HZ // 1000
    assert_array_equal(said.samples, samples / 32768)


@pytest.mark.parametrize('clock', CLOCKS)
@pytest.mark.parametrize('is_counted', [True, False])
@pytest.mark.parametrize('stamps', ['good', 'zero', 'zero at first', 'jitter'])
def test_a_voice_is_heard_at_its_time_whatever_the_clocks(
    bags, tmp_path, clock, is_counted, stamps
):
    talk = Talk(bags, tmp_path / 'bag', 0, clock)
    talk.add_user(is_counted, stamps, RATE_HZ, 20, 0)
    talk.add_agent(True, 160)
    talk.write()

    # live, stamps of another clock than the node's cannot be told from late ones
    recording = check_alike(bags, talk, is_live_known='recorded' not in clock)

    begin_ns = talk.base_ns
    if 'recorded' in clock and stamps == 'zero':
        begin_ns = talk.log_base_ns  # by the recorder's clock, as nothing else is known of it
    assert recording.voices['user'].is_present.sum() == 4 * RATE_HZ
    check_truth(recording, 'user', smooth(1, 4.0, RATE_HZ), begin_ns)
    assert abs(float(recording.length_s) - 4.0) < 0.01


@pytest.mark.parametrize('seed', range(16))
def test_random_conversations_are_placed_alike(bags, tmp_path, seed):
    rng = np.random.default_rng(100 + seed)
    clock = ['wall', 'simulated from 0', 'simulated'][seed % 3]
    talk = Talk(bags, tmp_path / 'bag', seed, clock)
    is_counted = bool(rng.integers(2))
    stamps = rng.choice(['good', 'zero', 'zero at first', 'jitter', 'scatter', 'arrival'])
    rate_hz, chunk_ms = (
        int(rng.choice([8_000, 16_000, 44_100, 48_000])),
        int(rng.choice([10, 20, 64, 90])),
    )
    holes = int(rng.choice([0, 2, 5]))
    talk.add_user(is_counted, stamps, rate_hz, chunk_ms, holes)
    talk.add_agent(True, int(rng.choice([0, 160, 600])))

    # a live voice learns later what a recording knows from the start, and moves what it has
    learns = stamps in ('arrival', 'scatter') or (stamps == 'jitter' and holes and not is_counted)
    check_alike(bags, talk.write(), is_live_known=not learns)


@pytest.mark.parametrize('is_counted', [True, False])
@pytest.mark.parametrize('chunk_ms', [64, 90])
def test_stamps_of_the_arrival_are_moved_to_the_capture_and_said_once(
    bags, tmp_path, is_counted, chunk_ms
):
    talk = Talk(bags, tmp_path / 'bag', 0, 'wall')
    talk.add_user(is_counted, 'arrival', RATE_HZ, chunk_ms, 0)
    talk.add_agent(True, 160)

    recording = check_alike(bags, talk.write(), is_live_known=False)

    check_truth(recording, 'user', smooth(1, 4.0, RATE_HZ), talk.base_ns)
    (note,) = [note for note in recording.notes if 'arrival' in note]
    assert f'{chunk_ms} ms' in note


def test_a_robot_that_announces_what_it_says_is_not_taken_for_stamped_on_arrival(bags, tmp_path):
    talk = Talk(bags, tmp_path / 'bag', 0, 'wall')
    talk.add_user(True, 'good', RATE_HZ, 20, 0)
    talk.add_agent(False, 2_500)

    recording = check_alike(bags, talk.write())

    first = index_of(talk.base_ns + 700_000_000) - index_of(recording.begin_ns)
    said = recording.voices['agent']
    assert_array_equal(np.flatnonzero(said.is_present)[0], first)
    assert_array_equal(
        said.samples[first : first + 16_000], smooth(2, 3.0, RATE_HZ)[:16_000] / 32768
    )
    assert recording.notes == ()


@pytest.mark.parametrize('pace', [0.4, 1.0, 2.5])
def test_a_position_is_found_in_simulated_time_of_any_pace(bags, tmp_path, pace):
    samples = smooth(1, 60.0, 4_000)
    with bags.Writer(tmp_path / 'bag', 'mcap', bags.definitions) as bag:
        for start in range(0, len(samples), 400):
            at_ns = start * 10**9 // 4_000
            data = np.frombuffer(samples[start : start + 400].tobytes(), np.uint8)
            received_ns = WALL_S * 10**9 + round((at_ns + 10**8) * pace)
            bag.write(
                '/user/audio', 'timar_ros/msg/AudioChunk', received_ns,
                header=bag.header(7 * 10**9 + at_ns), sample_rate=4_000, channels=1,
                encoding='pcm_s16le', first_sample=start, sent=bag.time(0), data=data,
            )  # fmt: skip
    recording = BagRecording(tmp_path / 'bag', Topics())

    events = list(recording.events(0, 40 * 10**9, 400))

    assert recording.begin_ns == 7 * 10**9
    assert recording.duration_ns == 60 * 10**9
    assert [event.end_ns for event in events] == [40 * 10**9 + (i + 1) * 10**8 for i in range(200)]


def test_a_recording_lasts_until_its_last_sound_whatever_was_logged_before_the_clock_ran(
    bags, tmp_path
):
    talk = Talk(bags, tmp_path / 'bag', 0, 'simulated')
    talk.add_user(False, 'good', RATE_HZ, 20, 0)
    talk.add_agent(True, 160)
    talk.messages = [
        (
            0 if kind.endswith('RawAudio') and received < 54_200_000_000 else received,
            topic,
            kind,
            f,
        )
        for received, topic, kind, f in talk.messages
    ]

    recording = check_alike(bags, talk.write(), is_live_known=False)

    check_truth(recording, 'user', smooth(1, 4.0, RATE_HZ), talk.base_ns)
    assert BagRecording(talk.path, Topics()).duration_ns == 4 * 10**9
