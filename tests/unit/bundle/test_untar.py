"""A tar that somebody else wrote gives ordinary files below one folder, whatever its headers say."""

from __future__ import annotations

import io
import tarfile

import pytest

from slimdeploy.board.errors import ArtifactError
from slimdeploy.bundle.untar import Tar, write_entry


def unpack(content: bytes, folder):
    tar = Tar(io.BytesIO(content))
    for entry in tar:
        write_entry(tar, entry, folder)


def packed(*members, form=tarfile.PAX_FORMAT) -> bytes:
    """Pack (name, content, more fields) as tarfile does."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content, fields in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT], ids=["pax", "ustar"])
def test_files_and_folders_come_back_as_they_were(tmp_path, form):
    long = "a" * 90 + "/" + "b" * 90
    members = [("sub", b"", {"type": tarfile.DIRTYPE}), ("sub/one", b"1" * 1000, {}), (long, b"2", {"mtime": 5})]
    unpack(packed(*members, form=form), tmp_path)
    assert (tmp_path / "sub" / "one").read_bytes() == b"1" * 1000
    assert (tmp_path / long).read_bytes() == b"2"


def test_a_name_beyond_ascii_and_a_time_with_fractions_are_read(tmp_path):
    unpack(packed(("größe.txt", b"x", {"mtime": 1.5})), tmp_path)
    assert (tmp_path / "größe.txt").read_bytes() == b"x"


KINDS = {
    "symbolic link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "link within": {"type": tarfile.SYMTYPE, "linkname": "sub"},
    "hard link": {"type": tarfile.LNKTYPE, "linkname": "one"},
    "device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
    "pipe": {"type": tarfile.FIFOTYPE},
    "sparse file": {"type": tarfile.GNUTYPE_SPARSE},
    "contiguous file": {"type": tarfile.CONTTYPE},
}


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS.keys())
def test_anything_but_a_file_or_a_folder_is_refused(tmp_path, fields):
    with pytest.raises(ArtifactError, match="no ordinary file"):
        unpack(packed(("x", b"", fields), form=tarfile.GNU_FORMAT), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_chain_of_links_leads_nowhere(tmp_path):
    """CVE-2025-4517: long names and links that the system resolves otherwise than Python's filter does."""
    (tmp_path / "inside").mkdir()
    steps, members = "abcdefghijklmnop", []
    for step in steps:
        members += [
            ("d" * 247, b"", {"type": tarfile.DIRTYPE}),
            (step, b"", {"type": tarfile.SYMTYPE, "linkname": "d" * 247}),
        ]
    members += [
        ("escape", b"", {"type": tarfile.SYMTYPE, "linkname": "a/" * 16 + "../" * 18}),
        ("escape/evil", b"x", {}),
    ]
    with pytest.raises(ArtifactError, match=r"no ordinary file|extended header"):
        unpack(packed(*members), tmp_path / "inside")
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "a//x", "./x", "a\\..\\x", "C:x", "x\n", "a/", "\x1b[2J", "n" * 2000]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ArtifactError):
        unpack(packed((name if name != "a/" else "a/../b/", b"x", {})), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("second", ["a", "a/b"])
def test_a_file_that_comes_twice_is_refused(tmp_path, second):
    with pytest.raises(ArtifactError, match="twice"):
        unpack(packed(("a", b"1", {}), (second, b"2", {})), tmp_path)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_negative_size_ends_and_is_refused(tmp_path):
    """CVE-2025-8194: Python's tarfile seeks backwards and never ends."""
    header = bytearray(packed(("a", b"1" * 9, {}), form=tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12
    header[148:156] = b"%06o\0 " % (sum(header[:512]) - sum(header[148:156]) + 8 * 32)
    with pytest.raises(ArtifactError, match="no size"):
        unpack(bytes(header), tmp_path)


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1024])
def test_a_tar_that_was_cut_off_is_refused(tmp_path, cut):
    with pytest.raises(ArtifactError, match=r"cut off|checksum"):
        unpack(packed(("a", b"1" * 600, {}))[:cut], tmp_path)
