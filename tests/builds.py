"""What is built in the tests: two checkpoints with two heads each.

`Inline` takes the place of the worker processes where only what is done, and when, is
looked at: what it makes is made up, and TensorFlow stays out of it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from publisher.build import build as pipeline
from publisher.build.settings import Settings
from publisher.build.stages import Run
from publisher.families import ARCHITECTURES, Architecture
from publisher.pages.snippets import Snippet, SnippetProblem
from publisher.registry import Variant, load_registry
from publisher.util.files import sha256_file
from publisher.validation.expected import save_features
from publisher.validation.report import Check, Report
from publisher.validation.request import Request
from publisher.weights import parse_source, synthetic_array
from tests.releases import HEADER, TEMPLATES
from tests.shared import folder_of_all, once

CLASSIFIER_A = "sayakpaul/small_a_classification/1"
EXTRACTOR_A = "sayakpaul/small_a_features/1"
CLASSIFIER_B = "sayakpaul/small_b_classification/1"
EXTRACTOR_B = "sayakpaul/small_b_features/1"
HANDLES = [CLASSIFIER_A, EXTRACTOR_A, CLASSIFIER_B, EXTRACTOR_B]
CLASSES = 10
ROOT = Path(__file__).parents[1]


def checkpoint(name: str, *, architecture: str = "R20x0.5", **more: Any) -> str:
    """Return the lines of one checkpoint; `more` are further keys, or other values."""
    values = {
        "path": f"distill/{name}.npz",
        "architecture": architecture,
        "classes": CLASSES,
        "class_names": "names.txt",
        "resolution": 32,
        "input_range": "[-1, 1]",
        "parity_resolutions": "[32, 40]",
        "training": "Made up.",
        "datasets": "[other]",
        "network_architectures": "[bit]",
        **more,
    }
    lines = [f"    {key}: {value}\n" for key, value in values.items() if value is not None]
    return f"  {name}:\n" + "".join(lines)


def variant(handle: str, name: str, head: str) -> str:
    """Return the lines of one variant."""
    return f"  - handle: {handle}\n    checkpoint: {name}\n    head: {head}\n"


A, B = checkpoint("a"), checkpoint("b")
VARIANTS = "".join(
    variant(handle, handle.split("_")[1], head)
    for handle, head in zip(HANDLES, ("classifier", "feature_extractor") * 2, strict=True)
)
REGISTRY = f"{HEADER}{A}{B}variants:\n{VARIANTS}"


def edited(*edits: tuple[str, str]) -> str:
    """Return the registry with each text replaced, which must be there once."""
    text = REGISTRY
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def project(folder: Path, text: str = REGISTRY) -> Path:
    """Write a registry and all that it needs, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.txt").write_text("".join(f"class {index}\n" for index in range(CLASSES)))
    (folder / "models.yaml").write_text(text)
    if not (folder / "templates").exists():
        shutil.copytree(TEMPLATES, folder / "templates")
    return folder / "models.yaml"


def run_of(
    registry_file: Path,
    build: Path,
    *,
    weights: str = "synthetic",
    reporter: "Watcher | None" = None,
    **settings: Any,
) -> Run:
    """Return a run as the command line makes it."""
    registry = load_registry(registry_file)
    defaults = Settings(
        registry_file, build, locked=False, thorough=False, jobs=1, memory=8_000_000_000
    )
    source = parse_source(weights, registry.upstream)
    return Run(registry, replace(defaults, **settings), source, reporter or Watcher())


class Watcher:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.reasons: dict[tuple[str, str], str] = {}
        self.finishes: list[tuple[str, str]] = []
        self.failures: dict[tuple[str, str], str] = {}
        self.warnings: list[str] = []

    def started(self, subject: str, stage: str, reason: str) -> None:
        self.reasons[stage, subject] = reason

    def progress(self, subject: str, stage: str, done: int, total: int | None) -> None:
        pass

    def finished(self, subject: str, stage: str, seconds: float, note: str) -> None:
        self.finishes.append((stage, subject))

    def failed(self, subject: str, stage: str, message: str) -> None:
        self.failures[stage, subject] = message

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @property
    def stages(self) -> Counter[str]:
        """How often each stage was started."""
        return Counter(stage for stage, _ in self.reasons)


def real_weights(folder: Path, names: Iterable[str], classes: int = CLASSES) -> Path:
    """Write weight files that are not recognized as synthetic, and return the folder."""
    for seed, name in enumerate(names, start=7):
        path = folder / "distill" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        shapes = ARCHITECTURES["R20x0.5"].arrays(classes)
        arrays: dict[str, Any] = {
            key: synthetic_array(key, shape, seed) for key, shape in shapes.items()
        }
        np.savez(path, **arrays)
    return folder


