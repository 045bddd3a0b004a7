"""Files that are whole or not there, and one writer to a folder."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from config import UsageError
from running import files, process
from running.files import LOCK, TEMPORARY, disk_full, lock_folder, write_atomic

FOLDER = Path(files.__file__).parents[1]


def run_code(code, *argv, **more):
    """Python in a process of its own, which knows the modules of the example."""
    start = f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.mark.slow
def test_a_disk_without_room_is_named_and_nothing_is_left(tmp_path):
    """A real limit of the system: files of more than 1000 bytes cannot be written."""
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"old")
    code = (
        "import resource, pathlib\n"
        "from running import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    files.write_atomic(bytes(10**6), pathlib.Path(sys.argv[1]))\n"
        "except OSError as error:\n    print(files.disk_full(error), error.filename)\n"
    )
    said, errors = run_code(code, path).communicate(timeout=600)
    assert said == f"True {path}\n", errors
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_to_do_about_a_full_disk_is_said(capsys):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "runs/rows/a.json")

    assert process.exit_status(full, "the same command resumes the sweep") == 2
    said = capsys.readouterr().err
    assert "'runs/rows/a.json'" in said and "free some disk space" in said
    assert said.endswith("the same command resumes the sweep\n")
    assert not disk_full(FileNotFoundError(errno.ENOENT, "no such file"))


def test_writers_of_one_file_are_not_in_each_others_way(tmp_path):
    path, contents = tmp_path / "new" / "file", [bytes([k]) * 100_000 for k in range(4)]
    threads = [
        threading.Thread(target=lambda c=c: [write_atomic(c, path) for _ in range(20)])
        for c in contents
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not path.exists() or path.read_bytes() in contents
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() in contents


def test_files_have_the_rights_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(b"", tmp_path / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_locked_folder_names_who_writes_to_it(tmp_path):
    with lock_folder(tmp_path):
        with pytest.raises(UsageError, match=rf"process {os.getpid()} on .* is writing to"):
            lock_folder(tmp_path).__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert not list(tmp_path.iterdir())
    with lock_folder(tmp_path):
        pass


@pytest.mark.slow
def test_the_lock_of_a_process_that_was_killed_is_none(tmp_path):
    code = (
        "import pathlib, time\n"
        "from running import files as lock\n"
        "with lock.lock_folder(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with run_code(code, tmp_path) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"process {process.pid} on"):
            lock_folder(tmp_path).__enter__()
        process.kill()
    left = tmp_path / ".metrics.json-0123abcd.tmp"
    left.write_text("half of a fi")
    assert left.match(TEMPORARY) and (tmp_path / LOCK).exists()
    (tmp_path / "mine.tmp").write_text("a file of the user's")
    with lock_folder(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "mine.tmp"]


@pytest.mark.slow
def test_of_many_who_want_a_folder_one_at_a_time_has_it(tmp_path):
    """Also while the one before removes its lock."""
    inside, most, stop = [], [], time.monotonic() + 2

    def compete():
        while time.monotonic() < stop:
            try:
                with lock_folder(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
            except UsageError:
                pass

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) > 10 and set(most) == {1}
