"""The program without its checkout: what a wheel holds, and all that a person does with it."""

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from publisher.release.contents import SUMS
from tests.builds import EXTRACTOR_A, HANDLES, ROOT, Finished, Project
from tests.releases import tree

FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
FOLDERS = ("publisher", "templates", "data", "tests")
SDIST = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"


@dataclass(frozen=True)
class Installation:
    """A virtual environment that has the program, and libraries from the one of the tests."""

    wheel: Path
    folder: Path

    def start(self, folder: Path, *command: str) -> subprocess.Popen[str]:
        """Start a program of the environment in a folder."""
        hidden = ("PYTHONPATH", "CI")
        return subprocess.Popen(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if key not in hidden},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, *command: str) -> Finished:
        """Run a program of the environment in a folder, to its end."""
        process = self.start(folder, *command)
        stdout, stderr = process.communicate()
        return Finished(process.returncode, stdout, stderr)


def _python(folder: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The program as its source distribution gives a wheel, and the wheel an installation."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copyfile(ROOT / name, source / name)
    (source / "publisher/util/__pycache__").mkdir()
    (source / "publisher/util/__pycache__/files.cpython-311.pyc").write_bytes(b"")
    sdist = source / "dist" / _python(source, "-c", SDIST).splitlines()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    offline = ("--no-index", "--no-deps")
    _python(folder, *pip, "wheel", *offline, "--no-build-isolation", "-w", "wheels", unpacked)
    (wheel,) = (folder / "wheels").iterdir()
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    _python(folder, *pip, "--python", environment / "bin/python", "install", *offline, wheel)
    (packages,) = environment.glob("lib/python*/site-packages")
    # The checkout is in another file of that folder, and those are not read from here.
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    return Installation(wheel, environment)


def test_a_wheel_holds_the_package_with_its_templates_and_nothing_else(
    installation: Installation,
) -> None:
    with zipfile.ZipFile(installation.wheel) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    code = {path.relative_to(ROOT) for path in (ROOT / "publisher").rglob("*.py")}
    brought = {
        Path("publisher", path.relative_to(ROOT))
        for name in ("templates", "data")
        for path in (ROOT / name).rglob("*")
        if path.is_file()
    }
    assert found == {str(path) for path in code | brought} | {"publisher/py.typed"}
    (unpacked,) = (installation.folder.parent / "unpacked").iterdir()
    assert not (unpacked / "tests").exists()


def test_an_installed_publisher_does_all_without_a_checkout(
    installation: Installation, published: Project, tmp_path: Path
) -> None:
    copy = published.copy(tmp_path / "copy")
    shutil.rmtree(copy.folder / "templates")
    shutil.rmtree(copy.release)
    where = "import publisher; print(publisher.__file__)"
    package = installation.run(copy.folder, "python", "-c", where).stdout
    assert Path(package).is_relative_to(installation.folder)

    finished = installation.run(copy.folder, "publisher", "list")
    assert [line.split()[0] for line in finished.stdout.splitlines()[1:]] == HANDLES

    # Its code is that of the checkout, so that only what follows from what is missing is made.
    shutil.rmtree(copy.build / "models" / EXTRACTOR_A / "saved_model")
    command = ("publish", "--weights", "synthetic", "--json")
    finished = installation.run(copy.folder, "publisher", *command)
    assert finished.status == 0, finished.stderr
    assert finished.statuses == dict.fromkeys(HANDLES, "new")
    assert finished.stages == {"convert": 1, "validate": 1}
    assert (copy.release / SUMS).read_bytes() == (published.release / SUMS).read_bytes()

    finished = installation.run(copy.folder, "publisher", "verify")
    assert finished.status == 0, finished.stderr

    before = tree(copy.folder)
    with installation.start(copy.folder, "publisher", "serve", "--port", "0") as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1].rstrip("/")
        page = requests.get(f"{address}/{EXTRACTOR_A}", headers={"Accept": "text/html"}, timeout=60)
        style = requests.get(f"{address}/hub.css", timeout=60)
        server.terminate()
    assert page.status_code == 200
    assert EXTRACTOR_A in page.text
    assert style.content == (ROOT / "templates/web/hub.css").read_bytes()
    assert tree(copy.folder) == before