class Inline:
    """Makes stand-ins at once, in this process. `faults` are raised in place of a piece of work.

    Keys of `faults` are `task handle-or-checkpoint`.
    """

    faults: dict[str, Exception | Callable[[], None]]

    def __init__(self, count: int) -> None:
        self.count = count

    def warm_up(self, count: int) -> None:
        pass

    def close(self) -> None:
        pass

    def run(self, task: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        stand_in, subject = STAND_INS[task.__name__], _subject(task.__name__, args, kwargs)
        fault = self.faults.get(f"{task.__name__} {subject}")
        if isinstance(fault, Exception):
            raise fault
        if fault:
            fault()
        return stand_in(*args, **kwargs)

    def run_within(self, seconds: float, task: Callable[..., Any], *args: Any) -> Any:
        return self.run(task, *args)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> type[Inline]:
    """Let builds in this process go without TensorFlow."""
    monkeypatch.setattr(pipeline, "Workers", Inline)
    monkeypatch.setattr(Inline, "faults", {}, raising=False)
    return Inline


def _subject(task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    if task == "validate":
        return str(args[0].handle)
    if task == "try_snippet":
        return str(args[0].line)
    if task == "convert":
        return "/".join(kwargs["directory"].parts[-4:-1])
    return str(kwargs["target"].name.split(".")[1])


def _convert(
    weights: Path | None,
    architecture: Architecture,
    *,
    head: str,
    assets: list[Path],
    directory: Path,
    **settings: Any,
) -> None:
    (directory / "variables").mkdir(parents=True)
    (directory / "assets").mkdir()
    graph = f"{architecture.name} {head} {sorted(settings.items())}"
    (directory / "saved_model.pb").write_text(graph)
    (directory / "variables" / "variables.index").write_text(
        sha256_file(weights) if weights else "synthetic"
    )
    for asset in assets:
        shutil.copy(asset, directory / "assets" / asset.name)


def _expect(
    weights: Path,
    architecture: Architecture,
    *,
    resolutions: tuple[int, ...],
    target: Path,
    **_: Any,
) -> None:
    save_features(target, {resolution: np.ones((1, 2)) for resolution in resolutions})


def _validate(request: Request, weights: Path) -> dict[str, Any]:
    if request.head == "feature_extractor" and request.features:
        save_features(request.features, {32: np.full((1, 2), request.archive.stat().st_size)})
    bound = request.tolerance.absolute
    good = bound > 1e-9
    check = Check(
        "parity_with_float64_reference",
        "passed" if good else "failed",
        f"largest error 2.4e-05, bound {bound:.1e}",
        {"32px_largest_error": 2.4e-5},
    )
    if not good:
        request.failures.mkdir(parents=True, exist_ok=True)
        np.savez(request.failures / f"{check.name}.npz", measured=np.ones(2))
    report = Report(request.tolerance, (request.weights_check, check))
    return report.document(), report.failure_summary()


def _try_snippet(snippet: Snippet, archives: Mapping[str, Path]) -> SnippetProblem | None:
    """Run only what the tests write on a page; what the templates do needs TensorFlow."""
    if "tensorflow" in snippet.code:
        return None
    try:
        exec(snippet.code, {"__name__": "__main__"})  # noqa: S102
    except Exception as error:
        return SnippetProblem(snippet.line, f"this Python fails: {error}")
    return None


STAND_INS: dict[str, Callable[..., Any]] = {
    "convert": _convert,
    "expect": _expect,
    "validate": _validate,
    "try_snippet": _try_snippet,
}


def errors_of(results: Iterable[object]) -> dict[str, str]:
    """Return the messages of blocked variants, by handle."""
    return {
        result.variant.handle: str(result.error)
        for result in results
        if isinstance(result, pipeline.Failed)
    }


def chosen(run: Run, *handles: str) -> list[Variant]:
    """Return the variants with these handles, in the order of the registry; all if none."""
    return [v for v in run.registry.variants if not handles or v.handle in handles]


@dataclass(frozen=True)
class Finished:
    """What a command that has ended said."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document of `--json`."""
        return json.loads(self.stdout)

    @property
    def stages(self) -> Counter[str]:
        """How often each stage was started."""
        events = self.document["events"]
        return Counter(event["stage"] for event in events if event["event"] == "started")

    @property
    def statuses(self) -> dict[str, str]:
        """The status of each variant."""
        return {row["handle"]: row["status"] for row in self.document["variants"]}


def publisher(folder: Path, *arguments: str | Path, **environment: str) -> Finished:
    """Run the command line in a process of its own, in `folder`."""
    inherited = {key: value for key, value in os.environ.items() if key != "CI"}
    done = subprocess.run(
        [sys.executable, "-m", "publisher", *map(str, arguments)],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Project:
    """A folder with a registry; `build/` and `dist/` lie in it."""

    folder: Path
    finished: Finished

    @property
    def registry(self) -> Path:
        return self.folder / "models.yaml"

    @property
    def build(self) -> Path:
        return self.folder / "build"

    @property
    def release(self) -> Path:
        return self.folder / "dist"

    def copy(self, folder: Path) -> "Project":
        """Return a copy, with the times of change, that may be changed."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return replace(self, folder=folder)


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where builds keep what they found of graphs: one folder for all, `share` leads to it.

    To try a graph takes half of the time of a build, and all small networks have the same few.
    """
    folder = folder_of_all(tmp_path_factory) / "graphs"
    folder.mkdir(exist_ok=True)
    return folder


def share(graphs: Path, build: Path) -> None:
    """Let a build know what others found of graphs, and keep what it finds for them."""
    build.mkdir(parents=True)
    (build / "graphs").symlink_to(graphs)


def share_all(published: "Project", graphs: Path, build: Path) -> None:
    """Let a build know, besides, which snippets ran in the published one."""
    share(graphs, build)
    shutil.copytree(published.build / "snippets", build / "snippets")


@pytest.fixture(scope="session")
def published(graphs: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two checkpoints with two heads each, really built and released. Copy it to change it."""

    def make(folder: Path) -> Finished:
        project(folder)
        share(graphs, folder / "build")
        finished = publisher(folder, "publish", "--weights", "synthetic", "--json", "--jobs", "2")
        assert finished.status == 0, finished.stderr
        return finished

    return Project(*once(tmp_path_factory, "published", make))
