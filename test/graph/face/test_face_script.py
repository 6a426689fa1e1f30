# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The page's own reckoning, run in the browser and compared with what it must be."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.motion import ARKIT_NAMES

JAW = ARKIT_NAMES.index('jawOpen')


@pytest.fixture(scope='module')
def run(chromium, make_robot):
    """Return a function that runs JavaScript with modules of the page, and a `given` of Python."""
    chromium.open(f'{make_robot().server.url}?still')

    def run(script: str, **given):
        imports = '\n'.join(
            f"const {name} = await import('/{name}.js');"
            for name in ('arkit', 'clock', 'life', 'log', 'track', 'rig')
        )
        return chromium.ask(
            f'(async () => {{ {imports} const given = {json.dumps(given)};\n{script} }})()'
        )

    return run


def test_the_page_knows_the_blendshapes_in_the_order_of_the_motion_space(run):
    assert run('return arkit.NAMES') == ARKIT_NAMES


FRAMES = """
    const frame = (at, jaw, yaw) => {
      const values = new Float32Array(52);
      values[arkit.AT.jawOpen] = jaw;
      const neck = new Float32Array([0, 0, Math.sin(yaw / 2), Math.cos(yaw / 2)]);
      return {at, arkit: values, neck};
    };
    const out = track.neutralPose();
    const read = (t, at) => {
      const isPlanned = t.sample(at, out);
      return [out.arkit[arkit.AT.jawOpen], 2 * Math.atan2(out.neck[2], out.neck[3]), isPlanned];
    };
"""


def wave(t_ms):
    t = np.asarray(t_ms) / 1000
    return 0.4 + 0.3 * np.sin(2 * np.pi * 2.5 * t), 0.3 * np.sin(2 * np.pi * 1.5 * t + 1)


def test_frames_of_25_hz_are_smooth_at_any_rate_of_the_screen(run):
    stamp_ms = 1e12 + 40.0 * np.arange(50)
    jaw, yaw = wave(stamp_ms - 1e12)
    asked_ms = 1e12 + np.arange(40.0, 1900.0, 16.667)

    shown = run(
        FRAMES
        + 'const t = new track.Track();'
        + 't.push(given.stamp.map((at, i) => frame(at, given.jaw[i], given.yaw[i])));'
        + 'return given.asked.map((at) => read(t, at));',
        stamp=stamp_ms.tolist(), jaw=jaw.tolist(), yaw=yaw.tolist(), asked=asked_ms.tolist(),
    )  # fmt: skip

    expected_jaw, expected_yaw = wave(asked_ms - 1e12)
    np.testing.assert_allclose([s[0] for s in shown], expected_jaw, atol=0.01)
    np.testing.assert_allclose([s[1] for s in shown], expected_yaw, atol=0.004)


def test_a_newer_plan_replaces_the_older_from_its_first_stamp_on(run):
    shown = run(
        FRAMES
        + """
        const t = new track.Track();
        const frames = (from, n, jaw) => [...Array(n)].map((_, i) => frame(from + 40 * i, jaw, 0));
        t.push(frames(0, 50, 0.2));
        t.push(frames(1000, 10, 0.6));
        return [0, 500, 960, 1000, 1200, 1360, 1700, 4000].map((at) => read(t, at)[0]);"""
    )

    np.testing.assert_allclose(shown[:6], [0.2, 0.2, 0.2, 0.6, 0.6, 0.6], atol=0.01)
    assert 0.1 < shown[6] < 0.6  # after its end it comes to rest
    assert shown[7] == pytest.approx(0, abs=1e-3)


def test_before_and_between_plans_the_face_rests_and_glides_in(run):
    shown = run(
        FRAMES
        + """
        const t = new track.Track();
        const early = read(t, 0);
        t.push([frame(5000, 0.5, 0.2), frame(5040, 0.5, 0.2)]);
        t.push([frame(9000, 0.8, 0), frame(9040, 0.8, 0)]);
        const times = [...Array(600)].map((_, i) => 4000 + 10 * i);
        return {early, times, jaw: times.map((at) => read(t, at)[0])};"""
    )

    jaw = np.array(shown['jaw'])
    assert shown['early'] == [0, 0, False]
    assert np.abs(np.diff(jaw)).max() < 0.09  # no jump, at 100 Hz
    assert jaw[0] == 0
    assert jaw[100] == pytest.approx(0.5, abs=0.01)
    assert jaw[440] == 0
    assert jaw[500] == pytest.approx(0.8, abs=0.01)


def test_a_turn_over_the_back_of_the_quaternion_is_a_small_one(run):
    yaws = np.linspace(3.0, 3.3, 8)  # passes pi, where q and -q meet
    neck = Rotation.from_rotvec(yaws[:, None] * [0.0, 0.0, 1.0]).as_quat()
    neck[::2] *= -1

    shown = run(
        FRAMES
        + """
        const t = new track.Track();
        t.push(given.neck.map((q, i) => ({...frame(40 * i, 0, 0), neck: new Float32Array(q)})));
        return [...Array(27)].map((_, i) => { read(t, 10 * i); return [...out.neck]; });""",
        neck=neck.tolist(),
    )

    turns = Rotation.from_quat(np.array(shown))
    steps = (turns[1:] * turns[:-1].inv()).magnitude()
    assert steps.max() < 0.02


