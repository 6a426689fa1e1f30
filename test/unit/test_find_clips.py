# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where clips are looked for."""

from timar_ros.learn.clips import find_files


def test_files_of_subfolders_and_of_folders_that_are_linked_to_are_found_in_order(tmp_path):
    for folder in ('elsewhere', 'clips/b'):
        (tmp_path / folder).mkdir(parents=True)
    for name in ('elsewhere/talk_agent.npz', 'clips/b/talk_agent.npz', 'clips/b/talk_agent.wav'):
        (tmp_path / name).touch()
    (tmp_path / 'clips' / 'a').symlink_to(tmp_path / 'elsewhere', target_is_directory=True)

    found = find_files(tmp_path / 'clips', '*.npz')

    assert found == [tmp_path / 'clips' / folder / 'talk_agent.npz' for folder in 'ab']
