# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where clips are looked for."""

from timar_ros.learn.clips import find_beside, find_files


def test_files_of_subfolders_and_of_folders_that_are_linked_to_are_found_in_order(tmp_path):
    for folder in ('elsewhere', 'clips/b'):
        (tmp_path / folder).mkdir(parents=True)
    for name in ('elsewhere/talk_agent.npz', 'clips/b/talk_agent.npz', 'clips/b/talk_agent.wav'):
        (tmp_path / name).touch()
    (tmp_path / 'clips' / 'a').symlink_to(tmp_path / 'elsewhere', target_is_directory=True)

    found = find_files(tmp_path / 'clips', '*.npz')

    assert found == [tmp_path / 'clips' / folder / 'talk_agent.npz' for folder in 'ab']


def test_files_whose_endings_are_in_capitals_are_found_with_those_beside_them(tmp_path):
    names = ('a_user.WAV', 'a_agent.wav', 'b_agent.Wav', 'a_agent.NPZ')
    for name in names:
        (tmp_path / name).touch()

    assert find_files(tmp_path, '*.wav') == sorted(tmp_path / name for name in names[:3])
    assert find_files(tmp_path, '*_agent.npz') == [tmp_path / 'a_agent.NPZ']
    assert find_beside(tmp_path / 'a_user.wav') == tmp_path / 'a_user.WAV'
    assert find_beside(tmp_path / 'b_agent.wav') == tmp_path / 'b_agent.Wav'
    assert find_beside(tmp_path / 'c_agent.wav') == tmp_path / 'c_agent.wav'
