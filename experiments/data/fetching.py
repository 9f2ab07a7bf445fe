"""Files of data sets: a local copy of the user's, or a download into the platform's cache directory.

A download counts only whole and with the right checksum; then it stays in the cache, which is
``jaxrnn`` in the platform's directory for caches, or what the environment variable JAXRNN_CACHE names.
A local copy must hold what the original does, or else the user must say that it is to be taken as it is;
compression, line endings and a byte order mark make no difference.
"""

import codecs
import gzip
import hashlib
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
    """Where a file comes from, and what tells it from others: SHA-256 in hexadecimal, or as ``md5:...``.

    url: its address.
    checksum: of what lies there.
    contents: of what a local copy may hold, decompressed; what lies there unless given.
    """

    url: str
    checksum: str
    contents: tuple[str, ...] = ()


def fetch_all(
    folder: str, files: Mapping[str, Remote], data: pathlib.Path | None = None, *, unchecked: bool = False
) -> dict[str, pathlib.Path]:
    """Return the paths of a data set's files by their names.

    Args:
        folder: theirs in the cache.
        files: what they are, by name.
        data: the folder of a local copy, which may have unpacked the files whose names end in ``.gz``.
        unchecked: take the local copy as it is.

    Raises:
        InputError: ``data`` is not a folder that holds them all, or they do not hold what the originals do;
            without it, see `fetch`.
    """
    if data is None:
        return {name: fetch(f"{folder}/{name}", remote.url, remote.checksum) for name, remote in files.items()}
    candidates = {name: (data / name, data / name.removesuffix(".gz")) for name in files}
    paths = {name: path for name, both in candidates.items() for path in reversed(both) if path.is_file()}
    missing = [name for name in files if name not in paths]
    if missing:
        addresses = "".join(f"\n  {files[name].url}" for name in missing)
        raise InputError(f"--data {data}: expected a folder with {', '.join(files)}; missing are:{addresses}")
    if not unchecked:
        for name, path in paths.items():
            _check(path, files[name])
    return paths


def _check(path: pathlib.Path, remote: Remote) -> None:
    """Raise an `InputError` unless a local copy holds what the original does, apart from the ends of lines."""
    content = read_bytes(path)
    text = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    known = remote.contents or (remote.checksum,)
    if not any(_has_checksum(form, checksum) for form in (content, text) for checksum in known):
        raise InputError(
            f"--data {path}: truncated or altered: its {len(content):,} bytes are not those of the data set. "
            f"Get it anew from {remote.url}, or have it taken as it is with --unchecked"
        )


def _has_checksum(content: bytes, checksum: str) -> bool:
    algorithm, _, expected = checksum.rpartition(":")
    return hashlib.new(algorithm or "sha256", content).hexdigest() == expected


def name_of(original: str, data: pathlib.Path | None, *, unchecked: bool) -> str:
    """Return what to call a data set: a local copy that was taken as it is has not the name of the original.

    Example:
        >>> name_of("SST-2", pathlib.Path("data/mine"), unchecked=True)
        'mine (unchecked)'
    """
    return f"{data.name} (unchecked)" if data is not None and unchecked else original


def fetch(name: str, url: str, checksum: str) -> pathlib.Path:
    """Return the path of a file in the cache, downloaded if it is not there yet.

    Args:
        name: its place in the cache, ``name`` or ``folder/name``.
        url, checksum: see `Remote`.

    Raises:
        InputError: no connection, another checksum, or no place to write.
    """
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
