"""A bundle in one file is the same bundle, byte for byte; a file that was made to do harm is not unpacked."""

from __future__ import annotations

import io
import json
import random
import tarfile
import threading

import pytest
from small_bundle import write_small_bundle

from slimdeploy.board.whole import MANIFEST
from slimdeploy.bundle import archive
from slimdeploy.bundle.archive import opened, write_bundle
from slimdeploy.bundle.pack import verify
from slimdeploy.errors import ArtifactError, OutputExists

zstandard = pytest.importorskip("zstandard")


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, link
    return member


@pytest.fixture
def manifest(small_bundle) -> dict:
    return json.loads((small_bundle / MANIFEST).read_text(encoding="utf-8"))


@pytest.fixture
def made(tmp_path, small_bundle):
    """Write a .tar.zst by hand: the manifest, then what is given; returns its path."""

    def made(*members, manifest=None, first=MANIFEST):
        raw = json.dumps(manifest).encode() if manifest else (small_bundle / MANIFEST).read_bytes()
        tarred = io.BytesIO()
        with tarfile.open(fileobj=tarred, mode="w") as tar:
            tar.addfile(entry(first, len(raw)), io.BytesIO(raw))
            for member, content in members:
                tar.addfile(member, io.BytesIO(content))
        path = tmp_path / "made.tar.zst"
        path.write_bytes(zstandard.compress(tarred.getvalue()))
        return path

    return made


def test_an_archive_unpacks_to_the_bundle_that_was_packed(small_bundle, tmp_path):
    packed = write_bundle(small_bundle, tmp_path / "b.tar.zst")
    with opened(packed) as folder:
        assert verify(folder) == verify(small_bundle)
        assert (folder / "model.fp32.onnx").read_bytes() == b"model"


def test_the_same_bundle_gives_the_same_bytes(tmp_path):
    packed = [
        write_bundle(write_small_bundle(tmp_path / f"{n}" / "bundle"), tmp_path / f"{n}.tar.zst").read_bytes()
        for n in (1, 2)
    ]
    assert packed[0] == packed[1]


def test_an_archive_becomes_a_folder_again_without_the_record_of_the_export(small_bundle, tmp_path):
    packed = write_bundle(small_bundle, tmp_path / "b.tar.zst")
    with opened(packed) as folder:
        again = write_bundle(folder, tmp_path / "again")
    before = {path.relative_to(small_bundle): path.read_bytes() for path in small_bundle.rglob("*") if path.is_file()}
    after = {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()}
    assert after == {path: content for path, content in before.items() if path.name != "run.json"}


def test_an_archive_that_exists_is_not_overwritten(small_bundle, tmp_path):
    (tmp_path / "b.tar.zst").write_bytes(b"mine")
    with pytest.raises(OutputExists):
        write_bundle(small_bundle, tmp_path / "b.tar.zst")
    assert (tmp_path / "b.tar.zst").read_bytes() == b"mine"


def test_a_bundle_that_is_not_whole_is_not_packed(small_bundle, tmp_path):
    (small_bundle / "labels.txt").write_bytes(b"lorry\n")
    with pytest.raises(ArtifactError, match=r"an altered labels\.txt"):
        write_bundle(small_bundle, tmp_path / "b.tar.zst")
    assert not (tmp_path / "b.tar.zst").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "unknown.bin"])
def test_a_file_that_the_manifest_does_not_name_is_not_unpacked(made, name):
    with pytest.raises(ArtifactError, match="not part of it"), opened(made((entry(name, 1), b"x"))):
        pass


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(tarfile.SYMTYPE, id="symbolic link"),
        pytest.param(tarfile.LNKTYPE, id="hard link"),
        pytest.param(tarfile.CHRTYPE, id="device"),
        pytest.param(tarfile.FIFOTYPE, id="pipe"),
    ],
)
def test_an_entry_that_is_no_ordinary_file_is_not_unpacked(made, kind):
    bad = made((entry("labels.txt", kind=kind, link="/etc/passwd"), b""))
    with pytest.raises(ArtifactError, match="no ordinary file"), opened(bad):
        pass


@pytest.mark.parametrize("name", ["../labels.txt", "/etc/passwd", "a//b", ".hidden", "-rf", "manifest.json", "a/.."])
def test_a_manifest_that_names_a_file_outside_is_refused(made, manifest, name):
    manifest["files"][name] = manifest["files"].pop("labels.txt")
    with pytest.raises(ArtifactError, match="names inside the bundle's folder"), opened(made(manifest=manifest)):
        pass


def test_an_entry_larger_than_the_manifest_says_is_refused(made):
    bomb = made((entry("labels.txt", 1 << 20), bytes(1 << 20)))
    with pytest.raises(ArtifactError, match="has 1048576 bytes"), opened(bomb):
        pass


def test_a_bomb_behind_the_last_file_is_not_decompressed(made, small_bundle, tmp_path):
    tarred = io.BytesIO()
    raw = (small_bundle / MANIFEST).read_bytes()
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        tar.addfile(entry(MANIFEST, len(raw)), io.BytesIO(raw))
    path = tmp_path / "bomb.tar.zst"
    path.write_bytes(zstandard.compress(tarred.getvalue() + bytes(64 << 20)))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(ArtifactError, match="more than its manifest says"), opened(path):
        pass


