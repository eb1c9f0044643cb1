"""Download COCO 2017 (photos and instance annotations): resumable, checksummed, with a progress bar.

    python scripts/download_coco.py --dir data/coco --splits train val

leaves `train2017/`, `val2017/` and `annotations/instances_*.json` in the folder, the layout of `data=coco`. Run it
again after any interruption: it continues where it stopped and does nothing when all is there. Exit status 2 with
one line on standard error when it cannot go on.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

DEFAULT_URL = "http://images.cocodataset.org"
CHUNK = 1 << 20
GB = 1e9


class Archive(NamedTuple):
    """One file of the COCO site.

    Attributes:
        path: Below the base URL.
        size: Bytes.
        md5: Checksum of the file as published.
        folder: What it unpacks to.
        prefix: Members to unpack; the annotation archive also holds captions and key points, which are left out.
        unpacked: Bytes on disk after unpacking, about.
    """

    path: str
    size: int
    md5: str
    folder: str
    prefix: str
    unpacked: int

    @property
    def name(self) -> str:
        """File name."""
        return self.path.rsplit("/", 1)[-1]


ARCHIVES = {
    "annotations": Archive(
        "annotations/annotations_trainval2017.zip",
        252_907_541,
        "f4bbac642086de4f52a3fdda2de5fa2c",
        "annotations",
        "annotations/instances_",
        490_000_000,
    ),
    "val": Archive(
        "zips/val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", "val2017", "val2017/", 830_000_000
    ),
    "train": Archive(
        "zips/train2017.zip",
        19_336_861_798,
        "cced6f7f71b7629ddf16f17bbcfab6b2",
        "train2017",
        "train2017/",
        19_600_000_000,
    ),
}
Advance = Callable[[int], None]


class DownloadError(Exception):
    """What stopped the download, and what to do, in one line."""


def require_space(folder: Path, needed: float, purpose: str) -> None:
    """Raise `DownloadError` when fewer than `needed` bytes are free where `folder` lies."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DownloadError(
            f"no space for {purpose}: {needed / GB:.2f} GB needed in {folder}, {free / GB:.2f} GB free;"
            " make room or choose another --dir"
        )


def _open(url: str, start: int, timeout: float) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    return urllib.request.urlopen(request, timeout=timeout)


def _total_size(response: http.client.HTTPResponse, start: int) -> int | None:
    content_range = response.headers.get("Content-Range", "")
    if "/" in content_range and content_range.rsplit("/", 1)[1].isdigit():
        return int(content_range.rsplit("/", 1)[1])
    length = response.headers.get("Content-Length")
    return None if length is None else int(length) + start


def fetch(url: str, part: Path, unpacked: int, progress: tuple[Advance, Advance], timeout: float = 30.0) -> None:
    """One attempt to complete `part` from `url`, appending to what is there.

    Args:
        url: The file.
        part: Where it grows; kept when the connection breaks.
        unpacked: Bytes that unpacking will need, for the check of the free space.
        progress: Called with the total size, and with the number of bytes now there.
        timeout: Seconds without any byte before the attempt is given up.

    Raises:
        DownloadError: wrong address or no space: trying again will not help.
        OSError: the connection broke; the next attempt continues.
    """
    set_total, set_done = progress
    start = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, start, timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing behind `start`: complete, unless it has grown too long
            size = error.headers.get("Content-Range", "").rsplit("/", 1)[-1]
            if size.isdigit() and int(size) < start:
                part.unlink()
                raise OSError("the partial file was longer than the archive") from error
            return
        if error.code in (408, 429) or error.code >= 500:
            raise OSError(f"the server answered {error.code} {error.reason}") from error
        raise DownloadError(f"{url}: the server answered {error.code} {error.reason}; check --url") from error
    with response:
        if response.status != 206:
            start = 0  # the server ignores ranges and sends everything again
        total = _total_size(response, start)
        set_done(start)
        if total is not None:
            set_total(total)
            require_space(part.parent, total - start + unpacked, f"{part.name.removesuffix('.part')} and its content")
        with open(part, "ab" if start else "wb") as file:
            done = start
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                set_done(done)
    if total is not None and done < total:
        raise OSError(f"the connection closed after {done} of {total} bytes")


def download(url: str, part: Path, unpacked: int, progress: tuple[Advance, Advance], retries: int, wait: float) -> None:
    """`fetch` until complete; gives up after `retries` attempts in a row that brought nothing."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            return fetch(url, part, unpacked, progress)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after > before else failures + 1
            if failures > retries:
                reason = getattr(error, "reason", error)
                kept = f"; {after} bytes are kept in {part}" if after else ""
                raise DownloadError(f"{url}: {reason}{kept}; run the same command to continue") from error
            time.sleep(wait * 2 ** (failures - 1))


def file_md5(path: Path, advance: Advance) -> str:
    """MD5 of a file, hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            advance(done)
    return digest.hexdigest()


