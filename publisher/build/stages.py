"""The seven stages: the inputs of each, and what it does.

    fetch ─► expect ───────────────┐
      └────► convert ─► package ─► validate ─► render ─► try

`fetch` and `expect` belong to a checkpoint, the others to a variant. Validation follows packaging
because it loads the packed archive, as users do. `try` runs the Python on the rendered page, as
its readers do.
"""

import functools
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from math import prod
from pathlib import Path
from typing import Any

import publisher
from publisher.build import snippets, workers
from publisher.build.engine import Key, Made, Records, Step, Task
from publisher.build.manifest import Weights, build_manifest, class_names_file, output_of
from publisher.build.records import outputs_digest, read_record
from publisher.build.settings import Settings
from publisher.build.workers import Workers
from publisher.documents.manifest import ARCHIVE, MANIFEST, PAGE
from publisher.documents.record import Record
from publisher.documents.report import Tolerance, read_report
from publisher.families import ARCHITECTURES, Architecture
from publisher.formats.archive import Archive, pack
from publisher.pages import PageError, asset_path, render_module
from publisher.pages.render import MODULE
from publisher.pages.templates import digest
from publisher.registry import Checkpoint, Registry, Variant
from publisher.util.files import (
    sha256,
    sha256_file,
    sha256_tree,
    sha256_value,
    write_whole,
)
from publisher.util.http import without_secrets
from publisher.util.reporter import Reporter
from publisher.validation.report import Check, ValidationError
from publisher.validation.request import Request
from publisher.weights import Source, UnreachableError, fetch, read_lock

STAGES = ("fetch", "convert", "expect", "package", "validate", "render", "try")
SOURCE = Path(publisher.__file__).parent
IN_WORKERS = ("build/workers.py", "weights/npz.py")  # code of every stage that runs in a worker
TENSORFLOW_MEMORY = 800_000_000  # bytes of a process with TensorFlow and no model
SNIPPET_MEMORY = 500_000_000  # additional bytes of a snippet that trains a stand-in


@dataclass
class Run:
    """One run over the registry.

    `unreachable` is the message of the first download that got no answer. The source is not
    asked again in this run.
    """

    registry: Registry
    settings: Settings
    source: Source
    reporter: Reporter
    workers: Workers = field(default_factory=lambda: Workers(1))
    unreachable: str = ""

    def folder(self, variant: Variant) -> Path:
        """Return the folder of a variant's artifacts."""
        return self.settings.build / "models" / variant.handle

    def sibling(self, variant: Variant) -> Variant | None:
        """Return the feature extractor that validation compares a classifier with."""
        if variant.head != "classifier":
            return None
        return self.registry.sibling(variant, "feature_extractor")


def tasks_of(run: Run, variants: Iterable[Variant]) -> dict[Key, Task]:
    """Return all tasks of the variants, each after those that it needs.

    They are ordered by stage, because the stages of one variant wait for each other and would
    leave the last variant to run alone. Within a stage, larger networks come first.
    """
    chosen = list(dict.fromkeys(variants))
    needed = dict.fromkeys([*filter(None, map(run.sibling, chosen)), *chosen])
    ordered = sorted(needed, key=lambda variant: -_bytes(run, variant))
    tasks: dict[Key, Task] = {}
    for variant in ordered:
        for task in _tasks(run, variant, chosen=variant in chosen):
            tasks.setdefault(task.key, task)
    return {key: tasks[key] for key in sorted(tasks, key=lambda key: STAGES.index(key.stage))}


def _tasks(run: Run, variant: Variant, *, chosen: bool) -> list[Task]:
    checkpoint, handle = variant.checkpoint, variant.handle
    size = _bytes(run, variant)
    fetched, expected = Key("fetch", checkpoint), Key("expect", checkpoint)
    converted, packed = Key("convert", handle), Key("package", handle)
    validated, rendered = Key("validate", handle), Key("render", handle)
    # One download at a time, so that an unreachable source is asked only once. Without downloads,
    # only checkpoints that share a file must not run together.
    mutex = "download" if run.source.remote else run.registry.checkpoint_of(variant).path
    sibling = run.sibling(variant)
    compared = (Key("validate", sibling.handle),) if sibling else ()
    bind = functools.partial
    tasks = [
        Task(fetched, (), bind(_fetch, run, variant), mutex=mutex),
        Task(converted, (fetched,), bind(_convert, run, variant), TENSORFLOW_MEMORY + size),
        Task(expected, (fetched,), bind(_expect, run, variant), TENSORFLOW_MEMORY),
        Task(packed, (converted,), bind(_package, run, variant)),
        Task(
            validated,
            (fetched, expected, packed),
            bind(_validate, run, variant),
            TENSORFLOW_MEMORY + 2 * size,
            compared,
        ),
    ]
    if chosen:
        needs = (fetched, packed, validated)
        tasks.append(Task(rendered, needs, bind(_render, run, variant)))
        tasks.append(
            Task(
                Key("try", handle),
                (rendered,),
                bind(_try, run, variant),
                TENSORFLOW_MEMORY + SNIPPET_MEMORY,
                # Variants with the same stand-in share its folder.
                mutex=f"try {replace(_stand_in(run, variant), assets=())}",
            )
        )
    return tasks


