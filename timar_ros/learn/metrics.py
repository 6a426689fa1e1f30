# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The published figures of head-motion generation, as pure functions on arrays.

Every array is frames by channels, `[T, C]`, in the raw units of its motion space. This file
knows formulas; it refuses to know files, models and what a good value is. NOTE: FD, P-FD, MSE
and SID are blind to timing: the ground truth delayed by one second scores near perfect on FD and
SID, and a motionless mean face scores like TIMAR on FD and MSE. Never judge by them alone;
`behaviour.py` holds the figures that see timing.

Source: TIMAR (arXiv 2512.15340) and DualTalk, whose evaluation code it uses.
"""

import numpy as np

from timar_ros.motion import MotionSpace

# Clusters of the k-means behind SID, by the short name of the group of channels.
_N_CLUSTERS = {'exp': 40, 'jaw': 10, 'pose': 10}


def frechet_distance(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """
    Compare the distributions of frames of two clips (FD; 0 = equal mean and covariance).

    Formula: |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), covariances with ddof 1.

    Args:
        prediction: frames `[T1, C]`.
        ground_truth: frames `[T2, C]`.

    Returns:
        The squared distance, in squared units of the channels.

    Raises:
        ValueError: wrong rank, different channels, or fewer than two frames.

    Source: Dowson and Landau 1982; Heusel et al. 2017. The trace of the root is taken from the
        eigenvalues of the symmetric S1^½ S2 S1^½, which are those of S1 S2, so that a motionless
        clip is no special case.
    """
    _check_pair(prediction, ground_truth, same_length=False)
    mean_difference = prediction.mean(0) - ground_truth.mean(0)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (prediction, ground_truth))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0.0, None)).sum()
    distance = mean_difference @ mean_difference + np.trace(first) + np.trace(second) - 2 * cross
    return float(distance)


def paired_frechet_distance(
    prediction: np.ndarray, ground_truth: np.ndarray, partner: np.ndarray
) -> float:
    """
    Compare the distributions of frames joined with the partner's (P-FD).

    Formula: FD of `[prediction | partner]` and `[ground_truth | partner]`, joined along channels.

    Args:
        prediction: frames `[T, C]`.
        ground_truth: frames `[T, C]`.
        partner: the other person's frames `[T, C]` at the same moments.

    Raises:
        ValueError: the shapes differ, or there are fewer than two frames.

    Source: TIMAR §4; Ng et al. 2022.
    """
    _check_pair(prediction, ground_truth)
    _check_pair(prediction, partner)
    return frechet_distance(
        np.concatenate([prediction, partner], 1), np.concatenate([ground_truth, partner], 1)
    )


def mean_squared_error(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """
    Average the squared difference over frames and channels (MSE).

    Formula: mean over t, c of (p[t,c] - g[t,c])².

    Args:
        prediction: frames `[T, C]`.
        ground_truth: frames `[T, C]`.

    Raises:
        ValueError: the shapes differ.

    Source: TIMAR §4.
    """
    _check_pair(prediction, ground_truth)
    return float(((prediction - ground_truth) ** 2).mean())


def diversity_index(frames: np.ndarray, reference: np.ndarray, n_clusters: int) -> float:
    """
    Measure how evenly frames visit the poses of a reference clip (SID, bits).

    Formula: -Σ_k h_k log2(h_k + 1e-6), h = histogram of `frames` over the k-means clusters of
    `reference` (random_state 0, n_init 'auto'). With prediction and ground truth exchanged it is
    the reverse SID.

    Args:
        frames: frames `[T1, C]` that are counted.
        reference: frames `[T2, C]` that make the clusters.
        n_clusters: 40 for expression, 10 for jaw and for neck in the published tables.

    Returns:
        Entropy, between 0 (one cluster) and log2(n_clusters).

    Raises:
        ValueError: wrong shapes, or fewer reference frames than clusters.

    Source: Ng et al. 2022; TIMAR §4. Exact published values need Python 3.11 and scikit-learn 1.9.
    """
    _check_pair(frames, reference, same_length=False)
    if len(reference) < n_clusters:
        raise ValueError(
            f'SID needs at least {n_clusters} reference frames, one a cluster, '
            f'got {len(reference)}; take a longer clip'
        )
    from sklearn.cluster import KMeans

    clusters = KMeans(n_clusters=n_clusters, random_state=0, n_init='auto').fit(reference)
    histogram = np.bincount(clusters.predict(frames), minlength=n_clusters) / len(frames)
    return float(-(histogram * np.log2(histogram + 1e-6)).sum())


def temporal_similarity(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """
    Compare the frame-to-frame changes of two clips (STS; 0 = equal changes).

    Formula: sqrt(Σ_c Σ_t ((g[t+1,c] - g[t,c]) - (p[t+1,c] - p[t,c]))² / 0.1). It grows with the
    clip's length.

    Args:
        prediction: frames `[T, C]`.
        ground_truth: frames `[T, C]`.

    Raises:
        ValueError: the shapes differ, or there are fewer than two frames.

    Source: DualTalk §4. Summed one by one in the arrays' own precision, channel after channel,
        as the published code does: float32 rounds differently in any other order (2e-6 on 50
        channels).
    """
    _check_pair(prediction, ground_truth)
    change = np.diff(ground_truth, axis=0) - np.diff(prediction, axis=0)
    terms = (change**2 / change.dtype.type(0.1)).T.ravel()
    return float(np.sqrt(np.cumsum(terms, dtype=terms.dtype)[-1]))


def mean_variance(frames: np.ndarray) -> float:
    """
    Average the channels' variances over time.

    Formula: mean over c of var over t (ddof 0).

    Args:
        frames: frames `[T, C]`.

    Source: DualTalk §4.
    """
    return float(frames.var(0).mean())


def residual_correlation(
    prediction: np.ndarray, ground_truth: np.ndarray, partner: np.ndarray
) -> float:
    """
    Tell how far the pairing with the partner is from the real pairing (rPCC; 0 = as real).

    Formula: |corr(ground_truth, partner) - corr(prediction, partner)|, Pearson on the flattened
    arrays.

    Args:
        prediction: frames `[T, C]`.
        ground_truth: frames `[T, C]`.
        partner: the other person's frames `[T, C]` at the same moments.

    Raises:
        ValueError: the shapes differ.

    Source: TIMAR §4. Deviation: the correlation with a constant, which is undefined, counts as 0.
    """
    _check_pair(prediction, ground_truth)
    _check_pair(prediction, partner)
    return abs(_correlation(ground_truth, partner) - _correlation(prediction, partner))


def evaluate_clip(
    prediction: np.ndarray, ground_truth: np.ndarray, partner: np.ndarray, space: MotionSpace
) -> dict[str, float]:
    """
    Compute all published figures of one clip, unscaled.

    Args:
        prediction: the agent's motion `[T1, M]`, raw units of `space`.
        ground_truth: what the agent really did `[T2, M]`.
        partner: the user's motion `[T3, M]`.
        space: says which channels are expression (`exp`), jaw and neck (`pose`). A space without
            jaw channels of its own has no jaw figures.

    Returns:
        Figure by name: `fid_exp` ... `rpcc_pose`. All three arrays are first cut to the shortest
            of them.

    Raises:
        ValueError: an array is not `[T, M]`, holds NaN or infinite values, or is too short for
            SID.

    Source: TIMAR §4, the published evaluation; `fid` is FD, `p_fid` is P-FD, `sts` and
        `variance` are DualTalk's.
    """
    clips = {'prediction': prediction, 'ground_truth': ground_truth, 'partner': partner}
    n_channels = len(space.names)
    for name, frames in clips.items():
        if np.ndim(frames) != 2 or np.shape(frames)[1] != n_channels:
            raise ValueError(
                f'{name} must be [frames, {n_channels}] ({space.name}), '
                f'got {list(np.shape(frames))}'
            )
        if not np.isfinite(frames).all():
            raise ValueError(f'{name} must be finite, got NaN or infinite values; skip this clip')
    n_frames = min(len(frames) for frames in clips.values())
    groups = {'exp': space.expression, 'jaw': space.jaw, 'pose': space.neck}
    figures: dict[str, float] = {}
    for group, channels in groups.items():
        if channels is None:
            continue
        made, real, other = (np.asarray(x)[:n_frames, channels] for x in clips.values())
        figures |= {
            f'fid_{group}': frechet_distance(made, real),
            f'p_fid_{group}': paired_frechet_distance(made, real, other),
            f'mse_{group}': mean_squared_error(made, real),
            f'sid_{group}': diversity_index(made, real, _N_CLUSTERS[group]),
            f'reverse_sid_{group}': diversity_index(real, made, _N_CLUSTERS[group]),
            f'sts_{group}': temporal_similarity(made, real),
            f'variance_pre_{group}': mean_variance(made),
            f'variance_gt_{group}': mean_variance(real),
            f'rpcc_{group}': residual_correlation(made, real, other),
        }
    return figures


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _check_pair(first: np.ndarray, second: np.ndarray, same_length: bool = True) -> None:
    shapes = f'{list(np.shape(first))} and {list(np.shape(second))}'
    if np.ndim(first) != 2 or np.ndim(second) != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f'expected two arrays [frames, channels] of equal channels, got {shapes}')
    if same_length and len(first) != len(second):
        raise ValueError(f'expected clips of equal length, got {shapes}; cut both to the shorter')
    if min(len(first), len(second)) < 2:
        raise ValueError(f'expected at least 2 frames, got {shapes}')