def test_the_newest_plan_is_shown_whatever_older_ones_have_left(run):
    kept = run(
        FRAMES
        + """
        const t = new track.Track();
        const frames = (from, step, n, jaw) =>
          [...Array(n)].map((_, i) => frame(from + step * i, jaw, 0));
        const now = 1e12;
        for (let k = 0; k < 20; k++) t.push(frames(now + 1e9 * (k + 1), 0.001, 3000, 0.9));
        const far = t.frames.length;
        t.push(frames(now, 40, 50, 0.4));
        const ahead = read(t, now + 400)[0];
        for (let k = 0; k < 20; k++) t.push(frames(now - 90 + 4 * k, 0.001, 3000, 0.9));
        t.push(frames(now, 40, 50, 0.4));
        return {far, ahead, dense: read(t, now + 400)[0], near: t.frames.length};"""
    )

    assert kept['far'] <= 6000
    assert kept['near'] <= 6000
    assert [kept['ahead'], kept['dense']] == pytest.approx([0.4, 0.4], abs=0.01)


def test_what_is_logged_is_bounded_whatever_the_stamps_and_while_nothing_is_drawn(run):
    lengths = run(
        """
        const l = new log.Log();
        const head = {yaw: 0, pitch: 0, roll: 0};
        const state = (stamp_ms) => l.state({stamp_ms, state: 1, user_db: -20, agent_db: -60});
        state(1e15);
        for (let i = 0; i < 20000; i++) {
          state(1e12 + 20 * i);
          l.level({starts: [1e12 + 20 * i], spans: [20], levels: [-20]});
          l.plan({plan: i, sent: 0, frames: [{at: 1e12 + i}]}, 1e12);
          l.frame(1e12, head, 0, 0, 16, true);
        }
        const full = [l.states.length, l.levels.length, l.plans.length, l.frames.length];
        l.frame(1e12 + 4e5, head, 0, 0, 16, true);
        return {full, newest: l.states.at(-1).at, left: l.states.length};"""
    )

    assert max(lengths['full']) <= 6000
    assert lengths['newest'] == 1e12 + 20 * 19999
    assert lengths['left'] < 700


CLOCK = """
    const c = new clock.ServerClock();
    const errors = [];
    given.pings.forEach(([sent, received, server]) => c.add(sent, received, server));
    return given.asked.map((local) => c.now(local));
"""


def pings(at_ms, server_at, there_ms, back_ms):
    """Return pings (sent, received, the server's clock when it came there)."""
    return [
        [t, t + there + back, float(server_at(t + there))]
        for t, there, back in zip(at_ms, there_ms, back_ms, strict=True)
    ]


def test_the_nodes_clock_is_known_to_2_ms_over_a_jittering_socket(run):
    rng = np.random.default_rng(0)
    sent = np.arange(0.0, 15000.0, 500.0)
    there, back = 0.5 + rng.exponential(20.0, (2, len(sent)))
    there[4] = back[4] = 0.6

    shown = run(
        CLOCK,
        pings=pings(sent, lambda t: 5e11 + t, there, back),
        asked=[15100.0, 15200.0],
    )

    np.testing.assert_allclose(np.array(shown) - 5e11, [15100.0, 15200.0], atol=2.0)


@pytest.mark.parametrize('rate', [0.0, 0.25, 0.5, 2.0, 5.0])
def test_a_simulated_clock_of_another_rate_is_followed(rate, run):
    sent = np.cumsum(np.full(20, 150.0))
    delay = np.full(20, 0.7)

    shown = run(
        CLOCK,
        pings=pings(sent, lambda t: 1e6 + rate * t, delay, delay),
        asked=(sent[-1] + np.array([50.0, 400.0])).tolist(),
    )

    expected = 1e6 + rate * (sent[-1] + np.array([50.0, 400.0]))
    np.testing.assert_allclose(shown, expected, atol=max(2.0, 8.0 * rate))


@pytest.mark.parametrize('jump_ms', [-60000.0, -40.0, 40.0, 3.6e6])
def test_a_clock_that_was_set_is_followed_after_two_pings(jump_ms, run):
    sent = np.arange(0.0, 4000.0, 250.0)
    delay = np.full(len(sent), 0.5)

    shown = run(
        CLOCK,
        pings=pings(sent, lambda t: 1e9 + t + (jump_ms if t > 3300 else 0), delay, delay),
        asked=[4000.0],
    )

    np.testing.assert_allclose(shown, [1e9 + 4000 + jump_ms], atol=3.0)


