"""Serves archives on loopback, so that `tensorflow_hub` loads them over HTTP as users do."""

import http.server
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(archives: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """Serve the archives until the `with` block ends; yield their addresses by key.

    Keys are handles: the address of `a/b/1` is `http://127.0.0.1:PORT/a/b/1/model.tar.gz`.
    """
    paths = {f"/{key}/model.tar.gz": path for key, path in archives.items()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = paths.get(self.path.partition("?")[0])
            if path is None:
                self.send_error(404)
                return
            with path.open("rb") as file:
                self.send_response(200)
                self.send_header("Content-Type", "application/gzip")
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
                self.end_headers()
                shutil.copyfileobj(file, self.wfile, 1024 * 1024)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        yield {key: f"{base}/{key}/model.tar.gz" for key in archives}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hub_cache(directory: Path) -> Iterator[None]:
    """Make `tensorflow_hub` unpack into `directory`, and remove that directory afterwards.

    The client takes these settings only from the environment. They override the user's own:
    the client must load the archive, must not send a loopback request to a proxy, and must not
    print to standard output, which belongs to `--json`.
    """
    settings = {
        "TFHUB_CACHE_DIR": str(directory),
        "TFHUB_MODEL_LOAD_FORMAT": "COMPRESSED",
        "TFHUB_DOWNLOAD_PROGRESS": "",
        "no_proxy": "127.0.0.1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    shutil.rmtree(directory, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
