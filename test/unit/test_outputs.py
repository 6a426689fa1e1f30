# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""No command writes over files that it did not write itself, or over its own input."""

import json

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.learn import bench, dualtalk, evaluate, simulate, train
from timar_ros.model import convert
from timar_ros.nodes import demo
from timar_ros.outputs import check_new_file, check_own_files, has_keys
from timar_ros.retarget import fit_face

FOREIGN = b'somebody else made this'


def has_mark(folder):
    return (folder / 'mark').exists()


def test_foreign_files_are_refused_and_own_ones_are_not(tmp_path):
    names = ('a.json', 'b')
    check_own_files(tmp_path / 'new', names, has_mark, 'it')
    check_own_files(tmp_path, names, has_mark, 'it')
    (tmp_path / 'b').touch()

    with pytest.raises(ValueError, match='holds b, which it did not write; choose another --out'):
        check_own_files(tmp_path, names, has_mark, 'it')
    (tmp_path / 'mark').touch()
    check_own_files(tmp_path, names, has_mark, 'it')
    with pytest.raises(ValueError, match='is a file, expected a folder'):
        check_own_files(tmp_path / 'mark', names, has_mark, 'it')


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    check_new_file(tmp_path / 'x')
    (tmp_path / 'x').touch()

    with pytest.raises(ValueError, match='x is there already; choose another name'):
        check_new_file(tmp_path / 'x')


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        (b'{"a": 1, "b": 2}', True),
        (b' {"a": 1, "b": 2}\n{"c": 3}\n', True),
        (b'{"a": 1}', False),
        (b'["a", "b"]', False),
        (b'{"a": 1, "b"', False),
        (b'\xff\xfe', False),
        (b'[' * 100_000, False),
        (b'', False),
    ],
)
def test_own_files_are_known_by_their_keys(tmp_path, content, expected):
    (tmp_path / 'x.json').write_bytes(content)

    assert has_keys(tmp_path / 'x.json', 'a', 'b') == expected
    assert not has_keys(tmp_path / 'none.json', 'a')


@pytest.fixture
def wavs(tmp_path):
    """Write two voices of 1 s; return the options that name them."""
    options = []
    for voice in ('user', 'agent'):
        path = tmp_path / f'talk_{voice}.wav'
        scipy.io.wavfile.write(path, 16000, np.full(16000, 1000, np.int16))
        options += [f'--{voice}', str(path)]
    return options


def foreign(folder, name):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(FOREIGN)
    return folder


def check_kept(folder, name, stderr):
    assert (folder / name).read_bytes() == FOREIGN
    assert str(folder) in stderr and 'choose another' in stderr


def test_evaluate_keeps_files_of_others(tmp_path, wavs, capsys):
    out = foreign(tmp_path / 'out', 'motion.npz')

    assert evaluate.main([*wavs, '--out', str(out)]) == 1

    check_kept(out, 'motion.npz', capsys.readouterr().err)


def test_evaluate_does_not_write_over_the_head_that_it_reads(tmp_path, wavs, capsys):
    head = tmp_path / 'motion.npz'
    np.savez(head, motion=np.zeros((25, 1)), names=['neck_x'], fps=25)
    (tmp_path / 'report.json').write_text(json.dumps({'about': {}}))
    before = head.read_bytes()

    assert evaluate.main([*wavs, '--user-motion', str(head), '--out', str(tmp_path)]) == 1

    assert 'motion.npz would be written over; choose another --out' in capsys.readouterr().err
    assert head.read_bytes() == before


@pytest.mark.parametrize('name', ['bench.json', 'bench.md'])
def test_bench_keeps_files_of_others(tmp_path, wavs, capsys, name):
    out = foreign(tmp_path / 'out', name)

    assert bench.main([str(tmp_path), '--out', str(out)]) == 1

    check_kept(out, name, capsys.readouterr().err)


@pytest.mark.parametrize('name', ['results.jsonl', 'table.json'])
def test_dualtalk_keeps_files_of_others(tmp_path, capsys, name, tiny_checkpoint):
    out = foreign(tmp_path / 'out', name)

    arguments = [str(tmp_path), '--checkpoint', str(tiny_checkpoint), '--out', str(out)]
    assert dualtalk.main(arguments) == 1

    check_kept(out, name, capsys.readouterr().err)


def test_training_keeps_weights_that_no_run_of_this_folder_made(tmp_path):
    out = foreign(tmp_path / 'out', 'model.safetensors')

    with pytest.raises(ValueError) as error:
        train.main([str(tmp_path), '--out', str(out)])

    check_kept(out, 'model.safetensors', str(error.value))


@pytest.mark.parametrize('kind', ['train', 'held_out'])
def test_simulated_conversations_are_not_mixed_with_older_ones(tmp_path, kind):
    foreign(tmp_path / 'out', 'x')
    foreign(tmp_path / 'out' / kind, '0000_agent.wav')

    with pytest.raises(ValueError, match='0000_agent.wav is there already; choose another folder'):
        simulate.main([str(tmp_path), str(tmp_path / 'out'), '--minutes', '1'])


def test_conversion_and_fit_keep_a_file_that_is_there(tmp_path, capsys):
    (tmp_path / 'x.safetensors').write_bytes(FOREIGN)
    (tmp_path / 'x.npz').write_bytes(FOREIGN)

    out = str(tmp_path / 'x.safetensors')
    assert convert.main(['none.pth', '--speech', 'none', out]) == 1
    assert 'x.safetensors is there already' in capsys.readouterr().err
    assert fit_face.main(['none.npz', 'none', str(tmp_path / 'x.npz')]) == 1
    assert 'x.npz is there already' in capsys.readouterr().err
    assert (tmp_path / 'x.safetensors').read_bytes() == FOREIGN


def test_the_demo_keeps_a_bag_of_others(tmp_path):
    out = tmp_path / 'recordings'
    out.mkdir()
    foreign(out / 'bag', 'talk.mcap')

    with pytest.raises(SystemExit, match='holds bag, which the demo did not write'):
        demo.main(['--out', str(out)])

    assert (out / 'bag' / 'talk.mcap').read_bytes() == FOREIGN