LIFE = """
    let seed = 12345;
    const random = () => {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      return seed / 2147483648;
    };
    const {AT} = arkit;
    const alive = new life.Life(random);
    const pose = track.neutralPose();
    const shown = [];
    for (let t = 0; t < 120000; t += 1000 / 60) {
      pose.arkit.fill(0);
      const blink = given.blinks ? Math.max(0, 1 - Math.abs((t % 3000) - 200) / 100) : 0;
      const look = given.looks ? 0.2 + 0.2 * Math.sin(t / 700) : 0;
      pose.arkit[AT.eyeBlinkLeft] = pose.arkit[AT.eyeBlinkRight] = blink;
      pose.arkit[AT.eyeLookOutLeft] = pose.arkit[AT.eyeLookInRight] = look;
      if (given.blinks || given.looks) {
        const moved = Float32Array.from(pose.arkit);
        moved[AT.eyeBlinkLeft] = given.blinks ? 1 : 0;
        alive.see([{at: t, arkit: new Float32Array(52)}, {at: t + 400, arkit: moved}]);
      }
      const gaze = alive.animate(pose, t, t, given.head ?? {yaw: 0, pitch: 0});
      const lid = pose.arkit[AT.eyeBlinkLeft];
      pose.arkit[AT.eyeBlinkLeft] = pose.arkit[AT.eyeBlinkRight] = 0;
      const others = Math.max(...pose.arkit);
      shown.push([t, lid, gaze[0], gaze[1], blink, look, others, ...pose.neck]);
    }
    return shown;
"""


def test_a_face_left_alone_blinks_like_a_person_and_moves_nothing_but_its_eyes(run):
    shown = np.array(run(LIFE))

    t, lid, gaze = shown[:, 0], shown[:, 1], shown[:, 2:4]
    starts = t[1:][(lid[1:] > 0.5) & (lid[:-1] <= 0.5)]
    assert 12 <= len(starts) / 2 <= 30  # blinks a minute
    pauses = np.diff(starts)[np.diff(starts) > 600]
    assert pauses.std() > 500  # irregular
    assert lid.max() > 0.99
    assert np.mean(lid > 0.2) < 0.1
    assert np.abs(gaze).max() < 0.2  # still looks at whom it speaks to
    assert 20 < np.sum(np.abs(np.diff(gaze[:, 0])) > 0.004) < 2000
    np.testing.assert_array_equal(shown[:, 6], 0.0)
    np.testing.assert_array_equal(shown[:, 7:], [[0.0, 0.0, 0.0, 1.0]] * len(shown))


def test_where_the_motion_blinks_the_page_does_not(run):
    shown = np.array(run(LIFE, blinks=True))

    np.testing.assert_allclose(shown[:, 1], shown[:, 4], atol=1e-6)


def test_where_the_motion_looks_the_page_does_not(run):
    shown = np.array(run(LIFE, looks=True))

    after = shown[:, 0] > 1000
    np.testing.assert_allclose(shown[after, 2], 0.6 * shown[after, 5], atol=1e-6)
    np.testing.assert_allclose(shown[after, 3], 0.0, atol=1e-6)


def test_eyes_stay_on_the_viewer_while_the_head_turns(run):
    shown = np.array(run(LIFE, head={'yaw': 0.3, 'pitch': -0.1}))

    np.testing.assert_allclose(np.median(shown[:, 2]), -0.27, atol=0.03)
    np.testing.assert_allclose(np.median(shown[:, 3]), 0.09, atol=0.03)


def test_the_lag_of_lips_behind_the_sound_is_measured(run):
    measured = run(
        """
        const found = [];
        for (const lag of [-80, 0, 60]) {
          const l = new log.Log();
          const loud = (t) => Math.max(0, Math.sin(t / 90) * Math.sin(t / 371 + 1));
          const starts = [...Array(350)].map((_, i) => 20 * i);
          const levels = starts.map((t) => 20 * Math.log10(loud(t + 10) + 1e-6));
          l.level({starts, spans: starts.map(() => 20), levels});
          for (let t = 200; t < 6800; t += 1000 / 60) {
            l.frame(t, {yaw: 0, pitch: 0, roll: 0}, 0, 0.2 * loud(t - lag), 16.7, true);
          }
          found.push(l.lips());
        }
        return found;"""
    )

    np.testing.assert_allclose([m['lag'] for m in measured], [-80, 0, 60], atol=3)
    assert min(m['correlation'] for m in measured) > 0.95


def test_every_blendshape_but_the_eyes_gaze_changes_what_is_drawn(run):
    unmoved = run(
        """
        const flat = (o) => JSON.stringify(o);
        const rest = new Float32Array(52);
        rest[arkit.AT.jawOpen] = 0.3;
        return arkit.NAMES.filter((name, k) => {
          const a = Float32Array.from(rest);
          a[k] += 0.5;
          return flat(rig.rig(a, [0, 0])) === flat(rig.rig(rest, [0, 0]));
        });"""
    )

    # Those come in as the gaze.
    assert unmoved == [name for name in ARKIT_NAMES if name.startswith('eyeLook')]
