"""A release that was really built, and the command that verifies it."""

import json
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from publisher.cli.main import main
from publisher.release.sources.base import READING
from tests.builds import Finished, Project
from tests.hub.releases import served

Verify = Callable[..., Finished]


@pytest.fixture
def release(published: Project, tmp_path: Path) -> Path:
    """A copy of the release, to be changed."""
    return Path(shutil.copytree(published.release, tmp_path / "release"))


@pytest.fixture(scope="session")
def hub(published: Project) -> Iterator[str]:
    """The address of a server for the release, without a slash."""
    with served(published.release) as base:
        yield base


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def verify(
    scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Verify:
    """Runs `publisher verify`; TensorFlow is in this process, and comes once for all tests.

    Whatever is said, nothing may be left behind, and no traceback shown.
    """

    def alone(task: Callable[..., Any], *arguments: Any) -> Any:
        return task(*arguments)

    monkeypatch.setattr("publisher.verify.archives.run_alone", alone)
    monkeypatch.setitem(vars(READING), "sleep", lambda _: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)

    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["verify", *map(str, arguments)])
        shown = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        assert list(scratch.iterdir()) == []
        assert "Traceback" not in shown.err
        return Finished(stopped.value.code, shown.out, shown.err)

    return run


@pytest.fixture
def silent_host() -> Iterator[str]:
    """An address at which nobody listens, without a slash."""
    # A port that is bound and not listened at cannot be taken by anybody else.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def statuses(finished: Finished) -> dict[str, str]:
    """Return the status of each statement that `--json` printed."""
    return {found["what"]: found["status"] for found in finished.document["findings"]}


def detail(finished: Finished, what: str) -> str:
    """Return what one statement that `--json` printed says."""
    (found,) = [found for found in finished.document["findings"] if found["what"] == what]
    return str(found["detail"])


def flip(path: Path, at: int) -> None:
    """Change one bit of a file, as a bad disk would."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))
