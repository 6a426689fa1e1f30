# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which files belong to a bag, and what its metadata.yaml lists.

Responsible for folders, names and packed files. Not for the order of the files, which their
messages decide, nor for what is in them.
"""

from collections import Counter
import dataclasses
import pathlib

from timar_ros.strict import quoted, read_yaml, shortened

_PLAIN = ('.mcap', '.db3')
_PACKED = ('.zstd', '.zst')
# Compressions that are not unpacked here.
_FOREIGN = {
    '.lz4': 'lz4 -d', '.gz': 'gunzip -k', '.xz': 'unxz -k', '.bz2': 'bunzip2 -k', '.zip': 'unzip',
}  # fmt: skip
_MOST_FILES = 100_000


@dataclasses.dataclass(frozen=True)
class BagFiles:
    """
    The files of a bag.

    Attributes:
        paths: of its storage files, packed or not.
        counts: topic -> messages, as metadata.yaml counts them; empty without it.
        notes: what is missing or odd, a sentence each.
    """

    paths: tuple[pathlib.Path, ...]
    counts: Counter
    notes: tuple[str, ...]


def find_bag_files(path: pathlib.Path) -> BagFiles:
    """
    Find the files of a bag.

    Args:
        path: its folder, its metadata.yaml, or one storage file.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it is none, or there are several.
    """
    if not path.exists():
        raise FileNotFoundError(f'no bag at {path}; give its folder, or an .mcap or .db3 file')
    if path.name == 'metadata.yaml':
        path = path.absolute().parent
    if not path.is_dir():
        _refuse_foreign(path)
        return BagFiles((path,), Counter(), ())
    there = _storage_files(path)
    notes: list[str] = []
    metadata = _Metadata()
    if (path / 'metadata.yaml').is_file():
        try:
            metadata = _read_metadata(path / 'metadata.yaml')
        except ValueError as error:
            notes.append(
                f'metadata.yaml cannot be used ({shortened(str(error), 200)}); '
                'the files are read without it'
            )
        there = _named(path, metadata, there, notes)
    else:
        notes.append(
            'the bag has no metadata.yaml (cut off, or not copied along); '
            'what its files hold is read'
        )
        there = there or _in_one_subfolder(path, notes)
    if not there:
        old = next(iter(sorted(path.glob('*.bag'))), None)
        packed = next((p for p in sorted(path.iterdir()) if p.suffix.lower() in _FOREIGN), None)
        _refuse_foreign(old or packed or path)
        raise ValueError(
            f'{path}: expected a bag (metadata.yaml and .mcap or .db3 files), got '
            f'{shortened(", ".join(sorted(p.name for p in path.iterdir())[:5])) or "nothing"}'
        )
    return BagFiles(tuple(there), metadata.counts, tuple(notes))


def is_packed(path: pathlib.Path) -> bool:
    """Return whether a file has to be unpacked before it can be read."""
    return path.suffix.lower() in _PACKED


@dataclasses.dataclass
class _Metadata:
    names: list[str] = dataclasses.field(default_factory=list)
    counts: Counter = dataclasses.field(default_factory=Counter)


def _read_metadata(path: pathlib.Path) -> _Metadata:
    content = read_yaml(path)
    content = content.get('rosbag2_bagfile_information') if isinstance(content, dict) else None
    if not isinstance(content, dict):
        raise ValueError('it has no rosbag2_bagfile_information')
    metadata = _Metadata()
    names = content.get('relative_file_paths')
    if isinstance(names, list):
        metadata.names = [name for name in names if isinstance(name, str) and name]
    topics = content.get('topics_with_message_count')
    for topic in topics if isinstance(topics, list) else ():
        about = topic.get('topic_metadata') if isinstance(topic, dict) else None
        count = topic.get('message_count') if isinstance(topic, dict) else None
        if isinstance(about, dict) and isinstance(count, int) and count > 0:
            metadata.counts[str(about.get('name'))] += count
    return metadata


def _is_storage(path: pathlib.Path) -> bool:
    is_named = pathlib.PurePath(_bare(path.name)).suffix.lower() in _PLAIN
    # macOS puts a hidden file of the same ending beside each one that it copies
    return is_named and not path.name.startswith('.') and path.is_file()


def _storage_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if _is_storage(path))


def _named(folder, metadata: _Metadata, there, notes: list[str]) -> list[pathlib.Path]:
    """Return all files there, and those that metadata.yaml names elsewhere; note differences."""
    if not metadata.names:
        return there or _in_one_subfolder(folder, notes)
    found, missing = [], []
    below: dict[str, pathlib.Path] | None = None
    for name in metadata.names:
        named = pathlib.PurePosixPath(name)
        path = _variant(folder / named.name)
        # What an absolute name means was on the machine that recorded.
        if path is None and not named.is_absolute() and '..' not in named.parts:
            path = _variant(folder / named)
        if path is None:
            if below is None:
                below = _files_below(folder)
            path = below.get(_bare(named.name))
        if path is None:
            missing.append(name)
        else:
            found.append(path)
    bare = {_bare(path.name) for path in found}
    extra = [path for path in there if path not in found and _bare(path.name) not in bare]
    packed_twice = [path for path in there if path not in found and _bare(path.name) in bare]
    if missing:
        notes.append(
            f'metadata.yaml names {len(metadata.names)} files, {len(missing)} of them are not '
            f'there: {shortened(", ".join(missing))}'
        )
    if extra:
        names = shortened(', '.join(path.name for path in extra))
        notes.append(
            f'{len(extra)} files lie in the bag that metadata.yaml does not name: {names}; '
            'they are read, too'
        )
    return sorted({path.absolute(): path for path in [*found, *extra, *packed_twice]}.values())


def _variant(path: pathlib.Path) -> pathlib.Path | None:
    """Return the path of a file under its own name, or that of its packed or unpacked version."""
    plain = path.with_suffix('') if is_packed(path) else path
    packed = [plain.with_name(plain.name + end) for end in _PACKED]
    try:
        return next((p for p in (path, plain, *packed) if p.is_file()), None)
    except OSError:  # a name too long
        return None


def _bare(name: str) -> str:
    return name.rpartition('.')[0] if name.endswith(_PACKED) else name


def _files_below(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    found = {}
    for i, path in enumerate(folder.rglob('*')):
        if i > _MOST_FILES:
            break
        if _is_storage(path):
            found.setdefault(_bare(path.name), path)
    return found


def _in_one_subfolder(folder: pathlib.Path, notes: list[str]) -> list[pathlib.Path]:
    """Return the files of the only subfolder that has some, with a note about it."""
    with_files = {}
    for sub in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = _storage_files(sub)
        if files:
            with_files[sub] = files
    if len(with_files) > 1:
        names = shortened(', '.join(sub.name for sub in with_files))
        raise ValueError(
            f'{folder}: expected one bag, got {len(with_files)} in its subfolders ({names}); '
            'give the path of one of them'
        )
    for sub, files in with_files.items():
        notes.append(f'its files lie in the subfolder {quoted(sub.name)}')
        return files
    return []


def _refuse_foreign(path: pathlib.Path) -> None:
    if path.suffix.lower() == '.bag':
        raise ValueError(
            f"{path}: a bag of ROS 1; convert it with 'rosbags-convert --src "
            f"{path.name} --dst {path.stem}'"
        )
    unpack = _FOREIGN.get(path.suffix.lower())
    if unpack and path.is_file():
        raise ValueError(
            f"{path}: packed in a way that is not read here; unpack it: '{unpack} {path.name}'"
        )
