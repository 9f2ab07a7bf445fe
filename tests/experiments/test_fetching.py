import gzip
import hashlib
import http.server
import pathlib
import threading

import pytest

from experiments.data import fetching
from experiments.runs import InputError

CONTENT = b"label text\n" * 100
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    requests: list[str]

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        assert isinstance(self.server, Server)
        self.server.requests.append(self.path)
        if self.path == "/missing":
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:500] if self.path == "/truncated" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv(fetching.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once(server: Server, cache: pathlib.Path, capfd: pytest.CaptureFixture[str]):
    for _ in range(2):
        path = fetching.fetch("set/file", server.address("file"), CHECKSUM)
        assert path == cache / "set" / "file"
        assert path.read_bytes() == CONTENT
    assert server.requests == ["/file"]
    assert kept(cache) == [path]
    assert "100%" in capfd.readouterr().err  # the progress bar


def test_a_damaged_file_in_the_cache_is_downloaded_again(server: Server, cache: pathlib.Path):
    md5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
    path = fetching.fetch("file", server.address("file"), md5)
    path.write_bytes(CONTENT[:-1])
    assert fetching.fetch("file", server.address("file"), md5).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("path", "checksum", "message"),
    [
        ("file", "0" * 64, "has not the checksum 000"),
        ("missing", CHECKSUM, "the server says 404 Not Found"),
        ("truncated", CHECKSUM, "cannot be downloaded"),
    ],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing(
    server: Server, cache: pathlib.Path, path: str, checksum: str, message: str
):
    with pytest.raises(InputError, match=message) as caught:
        fetching.fetch("file", server.address(path), checksum)
    assert f"{server.address(path)} by other means and give the folder it lies in with --data" in str(caught.value)
    assert kept(cache) == []


def test_without_a_server_the_address_is_named(server: Server, cache: pathlib.Path):
    address = server.address("file")
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"ConnectionError.*with a connection") as caught:
        fetching.fetch("file", address, CHECKSUM)
    assert address in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(server: Server, cache: pathlib.Path):
    cache.write_text("a file where a folder should be")
    with pytest.raises(InputError, match=f"{cache}: cannot be written to .*{fetching.CACHE}"):
        fetching.fetch("file", server.address("file"), CHECKSUM)


PACKED = fetching.Remote("http://127.0.0.1:9/a.gz", "of the archive", (CHECKSUM, "md5:" + "0" * 32))


@pytest.mark.parametrize(
    "content",
    [CONTENT, CONTENT.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + CONTENT, CONTENT[:-1], CONTENT + b"\n\n"],
)
def test_a_local_copy_may_be_packed_and_end_its_lines_as_it_likes(tmp_path: pathlib.Path, content: bytes):
    (tmp_path / "a.gz").write_bytes(gzip.compress(content, 1))
    assert fetching.fetch_all("set", {"a.gz": PACKED}, tmp_path) == {"a.gz": tmp_path / "a.gz"}
    (tmp_path / "a.gz").unlink()
    (tmp_path / "a").write_bytes(content)
    assert fetching.fetch_all("set", {"a.gz": PACKED}, tmp_path) == {"a.gz": tmp_path / "a"}


@pytest.mark.parametrize("content", [CONTENT[:-11], CONTENT.replace(b"text", b"test", 1), b""])
def test_a_local_copy_that_holds_something_else_must_be_asked_for(tmp_path: pathlib.Path, content: bytes):
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=f"a.gz: truncated or altered: its {len(content):,} bytes") as caught:
        fetching.fetch_all("set", {"a.gz": PACKED}, tmp_path)
    assert f"anew from {PACKED.url}, or have it taken as it is with --unchecked" in str(caught.value)
    assert fetching.fetch_all("set", {"a.gz": PACKED}, tmp_path, unchecked=True) == {"a.gz": tmp_path / "a.gz"}


def test_a_copy_without_other_checksums_is_held_against_that_of_the_file(tmp_path: pathlib.Path):
    files = {"a": fetching.Remote("http://127.0.0.1:9/a", "md5:" + hashlib.md5(CONTENT).hexdigest())}
    (tmp_path / "a").write_bytes(CONTENT)
    assert fetching.fetch_all("set", files, tmp_path) == {"a": tmp_path / "a"}
    (tmp_path / "a").write_bytes(CONTENT[:550])
    with pytest.raises(InputError, match="a: truncated or altered"):
        fetching.fetch_all("set", files, tmp_path)


def test_what_a_folder_lacks_is_listed(tmp_path: pathlib.Path):
    files = {name: fetching.Remote(f"https://example.org/{name}", CHECKSUM) for name in ("one", "two", "three")}
    (tmp_path / "two").touch()
    with pytest.raises(InputError) as caught:
        fetching.fetch_all("set", files, tmp_path)
    assert "expected a folder with one, two, three; missing are:" in str(caught.value)
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [files["one"].url, files["three"].url]
    with pytest.raises(InputError, match=f"--data {tmp_path / 'nowhere'}: expected a folder with one, two, three"):
        fetching.fetch_all("set", files, tmp_path / "nowhere", unchecked=True)


def test_a_damaged_archive_is_named(tmp_path: pathlib.Path):
    path = tmp_path / "text.gz"
    whole = gzip.compress("grün\r\nblau".encode())
    path.write_bytes(whole)
    assert fetching.read_text(path) == "grün\nblau"
    flipped = whole[:12] + bytes([whole[12] ^ 0xFF]) + whole[13:]
    for damaged in (whole[:-9], b"no archive", flipped, whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"--data .*text.gz: is no whole gzip file \(.+\); get it anew"):
            fetching.read_bytes(path)