def verify(path: Path, name: str, md5: str | None, advance: Advance) -> None:
    """Check an archive against its checksum, or the CRC of every member where no checksum is known.

    Raises:
        DownloadError: naming both checksums, or the damaged member.
    """
    if md5 is not None:
        actual = file_md5(path, advance)
        if actual != md5:
            raise DownloadError(f"{name}: checksum {actual} instead of {md5}")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error) as error:
        broken = str(error)
    if broken is not None:
        raise DownloadError(f"{name}: damaged ({broken})")


def unpack(path: Path, archive: Archive, folder: Path, progress: tuple[Advance, Advance]) -> None:
    """Unpack into a hidden folder and move it into place when complete."""
    set_total, set_done = progress
    hidden = folder / f".{archive.folder}.unpacking"
    shutil.rmtree(hidden, ignore_errors=True)
    with zipfile.ZipFile(path) as content:
        members = [m for m in content.infolist() if m.filename.startswith(archive.prefix) and not m.is_dir()]
        if not members:
            raise DownloadError(f"{archive.name} has no files {archive.prefix}*; check --url")
        total = sum(member.file_size for member in members)
        require_space(folder, total, f"the content of {archive.name}")
        set_total(total)
        done = 0
        for member in members:
            content.extract(member, hidden)
            done += member.file_size
            set_done(done)
    os.replace(hidden / archive.folder, folder / archive.folder)
    shutil.rmtree(hidden)


def read_checksums(path: Path) -> dict[str, str]:
    """File names and MD5 sums from lines as `md5sum` writes them."""
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    if any(len(words) != 2 or len(words[0]) != 32 for words in lines):
        raise DownloadError(f"{path}: expected lines of a checksum and a file name, as md5sum writes them")
    return {name.lstrip("*"): md5.lower() for md5, name in lines}


def obtain(archive: Archive, options: argparse.Namespace, checksums: dict[str, str] | None, bars: Progress) -> None:
    """Everything for one archive: download, verify, unpack, remove the archive."""
    folder: Path = options.dir
    if (folder / archive.folder).is_dir():
        bars.console.print(f"{archive.folder}: there already")
        return
    zipped, part = folder / archive.name, folder / f"{archive.name}.part"

    def bar(what: str, total: int | None) -> tuple[Advance, Advance]:
        task = bars.add_task(f"{archive.name} {what}", total=total)
        return (
            lambda value: bars.update(task, total=value),
            lambda value: bars.update(task, completed=value),
        )

    md5 = archive.md5 if checksums is None else checksums.get(archive.name)
    if md5 is None:
        bars.console.print(f"{archive.name}: no checksum given, checking the CRC of every member instead")
    if zipped.is_file():  # from an interrupted run, --keep-archives, or another download
        verify(zipped, str(zipped), md5, bar("check", zipped.stat().st_size)[1])
    else:
        url = f"{options.url.rstrip('/')}/{archive.path}"
        room = archive.unpacked if checksums is None else 0
        download(url, part, room, bar("download", archive.size), options.retries, options.wait)
        try:
            verify(part, archive.name, md5, bar("check", part.stat().st_size)[1])
        except DownloadError as error:
            part.unlink()  # nothing can be appended to a wrong file
            raise DownloadError(f"{error}; the file was removed, run the same command to get it again") from error
        os.replace(part, zipped)
    unpack(zipped, archive, folder, bar("unpack", None))
    if not options.keep_archives:
        zipped.unlink()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    data_dir = os.environ.get("WANAMAKER_DATA_DIR", "data")
    parser = argparse.ArgumentParser(description="Download COCO 2017 photos and instance annotations.")
    parser.add_argument("--dir", type=Path, default=Path(data_dir) / "coco", help="target folder (%(default)s)")
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=("train", "val"),
        default=["val", "train"],
        help="photos to get, annotations come with any of them: train is 19 GB, val 0.8 GB (both)",
    )
    parser.add_argument("--url", default=DEFAULT_URL, help="base address, for a mirror (%(default)s)")
    parser.add_argument("--md5", type=Path, help="file of MD5 sums for a mirror with other archives")
    parser.add_argument("--retries", type=int, default=5, help="attempts in a row without progress (%(default)s)")
    parser.add_argument("--wait", type=float, default=1.0, help="seconds before a retry, doubling (%(default)s)")
    parser.add_argument("--keep-archives", action="store_true", help="do not delete the zip files")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 when all is there, 2 with one line on standard error otherwise, 130 when stopped."""
    options = parse_arguments(argv)
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    try:
        checksums = None if options.md5 is None else read_checksums(options.md5)
        options.dir.mkdir(parents=True, exist_ok=True)
        with Progress(*columns, console=Console()) as bars:
            for name in ["annotations", *options.splits]:
                obtain(ARCHIVES[name], options, checksums, bars)
    except DownloadError as error:
        print(f"download_coco: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"download_coco: {error}; nothing that was downloaded is lost, run again to continue", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("download_coco: stopped; run the same command to continue", file=sys.stderr)
        return 130
    print(f"COCO lies in {options.dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