def _fetch(run: Run, variant: Variant, done: Records) -> Step:
    """Fetch the weights of the variant's checkpoint and check them."""
    checkpoint = run.registry.checkpoint_of(variant)
    architecture = ARCHITECTURES[checkpoint.architecture]
    expected = architecture.arrays(checkpoint.classes)
    source = run.source
    folder = weights_folder(run)
    record_path = folder / "records" / f"{sha256(checkpoint.path.encode())[:16]}.json"
    base = without_secrets(source.base) if source.remote else source.base

    def action() -> Made:
        if run.unreachable:
            raise UnreachableError(run.unreachable)
        try:
            fetched = fetch(
                source,
                checkpoint.path,
                expected,
                cache=folder,
                lock_file=run.settings.lock_file,
                locked=run.settings.locked,
                progress=functools.partial(run.reporter.progress, variant.checkpoint, "fetch"),
                warn=run.reporter.warn,
            )
        except UnreachableError as error:
            run.unreachable = str(error)
            raise
        # Imported here, so that a run with nothing to fetch does not wait for NumPy's import.
        from publisher.weights import check_weights, open_npz

        arrays = open_npz(fetched.path)
        figures = check_weights(arrays, expected, str(fetched.path))
        arrays.release()
        result = {
            "size": fetched.digest.size,
            "sha256": fetched.digest.sha256,
            "synthetic": fetched.synthetic,
            "figures": vars(figures),
        }
        kind = "synthetic weights, " if fetched.synthetic else ""
        return Made(
            (fetched.path,),
            result,
            f"{kind}{fetched.digest.size / 1e6:,.1f} MB",
            {fetched.path: fetched.digest.sha256},
        )

    return Step(
        record_path,
        {
            "source": f"{source.kind} {base}".strip(),
            "file": checkpoint.path,
            "expected arrays": sha256_value(expected),
            "code": _code("weights", *_network_code(architecture, "layout")),
            **_versions("numpy"),
        },
        action,
        _lock_conflict(run, checkpoint.path, record_path),
    )


def _expect(run: Run, variant: Variant, done: Records) -> Step:
    """Compute the float64 features that both heads of a checkpoint are compared with."""
    weights = done[Key("fetch", variant.checkpoint)]
    checkpoint = run.registry.checkpoint_of(variant)
    architecture = ARCHITECTURES[checkpoint.architecture]
    resolutions = _resolutions(run, checkpoint)
    target = _expected_path(run, variant)

    def action() -> Made:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        run.workers.run(
            workers.expect,
            _weights_path(weights),
            architecture,
            input_range=checkpoint.input_range,
            resolutions=resolutions,
            target=temporary,
        )
        temporary.replace(target)
        at = ", ".join(f"{resolution} px" for resolution in resolutions)
        digest = sha256_file(target)
        return Made((target,), {"sha256": digest}, f"float64 features at {at}", {target: digest})

    return Step(
        target.with_suffix(".json"),
        {
            "weights": weights.result["sha256"],
            "architecture": checkpoint.architecture,
            "input range": str(checkpoint.input_range),
            "resolutions": str(resolutions),
            "code": _code(
                "validation/expected.py", *IN_WORKERS, *_network_code(architecture, "reference")
            ),
            **_versions("numpy"),
        },
        action,
    )


