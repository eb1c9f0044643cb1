"""scripts/download_coco.py against a local server: ranges, broken connections, wrong checksums."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "download_coco.py"
PHOTO = bytes(range(256)) * 400


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Site(ThreadingHTTPServer):
    """Serves archives; notes the ranges asked for; cuts the first `breaks` connections half-way."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        instances = json.dumps({"images": [], "annotations": [], "categories": []}).encode()
        self.files = {
            "/annotations/annotations_trainval2017.zip": zipped(
                {
                    "annotations/instances_train2017.json": instances,
                    "annotations/instances_val2017.json": instances,
                    "annotations/captions_val2017.json": b"{}",
                }
            ),
            "/zips/val2017.zip": zipped({f"val2017/{i:012}.jpg": PHOTO for i in range(5)}),
        }
        self.breaks, self.ranges, self.supports_ranges = 0, [], True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def checksum_file(self, folder: Path) -> Path:
        path = folder / "md5.txt"
        lines = [f"{hashlib.md5(data).hexdigest()}  {name.rsplit('/', 1)[1]}" for name, data in self.files.items()]
        path.write_text("\n".join(lines))
        return path


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = 0
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if asked and self.server.supports_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run(site: Site, folder: Path, *options: str, checksums: bool = True) -> subprocess.CompletedProcess:
    folder.parent.mkdir(parents=True, exist_ok=True)
    md5 = ["--md5", str(site.checksum_file(folder.parent))] if checksums else []
    command = [sys.executable, str(SCRIPT), "--dir", str(folder), "--url", site.url, "--wait", "0", "--splits", "val"]
    return subprocess.run([*command, *md5, *options], capture_output=True, text=True, timeout=60)


def assert_complete(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["annotations", "val2017"]
    assert [p.read_bytes() for p in (folder / "val2017").iterdir()] == [PHOTO] * 5
    names = sorted(p.name for p in (folder / "annotations").iterdir())
    assert names == ["instances_train2017.json", "instances_val2017.json"]


def assert_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_downloads_verifies_and_unpacks_once(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "coco"
    done = run(site, folder)
    assert done.returncode == 0, done.stderr
    assert_complete(folder)
    asked = len(site.ranges)
    again = run(site, folder)
    assert again.returncode == 0
    assert "there already" in again.stdout
    assert len(site.ranges) == asked


def test_broken_connections_are_continued_where_they_broke(site: Site, tmp_path: Path) -> None:
    site.breaks = 3
    done = run(site, tmp_path / "data" / "coco")
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path / "data" / "coco")
    assert sum(asked is not None for asked in site.ranges) == 3
    assert len(set(site.ranges)) == 4, "every continuation starts further on"


def test_gives_up_and_continues_in_another_run(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "coco"
    site.breaks = 1
    assert_refused(run(site, folder, "--retries", "0"), "run the same command to continue", ".part")
    part = folder / "annotations_trainval2017.zip.part"
    kept = part.stat().st_size
    assert 0 < kept < len(site.files["/annotations/annotations_trainval2017.zip"])
    assert run(site, folder).returncode == 0
    assert f"bytes={kept}-" in site.ranges
    assert_complete(folder)


def test_complete_part_and_server_without_ranges(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "coco"
    folder.mkdir(parents=True)
    (folder / "annotations_trainval2017.zip.part").write_bytes(site.files["/annotations/annotations_trainval2017.zip"])
    (folder / "val2017.zip.part").write_bytes(site.files["/zips/val2017.zip"][:99])
    assert run(site, folder).returncode == 0
    assert_complete(folder)
    shutil.rmtree(folder / "val2017")
    (folder / "val2017.zip.part").write_bytes(site.files["/zips/val2017.zip"][:99])
    site.supports_ranges = False
    assert run(site, folder).returncode == 0
    assert_complete(folder)


def test_wrong_checksum_is_removed(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "coco"
    md5 = site.checksum_file(tmp_path)
    site.files["/zips/val2017.zip"] += b"more"
    done = run(site, folder, "--md5", str(md5), checksums=False)
    assert_refused(done, "val2017.zip", "checksum", hashlib.md5(site.files["/zips/val2017.zip"]).hexdigest())
    assert not list(folder.glob("val2017*"))
    assert (folder / "annotations").is_dir(), "what was right stays"


def test_built_in_checksums_refuse_other_archives(site: Site, tmp_path: Path) -> None:
    assert_refused(run(site, tmp_path / "coco", checksums=False), "f4bbac642086de4f52a3fdda2de5fa2c")


def test_crc_is_checked_where_no_checksum_is_known(site: Site, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    broken = bytearray(site.files["/zips/val2017.zip"])
    broken[5000] ^= 1
    site.files["/zips/val2017.zip"] = bytes(broken)
    done = run(site, tmp_path / "coco", "--md5", str(tmp_path / "none.txt"), checksums=False)
    assert_refused(done, "val2017.zip: damaged (val2017/000000000000.jpg)")
    assert "checking the CRC" in done.stdout


def test_unknown_file_no_network_and_no_folder(site: Site, tmp_path: Path) -> None:
    assert_refused(run(site, tmp_path / "coco", "--url", f"{site.url}/elsewhere"), "404", "--url")
    refused = run(site, tmp_path / "coco", "--url", "http://127.0.0.1:9", "--retries", "0")
    assert_refused(refused, "Connection refused")
    (tmp_path / "file").write_text("")
    assert_refused(run(site, tmp_path / "coco", "--dir", str(tmp_path / "file" / "coco")), "file")


def test_space_is_checked_before_downloading(site: Site, tmp_path: Path, monkeypatch, capsys) -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import download_coco
    finally:
        sys.path.pop(0)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download_coco.shutil, "disk_usage", lambda _: usage)
    folder = tmp_path / "coco"
    arguments = ["--dir", str(folder), "--url", site.url, "--splits", "val", "--md5", str(site.checksum_file(tmp_path))]
    assert download_coco.main(arguments) == 2
    assert "no space" in capsys.readouterr().err
    assert not (folder / "annotations_trainval2017.zip.part").exists()
