"""Files that are replaced: never half-written, and nothing is left of a killed process."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import environment

from recbole_hns.errors import UserError
from recbole_hns.files import new_directory, replace_file

#: Writes half of a file, says so, and waits to be killed.
WRITER = """
import sys, time
from recbole_hns.files import replace_file

def write(file):
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    time.sleep(100)

replace_file(sys.argv[1], write)
"""


def writer_of(name):
    process = subprocess.Popen([sys.executable, "-c", WRITER, name], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def hidden():
    return sorted(path.name for path in Path().glob(".*"))


def test_what_a_killed_process_left_is_cleared_by_the_next_of_that_name():
    killed, alive = writer_of("a.pth"), writer_of("a.pth")
    other = writer_of("a.pth.b")
    for process in (killed, other):
        process.send_signal(signal.SIGKILL)
        process.wait()
    theirs = [".a.pth.toolongone", ".a.pth.SHOUTING", ".b.pth.abcdefgh", "a.pth.abcdefgh"]
    for name in theirs:
        Path(name).touch()
    assert len(hidden()) == 3 + 3
    replace_file("a.pth", lambda file: file.write(b"whole"))
    assert Path("a.pth").read_bytes() == b"whole"
    # the one that is being written, that of the other name, and files of someone else's
    left = [name for name in hidden() if name not in theirs]
    assert len(left) == 2
    assert sum(name.startswith(".a.pth.b.") for name in left) == 1
    assert all(Path(name).exists() for name in theirs)
    alive.kill()
    alive.wait()
    replace_file("a.pth", lambda file: file.write(b"again"))
    assert [name for name in hidden() if name not in theirs] == [
        name for name in left if name.startswith(".a.pth.b.")
    ]


def test_a_temporary_file_that_another_process_cleared_before_its_lock_is_made_anew(monkeypatch):
    lock, cleared = fcntl.flock, []

    def flock(file, how):
        if not cleared:
            cleared.extend(Path().glob(".a.*"))
            cleared[0].unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    replace_file("a", lambda file: file.write(b"whole"))
    assert cleared
    assert Path("a").read_bytes() == b"whole"
    assert hidden() == []


def test_a_file_system_without_locks_keeps_what_was_left(monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    Path(".a.abcdefgh").touch()
    replace_file("a", lambda file: file.write(b"whole"))
    assert Path("a").read_bytes() == b"whole"
    assert hidden() == [".a.abcdefgh"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO])
def test_a_file_that_cannot_be_written_stays_as_it_was(number):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[:10])
            raise OSError(number, os.strerror(number))

    state = {"table": torch.zeros(1000)}
    replace_file("a", lambda file: file.write(b"before"))
    for write in (
        lambda file: Full(file).write(b"x" * 99),
        # PyTorch raises another error over it
        lambda file: torch.save(state, Full(file)),
    ):
        with pytest.raises(UserError) as told:
            replace_file("a", write)
        assert str(told.value) == f"a: cannot be written ({os.strerror(number)})"
        assert Path("a").read_bytes() == b"before"
        assert hidden() == []


def test_a_directory_that_is_gone():
    with pytest.raises(UserError, match=r"gone/a: cannot be written \(No such file"):
        replace_file("gone/a", lambda file: file.write(b""))


def test_what_the_writing_itself_raises_goes_on():
    with pytest.raises(ZeroDivisionError):
        replace_file("a", lambda file: 1 / 0)
    assert os.listdir() == []


def test_a_directory_that_a_killed_process_left_is_removed_by_the_next():
    code = (
        "import os\nfrom recbole_hns.files import new_directory\n"
        "with new_directory('output', 'a'):\n    os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    (left,) = hidden()
    Path(".b.abcdefgh").mkdir()
    with new_directory("output", "a") as first:
        assert not Path(left).exists()
        # one that is being filled stays, whoever comes
        Path(".a.abcdefgh").mkdir()
        with new_directory("output", "a") as second:
            (second / "file").touch()
        shutil.rmtree("a")
        (first / "file").touch()
    assert os.listdir("a") == ["file"]
    assert hidden() == [".b.abcdefgh"]
