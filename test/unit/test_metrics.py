# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The published figures: equal to the reference's numbers, and to what made-up clips must give."""

import json
import pathlib

import numpy as np
import pytest
import sklearn

from timar_ros.learn import metrics
from timar_ros.motion import get_space

_REFERENCE = pathlib.Path(__file__).parents[1] / 'reference'
# The k-means of older scikit-learn starts elsewhere.
_HAS_PUBLISHED_K_MEANS = tuple(map(int, sklearn.__version__.split('.')[:2])) >= (1, 8)


def _reference_clips():
    arrays = np.load(_REFERENCE / 'metrics.npz')
    return arrays['prediction'], arrays['ground_truth'], arrays['partner']


def test_every_figure_equals_the_published_implementation():
    expected = json.loads((_REFERENCE / 'metrics.json').read_text())

    figures = metrics.evaluate_clip(*_reference_clips(), get_space('flame56'))

    assert sorted(figures) == sorted(expected)
    for name, value in expected.items():
        if 'sid' not in name or _HAS_PUBLISHED_K_MEANS:
            assert figures[name] == pytest.approx(value, abs=1e-6, rel=0), name


def test_clips_are_cut_to_the_shortest():
    prediction, ground_truth, partner = _reference_clips()
    shortest = min(len(prediction), len(ground_truth), len(partner))
    space = get_space('flame56')

    cut = metrics.evaluate_clip(
        prediction[:shortest], ground_truth[:shortest], partner[:shortest], space
    )

    assert cut == metrics.evaluate_clip(prediction, ground_truth, partner, space)


def test_a_space_without_jaw_channels_has_no_jaw_figures():
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(60, 55)).astype(np.float32)

    figures = metrics.evaluate_clip(clip, clip, clip[::-1], get_space('arkit55'))

    assert {name.split('_')[-1] for name in figures} == {'exp', 'pose'}
    assert figures['mse_exp'] == 0.0


def test_frechet_distance_of_two_gaussians_on_axes_is_known():
    rng = np.random.default_rng(1)
    frames = rng.normal(size=(5000, 3))
    frames = (frames - frames.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(frames.T))).T
    scale, shift = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -1.0])

    distance = metrics.frechet_distance(frames * scale + shift, frames)

    assert distance == pytest.approx((shift**2).sum() + ((scale - 1) ** 2).sum(), rel=1e-9)


def test_frechet_distance_of_a_motionless_clip_is_the_spread_of_the_other():
    rng = np.random.default_rng(2)
    frames = rng.normal(size=(40, 50))
    still = np.repeat(frames.mean(0, keepdims=True), 40, 0)

    assert metrics.frechet_distance(still, frames) == pytest.approx(np.trace(np.cov(frames.T)))


def test_diversity_is_the_entropy_of_visited_clusters():
    corners = np.eye(4) * 10
    reference = np.repeat(corners, 5, 0)

    even = metrics.diversity_index(reference, reference, 4)
    half = metrics.diversity_index(reference[:10], reference, 4)
    still = metrics.diversity_index(reference[:5], reference, 4)

    assert [even, half, still] == pytest.approx([2.0, 1.0, 0.0], abs=1e-4)


def test_residual_correlation_of_a_motionless_prediction_is_the_real_correlation():
    ground_truth = np.arange(8.0).reshape(4, 2)

    residual = metrics.residual_correlation(np.ones((4, 2)), ground_truth, -ground_truth)

    assert residual == pytest.approx(1.0)


def test_temporal_similarity_ignores_a_constant_offset_and_sees_a_change():
    rng = np.random.default_rng(3)
    clip = rng.normal(size=(20, 4))
    stepped = clip.copy()
    stepped[10:, 0] += 1.0

    assert metrics.temporal_similarity(clip + 5.0, clip) == pytest.approx(0.0, abs=1e-9)
    assert metrics.temporal_similarity(stepped, clip) == pytest.approx(np.sqrt(1 / 0.1))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda clip: clip[:, :55],
            r'prediction must be \[frames, 56\] \(flame56\), got \[250, 55\]',
        ),
        (lambda clip: np.where(clip == clip[3, 3], np.nan, clip), 'prediction must be finite'),
        (lambda clip: clip[:20], 'SID needs at least 40 reference frames'),
    ],
)
def test_bad_clips_are_refused_by_name(change, message):
    prediction, ground_truth, partner = _reference_clips()

    with pytest.raises(ValueError, match=message):
        metrics.evaluate_clip(change(prediction), ground_truth, partner, get_space('flame56'))
