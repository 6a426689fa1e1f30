# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Speech encoded ahead of time is speech encoded at once, in whatever pieces it came."""

import json
import pathlib

import pytest
import torch

from timar_ros.model.speech import LogMelSpeech, Wav2Vec2Speech
from timar_ros.stream.hearing import SpeechAhead

_WAV2VEC2 = pathlib.Path(__file__).parents[1] / 'reference' / 'wav2vec2' / 'config.json'
_S = 16000


class _Counting(torch.nn.Module):
    """Counts the samples that go through an encoder's stages."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.is_local, self.hop = encoder.is_local, encoder.hop
        self.receptive_field = getattr(encoder, 'receptive_field', None)
        self.convolved, self.finished = 0, 0

    def convolve(self, audio):
        self.convolved += audio.shape[1]
        return self.encoder.convolve(audio)

    def contextualise(self, frames):
        self.finished += 1
        return self.encoder.contextualise(frames)

    def forward(self, audio):
        self.finished += 1
        return self.encoder(audio)


def _wav2vec2(**changes):
    torch.manual_seed(0)
    config = {**json.loads(_WAV2VEC2.read_text()), **changes}
    return Wav2Vec2Speech(config, n_frames=25)


def _logmel():
    torch.manual_seed(0)
    return LogMelSpeech(16, 12, 16000, 640).requires_grad_(False)


def _group_norm():
    return _wav2vec2(feat_extract_norm='group', do_stable_layer_norm=False)


_ENCODERS = {'wav2vec2': _wav2vec2, 'wav2vec2 group norm': _group_norm, 'logmel': _logmel}


def _speech(seed=0, batch=1):
    return torch.randn((batch, _S), generator=torch.Generator().manual_seed(seed))


def _heard(audio, n):
    return torch.cat([audio[:, :n], torch.zeros_like(audio[:, n:])], dim=1)


# In float64 the equality is seen without rounding; in float32 norms of near-silence blow it up.
_PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


@pytest.mark.parametrize(('dtype', 'atol'), _PRECISIONS)
@pytest.mark.parametrize('name', _ENCODERS)
def test_features_of_a_growing_turn_equal_encoding_it_whole_each_time(name, dtype, atol):
    encoder = _ENCODERS[name]().to(dtype)
    ahead, audio = SpeechAhead(encoder), _speech()

    for n in (0, 160, 3200, 3201, 9999, 15999, 16000):
        heard = _heard(audio, n)
        features = ahead.features(4, heard)

        torch.testing.assert_close(
            features, encoder(heard), rtol=0, atol=atol, msg=lambda m, n=n: f'{n} heard: {m}'
        )


@pytest.mark.parametrize('name', _ENCODERS)
def test_features_do_not_depend_on_how_the_audio_came_in(name):
    encoder, audio = _ENCODERS[name](), _speech()
    piecewise = SpeechAhead(encoder)

    for n in (37, 1000, 5000, 5001, 14000):
        piecewise.listen(0, _heard(audio, n))

    assert torch.equal(piecewise.features(0, audio), SpeechAhead(encoder).features(0, audio))


def test_a_changed_past_is_encoded_anew():
    encoder, audio = _wav2vec2(), _speech()
    ahead = SpeechAhead(encoder)
    ahead.features(0, audio)

    late = audio.clone()
    late[:, 2000:2160] = 0.5  # a lost chunk that came after all
    features = ahead.features(0, late)

    torch.testing.assert_close(features, encoder(late), rtol=0, atol=1e-5)
    assert (features - ahead.features(1, audio)).abs().max() > 1e-3


def test_audio_changed_in_place_after_the_call_is_noticed():
    encoder, audio = _wav2vec2(), _speech()
    ahead = SpeechAhead(encoder)
    ahead.features(0, audio)

    audio[:, 100] += 3.0

    torch.testing.assert_close(ahead.features(0, audio), encoder(audio), rtol=0, atol=1e-5)


def test_only_the_samples_that_came_in_are_convolved():
    counting, audio = _Counting(_wav2vec2()), _speech()
    ahead = SpeechAhead(counting)
    ahead.listen(0, _heard(audio, 12800))
    before = counting.convolved

    ahead.features(0, audio)

    assert counting.convolved - before <= 3200 + 2 * (7 * 320 + 80)


def test_the_same_audio_is_not_encoded_twice():
    for make in _ENCODERS.values():
        counting = _Counting(make())
        ahead = SpeechAhead(counting)
        first = ahead.features(0, _speech())
        done = (counting.convolved, counting.finished)

        second = ahead.features(0, _speech())

        assert torch.equal(first, second)
        assert (counting.convolved, counting.finished) == done


def test_silence_is_encoded_once_for_all_turns():
    counting = _Counting(_wav2vec2())
    ahead = SpeechAhead(counting)
    ahead.features(0, torch.zeros(1, _S))
    done = (counting.convolved, counting.finished)

    ahead.features(1, torch.zeros(1, _S))

    assert (counting.convolved, counting.finished) == done


def test_turns_are_kept_apart_and_forgotten_on_demand():
    encoder = _wav2vec2()
    counting = _Counting(encoder)
    ahead = SpeechAhead(counting)
    for turn in range(3):
        ahead.features(turn, _speech(turn))

    ahead.forget_before(2)
    finished = counting.finished
    kept = ahead.features(2, _speech(2))

    assert counting.finished == finished
    torch.testing.assert_close(kept, encoder(_speech(2)), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        ahead.features(0, _speech(0)), encoder(_speech(0)), rtol=0, atol=1e-5
    )
    assert counting.finished == finished + 1


def test_a_batch_is_encoded_as_its_rows_alone():
    encoder, audio = _wav2vec2(), _speech(batch=2)

    both = SpeechAhead(encoder).features(0, audio)

    for row in range(2):
        alone = SpeechAhead(encoder).features(0, audio[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    'audio', [torch.zeros(_S), torch.zeros(1, _S, dtype=torch.float64)], ids=['rank', 'type']
)
def test_audio_of_another_form_is_refused(audio):
    with pytest.raises(ValueError, match=r'audio must be float32 \[B, S\] on the CPU, got'):
        SpeechAhead(_logmel()).features(0, audio)