def _convert(run: Run, variant: Variant, done: Records) -> Step:
    """Make the SavedModel."""
    weights = done[Key("fetch", variant.checkpoint)]
    checkpoint = run.registry.checkpoint_of(variant)
    architecture = ARCHITECTURES[checkpoint.architecture]
    output, _ = output_of(run.registry, variant)
    assets = _assets(run, variant)
    directory = saved_model_path(run, variant)

    def action() -> Made:
        temporary = directory.with_name(".saved_model.tmp")
        for folder in (temporary, directory):
            shutil.rmtree(folder, ignore_errors=True)
        # A classifier must not be compared with the features of an earlier model.
        _features_path(run, variant).unlink(missing_ok=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        run.workers.run(
            workers.convert,
            _weights_path(weights),
            architecture,
            classes=checkpoint.classes,
            head=variant.head,
            output=output,
            input_range=checkpoint.input_range,
            assets=list(assets),
            directory=temporary,
            folded=variant.folded,
        )
        temporary.replace(directory)
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        return Made((directory,), {}, f"{size / 1e6:,.1f} MB")

    return Step(
        _record(run, variant, "convert"),
        {
            "weights": weights.result["sha256"],
            "architecture": checkpoint.architecture,
            "classes": str(checkpoint.classes),
            "head": variant.head,
            "output": output,
            "input range": str(checkpoint.input_range),
            "weight standardization": variant.weight_standardization,
            "class names": " ".join(f"{path.name}={sha256_file(path)}" for path in assets),
            "code": _code(
                "formats/saved_model",
                *IN_WORKERS,
                *_network_code(architecture, "layout", "folding", "network", "layers"),
            ),
            **_versions("tensorflow", "numpy", "protobuf"),
        },
        action,
    )


def _package(run: Run, variant: Variant, done: Records) -> Step:
    """Pack the SavedModel into `model.tar.gz`."""
    converted = done[Key("convert", variant.handle)]
    directory, target = saved_model_path(run, variant), archive_path(run, variant)

    def action() -> Made:
        temporary = target.with_name(".model.tar.gz.tmp")
        archive = pack(directory, temporary)
        temporary.replace(target)
        return Made(
            (target,), vars(archive), f"{archive.size / 1e6:,.1f} MB", {target: archive.sha256}
        )

    return Step(
        _record(run, variant, "package"),
        {
            "SavedModel": sha256(outputs_digest(converted, directory).encode()),
            "code": _code("formats/archive.py"),
            **_versions("isal"),
        },
        action,
    )


def _validate(run: Run, variant: Variant, done: Records) -> Step:
    """Run the checks on the archive.

    The action raises `ValidationError` if a check fails. It records nothing then, so that the next
    run checks again.
    """
    weights = done[Key("fetch", variant.checkpoint)]
    expected = done[Key("expect", variant.checkpoint)]
    packed = done[Key("package", variant.handle)]
    checkpoint = run.registry.checkpoint_of(variant)
    architecture = ARCHITECTURES[checkpoint.architecture]
    output, length = output_of(run.registry, variant)
    tolerance = run.registry.tolerance_of(variant)
    names = run.registry.class_names(checkpoint) if variant.head == "classifier" else None
    sibling = run.sibling(variant)
    features = _features_path(run, sibling or variant)
    folder = run.folder(variant)
    report_path = _report_path(run, variant)
    made_with = {
        "code": _code(
            "validation",
            "documents/report.py",
            "formats/archive.py",
            *IN_WORKERS,
            *_network_code(architecture, "network", "reference"),
        ),
        **_versions(
            "tensorflow", "tensorflow-hub", "tf-keras", "tf2onnx", "numpy", "scikit-image", "pillow"
        ),
    }
    request = Request(
        handle=variant.handle,
        archive=archive_path(run, variant),
        architecture=architecture,
        head=variant.head,
        folded=variant.folded,
        output=output,
        output_size=length,
        input_range=checkpoint.input_range,
        resolution=checkpoint.resolution,
        parity_resolutions=_resolutions(run, checkpoint),
        tolerance=Tolerance(absolute=tolerance.absolute, relative=tolerance.relative),
        synthetic=weights.result["synthetic"],
        class_names_file=class_names_file(run.registry, variant),
        class_names=names,
        expected=_expected_path(run, variant),
        features=features if sibling or variant.head == "feature_extractor" else None,
        weights_check=_weights_check(weights.result["figures"]),
        failures=folder / "failures",
        scratch=folder / "hub-cache",
        graph_cache=_graphs_path(run, made_with),
    )

    def action() -> Made:
        if not sibling:
            features.unlink(missing_ok=True)
        report, complaint = run.workers.run(workers.validate, request, _weights_path(weights))
        write_whole(report_path, report.as_bytes())
        if complaint:
            kept = request.failures.exists()
            where = f"; tensors kept in {request.failures}" if kept else ""
            raise ValidationError(f"{variant.handle}: {complaint}{where}")
        passed = sum(check.status == "passed" for check in report.checks)
        skipped = len(report.checks) - passed
        note = f"{passed} checks passed" + (f", {skipped} skipped" if skipped else "")
        own = (features,) if variant.head == "feature_extractor" else ()
        return Made((report_path, *own), {}, note)

    # A blocked sibling's features still show whether the two models agree.
    compared_with = sha256_file(features) if sibling and features.exists() else "none"
    return Step(
        _record(run, variant, "validate"),
        {
            "archive": packed.result["sha256"],
            "weights": weights.result["sha256"],
            "expected features": expected.result["sha256"],
            "features of the sibling": compared_with,
            "synthetic": str(request.synthetic),
            "tolerance": f"{tolerance.absolute} + {tolerance.relative}",
            "resolutions": f"{checkpoint.resolution} {request.parity_resolutions}",
            "class names": sha256("\n".join(names or ()).encode()),
            **made_with,
        },
        action,
    )


def _render(run: Run, variant: Variant, done: Records) -> Step:
    """Write the manifest and the page."""
    weights = done[Key("fetch", variant.checkpoint)]
    packed = done[Key("package", variant.handle)]
    folder, report = run.folder(variant), _report_path(run, variant)
    manifest = build_manifest(
        run.registry,
        variant,
        weights=Weights(
            weights.result["size"], weights.result["sha256"], weights.result["synthetic"]
        ),
        archive=Archive(**packed.result),
        report=read_report(report.read_bytes(), str(report)),
        toolchain=toolchain(),
    )
    manifest_path, page_path = folder / MANIFEST, _page_path(run, variant)

    def action() -> Made:
        page = render_module(run.registry, variant, manifest, run.settings.templates)
        write_whole(manifest_path, manifest.as_bytes())
        write_whole(page_path, page.encode())
        note = f"{len(page.splitlines())} lines"
        return Made((manifest_path, page_path), manifest.as_json(), note)

    elsewhere = {"checkpoints", "variants", "destinations"}
    facts = run.registry.model_dump(mode="json", exclude=elsewhere)
    facts["checkpoint"] = run.registry.checkpoint_of(variant).model_dump(mode="json")
    named = [run.registry.other_head(variant), run.registry.fine_tunable(variant)]
    facts["variants"] = [variant.model_dump(mode="json")] + [
        f"{other.handle} {other.weight_standardization}" for other in named if other
    ]
    return Step(
        _record(run, variant, "render"),
        {
            "manifest": sha256_value(manifest.as_json()),
            "registry": sha256_value(facts),
            "templates": digest(run.settings.templates, MODULE),
            "code": _code("pages", "documents", "build/manifest.py"),
            **_versions("jinja2"),
        },
        action,
    )


def _try(run: Run, variant: Variant, done: Records) -> Step:
    """Run the Python on the page.

    The action raises `PageError` with the first block that fails. It records nothing then, so
    that the next run tries again.
    """
    page_path = _page_path(run, variant)
    page = page_path.read_bytes().decode()
    address = asset_path(run.registry, variant.handle)
    stand_in = _stand_in(run, variant)
    settings = stand_in.settings()
    made_from = {
        **settings,
        "code": _code(
            "formats/saved_model",
            "formats/archive.py",
            "weights/synthetic.py",
            *IN_WORKERS,
            *_network_code(stand_in.architecture, "layout", "folding", "network", "layers"),
        ),
        **_versions("tensorflow", "numpy", "protobuf", "isal"),
    }
    inputs = {
        "stand-in": sha256_value(made_from),
        "code": _code(
            "pages/snippets.py",
            "pages/document.py",
            "build/snippets.py",
            "build/workers.py",
            "validation/snippets.py",
            "validation/client.py",
        ),
        **_versions("tensorflow", "tensorflow-hub", "tf-keras", "keras", "numpy"),
    }
    folder = run.settings.build / "snippets" / sha256_value(settings)[:16]

    def action() -> Made:
        archive = snippets.make_stand_in(stand_in, folder, run.workers, made_from)
        tried = snippets.try_page(
            page,
            {address: archive},
            folder,
            run.workers,
            inputs,
            resolution=run.registry.checkpoint_of(variant).resolution,
        )
        if tried.faults:
            first, *others = tried.faults
            lines = ", ".join(f"line {fault.line}" for fault in others)
            more = f" (failed as well: {lines})" if others else ""
            raise PageError(f"{variant.handle}: {page_path}:{first.line}: {first.message}{more}")
        before = ", the others had before" if tried.ran < tried.blocks else ""
        return Made((), {}, f"{tried.ran} of {tried.blocks} snippets ran{before}")

    blocks = snippets.digest(snippets.snippets_of(page), [address])
    return Step(_record(run, variant, "try"), {"snippets": blocks, **inputs}, action)


def toolchain() -> dict[str, str]:
    """Return the versions and the platform that the bytes of an archive depend on."""
    return {
        **_versions("tensorflow", "numpy", "isal"),
        "publisher": publisher.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _bytes(run: Run, variant: Variant) -> int:
    """Return the size of the checkpoint's arrays."""
    checkpoint = run.registry.checkpoint_of(variant)
    shapes = ARCHITECTURES[checkpoint.architecture].arrays(checkpoint.classes)
    return 4 * sum(prod(shape) for shape in shapes.values())


def _resolutions(run: Run, checkpoint: Checkpoint) -> tuple[int, ...]:
    resolutions = tuple(checkpoint.parity_resolutions)
    if run.settings.thorough and checkpoint.resolution not in resolutions:
        return (*resolutions, checkpoint.resolution)
    return resolutions


def _assets(run: Run, variant: Variant) -> tuple[Path, ...]:
    """Return the files that go into the SavedModel of a variant."""
    names = run.registry.class_names_file(run.registry.checkpoint_of(variant))
    return (names,) if names and variant.head == "classifier" else ()


def _stand_in(run: Run, variant: Variant) -> snippets.StandIn:
    """Return the stand-in for a variant in the snippets of its page."""
    checkpoint = run.registry.checkpoint_of(variant)
    output, _ = output_of(run.registry, variant)
    return snippets.StandIn(
        architecture=snippets.smallest(ARCHITECTURES[checkpoint.architecture]),
        classes=checkpoint.classes,
        head=variant.head,
        output=output,
        input_range=checkpoint.input_range,
        assets=_assets(run, variant),
        folded=variant.folded,
    )


def _weights_path(fetched: Record) -> Path:
    (path,) = fetched.outputs
    return Path(path)


def _expected_path(run: Run, variant: Variant) -> Path:
    return run.settings.build / "expected" / f"{variant.checkpoint}.npz"


def weights_folder(run: Run) -> Path:
    """Return the cache of weights, which has a folder for each source."""
    return run.settings.build / "weights"


def saved_model_path(run: Run, variant: Variant) -> Path:
    """Return the path of a variant's SavedModel."""
    return run.folder(variant) / "saved_model"


def archive_path(run: Run, variant: Variant) -> Path:
    """Return the path of a variant's archive."""
    return run.folder(variant) / ARCHIVE


def _page_path(run: Run, variant: Variant) -> Path:
    return run.folder(variant) / PAGE


def _graphs_path(run: Run, made_with: Mapping[str, str]) -> Path | None:
    """Return the cache of graph checks; None if every archive is checked in full."""
    graphs = run.settings.build / "graphs"
    return None if run.settings.thorough else graphs / sha256_value(made_with)[:16]


def _report_path(run: Run, variant: Variant) -> Path:
    return run.folder(variant) / "report.json"


def _features_path(run: Run, variant: Variant) -> Path:
    return run.folder(variant) / "features.npz"


def _record(run: Run, variant: Variant, stage: str) -> Path:
    return run.folder(variant) / "records" / f"{stage}.json"


def _lock_conflict(run: Run, path: str, record_path: Path) -> str:
    """Return how fetched weights conflict with `models.lock.yaml`; empty if they do not."""
    record = read_record(record_path)
    if record is None or record.result["synthetic"]:
        return ""
    locked = read_lock(run.settings.lock_file).get(path)
    if locked is None:
        return f"{run.settings.lock_file.name} does not list it"
    if locked.sha256 != record.result["sha256"]:
        return f"{run.settings.lock_file.name} has another digest"
    return ""


def _weights_check(figures: Mapping[str, Any]) -> Check:
    return Check(
        "weights_fit_the_architecture",
        "passed",
        f"{figures['arrays']} arrays, {figures['parameters']:,} parameters, names, shapes and"
        " types as expected, all finite, none constant",
        figures,
    )


def _network_code(architecture: Architecture, *modules: str) -> list[str]:
    folder = architecture.package.removeprefix("publisher.").replace(".", "/")
    return [f"{folder}/{module}.py" for module in modules]


@functools.cache
def _code(*places: str) -> str:
    """Return a digest of source files; the cache keeps it constant during a run."""
    files: list[Path] = []
    for place in places:
        path = SOURCE / place
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return sha256_tree(files, SOURCE)


@functools.cache
def _version(distribution: str) -> str:
    return metadata.version(distribution)


def _versions(*distributions: str) -> dict[str, str]:
    return {name: _version(name) for name in distributions}
