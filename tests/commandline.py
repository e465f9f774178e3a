"""The command line in this process, in a project whose builds are stand-ins."""

from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.cli.main import main
from tests.builds import Finished, Inline, project

Command = Callable[..., Finished]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: type[Inline]) -> Path:
    """The current folder: a project; nothing is built yet."""
    folder = tmp_path / "project"
    project(folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("CI", raising=False)
    return folder


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line in this process."""

    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Finished(stopped.value.code, shown.out, shown.err)

    return run


@pytest.fixture
def published(command: Command) -> Finished:
    """A project that is built and published."""
    finished = command("publish", "--weights", "synthetic", "--json")
    assert finished.status == 0, finished.stderr
    return finished


def good(finished: Finished) -> Finished:
    assert finished.status == 0, finished.stderr
    return finished
