"""Files of data sets: a local copy of the user's, or a download into the platform's cache directory.

A download counts only whole and with the right checksum; then it stays in the cache, which is
``jaxrnn`` in the platform's directory for caches, or what the environment variable JAXRNN_CACHE names.
What a local copy holds is the user's own affair: it is checked only for being readable.
"""

import gzip
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import pooch
import requests
import rich.console
import rich.progress

from experiments.runs import InputError

CACHE = "JAXRNN_CACHE"


class Remote(NamedTuple):
    """Where a file comes from: an address, and a SHA-256 in hexadecimal, or another checksum as ``md5:...``."""

    url: str
    checksum: str


def fetch(name: str, url: str, checksum: str, data: pathlib.Path | None = None) -> pathlib.Path:
    """Return the path of a file: ``data`` itself, ``name`` in the folder ``data``, or else the downloaded file.

    Args:
        name: the file's name, or ``folder/name``, the folder being one of the cache alone.
        url, checksum: see `Remote`.
        data: what the user gave as ``--data``.

    Raises:
        InputError: no such file in ``data``; or without it, no connection, another checksum, or no place to write.
    """
    if data is not None:
        path = data / pathlib.PurePath(name).name if data.is_dir() else data
        if not path.is_file():
            raise InputError(f"--data {data}: expected the file {path.name}; it can be downloaded from {url}")
        return path
    files = pooch.create(pooch.os_cache("jaxrnn"), "", registry={name: checksum}, urls={name: url}, env=CACHE)
    by_hand = f"or get {url} by other means and give the folder it lies in with --data"
    downloader: Any = _download  # pooch's annotation misnames the arguments that it gives
    try:
        return pathlib.Path(files.fetch(name, downloader=downloader))
    except requests.RequestException as error:
        answer = error.response
        reason = type(error).__name__ if answer is None else f"the server says {answer.status_code} {answer.reason}"
        raise InputError(f"{name}: cannot be downloaded ({reason}); try again with a connection, {by_hand}") from error
    except OSError as error:
        raise InputError(f"{files.abspath}: cannot be written to ({error}); let {CACHE} name another folder") from error
    except ValueError as error:
        raise InputError(
            f"{name}: what came from {url} has not the checksum {checksum}: it was damaged on the way, or is not the "
            f"same file any more; try again, {by_hand}"
        ) from error


def _download(url: str, path: str, _: pooch.Pooch) -> None:
    """Write to ``path`` what ``url`` gives, with a progress bar on the error output."""
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.DownloadColumn())
    with (
        requests.get(url, stream=True, timeout=30, headers={"Accept-Encoding": "identity"}) as response,
        open(path, "wb") as file,
        rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as progress,
    ):
        response.raise_for_status()
        size = int(response.headers.get("Content-Length", 0))
        task = progress.add_task(url.rpartition("/")[2], total=size or None)
        for block in response.iter_content(1 << 16):
            file.write(block)
            progress.advance(task, len(block))


def fetch_all(folder: str, files: Mapping[str, Remote], data: pathlib.Path | None = None) -> dict[str, pathlib.Path]:
    """Return the paths of a data set's files by their names; ``folder`` is theirs in the cache.

    Raises:
        InputError: ``data`` is not a folder that holds them all, or see `fetch`.
    """
    missing = [] if data is None else [name for name in files if not (data / name).is_file()]
    if missing:
        addresses = "".join(f"\n  {files[name].url}" for name in missing)
        raise InputError(f"--data {data}: expected a folder with {', '.join(files)}; missing are:{addresses}")
    return {name: fetch(f"{folder}/{name}", *remote, data) for name, remote in files.items()}


def read_bytes(path: pathlib.Path) -> bytes:
    """Return what a file holds, decompressed if its name ends in ``.gz``.

    Raises:
        InputError: the file cannot be read, or is damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"--data {path}: is no whole gzip file ({error}); get it anew") from error
    except OSError as error:
        raise InputError(f"--data {path}: cannot be read ({error.strerror}); give the path of a file") from error


def read_text(path: pathlib.Path) -> str:
    """Return the text of a file, decompressed if its name ends in ``.gz``, its lines ending in line feeds alone.

    Raises:
        InputError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"--data {path}: not UTF-8 text (byte {error.start:,} is {error.object[error.start]:#04x}); "
            f"convert it first, for example: iconv -f latin1 -t utf-8 {path} > text.txt"
        ) from error
    if "\0" in text:
        raise InputError(f"--data {path}: holds NUL characters, so it is binary or damaged; give a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")
