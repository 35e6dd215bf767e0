"""A cache that machines share gives whole stages; what was damaged there is made again, and nothing leads outside."""

from __future__ import annotations

import io
import logging
import tarfile

import pytest

pytest.importorskip("fsspec")

from slimdeploy.errors import StageFailed
from slimdeploy.lineage import stage_run
from slimdeploy.search.store import UrlStore

KEY = "train/abc"


@pytest.fixture
def store(tmp_path):
    return UrlStore(f"file://{tmp_path / 'shared'}")


@pytest.fixture
def stage(tmp_path):
    """A stage's folder, whole."""
    with stage_run("train", config=_Config(), inputs={}, out=tmp_path / "stage") as run:
        (run.folder / "best.pt").write_bytes(b"weights" * 1000)
        (run.folder / "logs").mkdir()
        (run.folder / "logs" / "one.txt").write_text("text", encoding="utf-8")
    return tmp_path / "stage"


def _Config():
    from slimdeploy.configs import BenchConfig

    return BenchConfig()


def kept(tmp_path):
    return tmp_path / "shared" / f"{KEY}.tar"


def test_a_stage_comes_back_as_it_was_kept(store, stage, tmp_path):
    store.push(KEY, stage)
    assert store.fetch(KEY, tmp_path / "here")
    assert (tmp_path / "here" / "best.pt").read_bytes() == b"weights" * 1000
    assert (tmp_path / "here" / "logs" / "one.txt").read_text(encoding="utf-8") == "text"


def test_what_is_not_kept_is_a_miss(store, tmp_path):
    assert not store.fetch(KEY, tmp_path / "here")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_an_archive_that_was_cut_off_is_named_and_replaced_by_what_is_made_again(store, stage, tmp_path, caplog, share):
    store.push(KEY, stage)
    content = kept(tmp_path).read_bytes()
    kept(tmp_path).write_bytes(content[: int(share * len(content) * 0.7)])
    with caplog.at_level(logging.WARNING):
        assert not store.fetch(KEY, tmp_path / "here")
    assert f"{KEY}.tar in the cache is damaged and is made again" in caplog.text
    assert not (tmp_path / "here").exists()
    store.push(KEY, stage)
    assert kept(tmp_path).read_bytes() == content
    assert store.fetch(KEY, tmp_path / "here")


def test_a_file_that_was_altered_in_the_cache_is_a_miss(store, stage, tmp_path):
    store.push(KEY, stage)
    content = kept(tmp_path).read_bytes()
    kept(tmp_path).write_bytes(content.replace(b"weightsweights", b"weightswe1ghts", 1))
    assert not store.fetch(KEY, tmp_path / "here")


def test_an_archive_without_a_run_record_is_a_miss_and_leaves_no_folder(store, tmp_path):
    kept(tmp_path).parent.mkdir(parents=True)
    with tarfile.open(kept(tmp_path), "w") as archive:
        archive.addfile(tarfile.TarInfo("best.pt"), io.BytesIO())
    assert not store.fetch(KEY, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_an_archive_of_links_writes_nothing_outside(store, stage, tmp_path):
    (tmp_path / "outside").mkdir()
    kept(tmp_path).parent.mkdir(parents=True)
    with tarfile.open(kept(tmp_path), "w") as archive:
        link = tarfile.TarInfo("x")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        archive.addfile(link)
        evil = tarfile.TarInfo("x/evil")
        evil.size = 4
        archive.addfile(evil, io.BytesIO(b"evil"))
        archive.add(stage / "run.json", "run.json")
    assert not store.fetch(KEY, tmp_path / "here")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_in_a_stage_is_kept_as_the_file_that_it_leads_to(store, stage, tmp_path):
    (stage / "logs" / "link.txt").symlink_to(stage / "logs" / "one.txt")
    store.push(KEY, stage)
    assert store.fetch(KEY, tmp_path / "here")
    assert not (tmp_path / "here" / "logs" / "link.txt").is_symlink()


def test_a_cache_that_does_not_answer_is_told(store, stage, tmp_path, monkeypatch):
    store.push(KEY, stage)
    monkeypatch.setattr(store, "_get", lambda *_: (_ for _ in ()).throw(TimeoutError("no answer")))
    with pytest.raises(StageFailed, match="the cache does not give"):
        store.fetch(KEY, tmp_path / "here")