def test_a_bomb_in_the_tars_own_headers_is_not_decompressed(tmp_path):
    header = entry("x" * 50, 1 << 30, tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    path = tmp_path / "bomb.tar.zst"
    path.write_bytes(zstandard.compress(header + bytes(32 << 20)))
    with pytest.raises(ArtifactError, match="more than its manifest says"), opened(path):
        pass


def test_a_manifest_that_asks_for_more_than_any_bundle_needs_is_refused(made, manifest):
    manifest["files"]["labels.txt"]["size_bytes"] = archive.BUNDLE_LIMIT_BYTES + 1
    with pytest.raises(ArtifactError, match="asks for 9 GB"), opened(made(manifest=manifest)):
        pass


def test_a_manifest_of_a_newer_schema_is_refused(made, manifest):
    with pytest.raises(ArtifactError, match="has schema 2"), opened(made(manifest={**manifest, "schema": 2})):
        pass


def test_an_archive_that_does_not_begin_with_a_manifest_is_refused(made):
    with pytest.raises(ArtifactError, match=r"first entry is 'model\.bin'"), opened(made(first="model.bin")):
        pass


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        pytest.param("b.tar.zst", b"no archive", "is damaged", id="no Zstandard"),
        pytest.param("b.tar.zst", zstandard.compress(b"no tar" * 200), "is damaged", id="no tar"),
        pytest.param("b.zip", b"PK", "is no bundle", id="another format"),
    ],
)
def test_a_file_that_is_no_bundle_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=says), opened(tmp_path / name):
        pass


def test_a_truncated_archive_is_refused(small_bundle, tmp_path):
    packed = write_bundle(small_bundle, tmp_path / "b.tar.zst")
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    with pytest.raises(ArtifactError, match="is damaged"), opened(packed):
        pass


def test_a_bundle_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="no bundle at"), opened(tmp_path / "missing.tar.zst"):
        pass


def test_a_manifest_that_departs_from_its_schema_lets_nothing_be_written(made, small_bundle, monkeypatch):
    known = json.loads((small_bundle / MANIFEST).read_text(encoding="utf-8"))
    written = []
    monkeypatch.setattr(archive, "write_entry", lambda tar, entry, folder: written.append(entry.name))
    bad = {"schema": 1, "files": known["files"]}
    with (
        pytest.raises(ArtifactError, match="is missing"),
        opened(made((entry("labels.txt", 8), b"car\nvan\n"), manifest=bad)),
    ):
        pass
    assert written == []


def test_a_small_archive_that_grows_into_gigabytes_is_refused_by_its_manifest(made, manifest, monkeypatch):
    monkeypatch.setattr(archive, "EXPANSION_FREE_BYTES", 1 << 20)
    manifest["files"]["zeros.bin"] = {"sha256": "a" * 64, "size_bytes": 32 << 20}
    path = made((entry("zeros.bin", 32 << 20), bytes(32 << 20)), manifest=manifest)
    with pytest.raises(ArtifactError, match="asks for"), opened(path):
        pass


@pytest.mark.parametrize(
    "headers",
    [{"GNU.sparse.map": "x"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, {"size": "x"}, {"linkpath": "/etc"}],
)
def test_an_archive_with_extensions_is_refused(made, headers):
    member = entry("labels.txt", 8)
    member.pax_headers = headers
    with pytest.raises(ArtifactError, match="extended header"), opened(made((member, b"car\nvan\n"))):
        pass


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_an_archive_that_was_cut_off_is_refused(small_bundle, tmp_path, share):
    packed = write_bundle(small_bundle, tmp_path / "whole.tar.zst")
    content = zstandard.decompress(packed.read_bytes(), max_output_size=16 << 20)
    (tmp_path / "cut.tar.zst").write_bytes(zstandard.compress(content[: int(share * len(content))]))
    with pytest.raises(ArtifactError), opened(tmp_path / "cut.tar.zst") as folder:
        verify(folder)


def test_mutated_archives_are_refused_or_whole(small_bundle, tmp_path):
    chance, packed = random.Random(0), write_bundle(small_bundle, tmp_path / "whole.tar.zst")
    content = zstandard.decompress(packed.read_bytes(), max_output_size=16 << 20)
    for number in range(60):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 5)):
            place = chance.randrange(0, len(changed) // 512) * 512 + chance.randrange(512)
            changed[place] = chance.choice((0, 0x20, 0x30, 0x37, 0x80, 0xFF, chance.randrange(256)))
        path = tmp_path / f"{number}.tar.zst"
        path.write_bytes(zstandard.compress(bytes(changed)))
        try:
            with opened(path) as folder:
                verify(folder)
        except ArtifactError:
            continue


def test_of_two_that_pack_into_one_file_one_wins_and_its_archive_is_whole(small_bundle, tmp_path, monkeypatch):
    barrier, ended = threading.Barrier(2), []
    real = archive._write_tar

    def write_together(*arguments):
        barrier.wait()
        real(*arguments)

    monkeypatch.setattr(archive, "_write_tar", write_together)

    def pack() -> None:
        try:
            ended.append(write_bundle(small_bundle, tmp_path / "b.tar.zst").name)
        except OutputExists:
            ended.append("refused")

    both = [threading.Thread(target=pack) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(ended) == ["b.tar.zst", "refused"]
    with opened(tmp_path / "b.tar.zst") as folder:
        verify(folder)
    assert [path.name for path in tmp_path.glob("*.partial")] == []


@pytest.mark.parametrize("name", ["link.tar.zst", "link"])
def test_a_link_to_nothing_is_refused_and_stays(small_bundle, tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / "missing")
    with pytest.raises(OutputExists, match=r"is a link to .*missing, which is not there"):
        write_bundle(small_bundle, tmp_path / name)
    assert (tmp_path / name).is_symlink()
    assert not (tmp_path / "missing").exists()
