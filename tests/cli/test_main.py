"""What a person types and how it ends. Builds are stand-ins; see `test_end_to_end`."""

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import publisher
from publisher.build.settings import Settings
from publisher.build.stages import Run
from publisher.build.workers import WorkerError
from publisher.cli.ci import ci
from publisher.cli.main import cli, main
from publisher.util.files import sha256_file
from tests.builds import (
    CLASSIFIER_A,
    CLASSIFIER_B,
    EXTRACTOR_A,
    EXTRACTOR_B,
    HANDLES,
    REGISTRY,
    ROOT,
    B,
    Finished,
    Inline,
    checkpoint,
    edited,
    project,
    real_weights,
)
from tests.builds import publisher as publisher_process
from tests.commandline import Command, command, folder, good, published
from tests.releases import times, tree

__all__ = ["command", "folder", "published"]  # fixtures

ESCAPE = "\x1b"
COMMANDS = ["build", "list", "plan", "publish"]


def rows(finished: Finished) -> list[list[str]]:
    """Return the words of a table's lines, without its header."""
    return [line.split() for line in finished.stdout.splitlines()[1:]]


# Help and wrong usage


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(command: Command, name: str) -> None:
    overview = good(command("--help")).stdout
    assert f"  {name} " in overview
    assert "..." not in overview.replace("[ARGS]...", "")
    text = good(command(name, "--help")).stdout
    assert good(command(name, "-h")).stdout == text
    assert f"Usage: publisher {name} [OPTIONS] [HANDLE]..." in text
    assert "--json" in text
    assert "--registry" in text


def test_the_overview_has_a_line_for_each_command_at_80_columns(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for group, arguments in ((cli, []), (ci, ["ci"])):
        lines = good(command(*arguments, "--help")).stdout.splitlines()
        assert max(map(len, lines)) <= 80
        for name, one in group.commands.items():
            assert f"  {name} " in "\n".join(lines)
            assert any(line.endswith(f"  {one.get_short_help_str(80)}") for line in lines)
            usage, *_ = good(command(*arguments, name, "--help")).stdout.splitlines()
            assert usage.startswith(f"Usage: publisher {' '.join([*arguments, name])} ")


def test_the_version_is_the_package_s(command: Command) -> None:
    assert good(command("--version")).stdout == f"publisher, version {publisher.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pubish"], "Did you mean 'publish'?"),
        (["ci", "matrx"], "Did you mean 'matrix'?"),
        (["publish", "--wieghts", "synthetic"], "'--weights'"),
        (["publish", "--jobs", "0"], "--jobs"),
        (["publish", "--jobs", "many"], "--jobs"),
        (["publish", "--memory", "0"], "--memory"),
        (["publish", "--weights"], "--weights"),
        (["publish", "--weights", "nowhere"], "WEIGHTS=nowhere is not a directory. Give "),
        (["plan", "--weights", "ftp://host/x"], "WEIGHTS=ftp://host/x is not an address I know"),
        (["publish", "--release", "models.yaml"], "--release"),
        (["build", "--build-dir", "models.yaml"], "--build-dir"),
        (["list", "--weights", "synthetic"], "--weights"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(
    command: Command, folder: Path, arguments: list[str], said: str
) -> None:
    before = tree(folder)
    finished = command(*arguments)
    assert finished.status == 2
    assert said in finished.stderr
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr
    assert tree(folder) == before


def test_no_command_shows_the_help(command: Command) -> None:
    finished = command()
    assert finished.status == 2
    assert "Core commands:" in finished.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_registry_ends_with_2_and_a_line_for_each_problem(
    command: Command, folder: Path, name: str
) -> None:
    text = REGISTRY.replace("architecture: R20x0.5", "architecture: R20x5")
    text = text.replace("    head: classifier", "    haed: classifier", 1)
    (folder / "models.yaml").write_text(text)
    lines = text.splitlines()
    first = lines.index("    architecture: R20x5") + 1
    key = lines.index("    haed: classifier") + 1
    finished = command(name)
    assert finished.status == 2
    shown = finished.stderr.splitlines()
    assert all(line.startswith("error: models.yaml:") for line in shown)
    assert shown[0].startswith(f"error: models.yaml:{first}:19: 'R20x5' is no known architecture")
    assert any(line.startswith(f"error: models.yaml:{key}:5: the key 'haed'") for line in shown)
    assert finished.stdout == ""


def test_a_problem_on_line_100_is_shown_as_such(command: Command, folder: Path) -> None:
    padding = "\n" * (99 - REGISTRY.count("\n"))
    (folder / "models.yaml").write_text(f"{REGISTRY}{padding}colour: red\n")
    assert command("list").stderr.startswith(
        "error: models.yaml:100:1: the key 'colour' is unknown"
    )


def test_a_missing_registry_ends_with_2(command: Command) -> None:
    finished = command("plan", "--registry", "other.yaml")
    assert finished.status == 2
    assert finished.stderr == (
        "error: other.yaml: there is no such file; run where it lies, or give its path with"
        " --registry\n"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_globs_that_match_nothing_end_with_2(command: Command, name: str) -> None:
    finished = command(name, "*_a_*", "smal_b_features*", "nothing")
    assert finished.status == 2
    assert "no handle matches 'smal_b_features*'; near ones: " in finished.stderr
    assert "no handle matches 'nothing'" in finished.stderr
    assert "*_a_*" not in finished.stderr


# list


def test_list_shows_what_is_chosen(command: Command) -> None:
    finished = good(command("list", "*_a_*"))
    assert finished.stdout.split("\n")[0].split() == [
        *("HANDLE", "CHECKPOINT", "ARCHITECTURE", "HEAD", "RESOLUTION")
    ]
    assert rows(finished) == [
        [CLASSIFIER_A, "a", "R20x0.5", "classifier", "32"],
        [EXTRACTOR_A, "a", "R20x0.5", "feature_extractor", "32"],
    ]
    assert finished.stderr == ""


def test_list_is_there_for_machines(command: Command) -> None:
    listed = good(command("list", "--json")).document["variants"]
    assert [row["handle"] for row in listed] == HANDLES
    assert listed[0]["aliases"] == []
    assert listed[0]["resolution"] == 32


def test_options_may_come_before_and_after_globs(command: Command) -> None:
    first = command("list", "--json", "*_a_*", "*_b_features*")
    last = command("list", "*_a_*", "*_b_features*", "--json")
    assert first == last
    assert len(first.document["variants"]) == 3


def test_a_registry_elsewhere_brings_its_own_lock_and_templates(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    other = project(tmp_path / "other")
    (folder / "models.yaml").unlink()
    shutil.rmtree(folder / "templates")
    weights = real_weights(tmp_path / "weights", ["a"])
    good(command("build", "--registry", other, "--weights", weights, EXTRACTOR_A))
    assert (other.parent / "models.lock.yaml").is_file()
    assert not (folder / "models.lock.yaml").exists()
    assert (folder / "build").is_dir()


# build and publish


def test_publish_says_what_came_of_each_variant(command: Command, folder: Path) -> None:
    finished = good(command("publish", "--weights", "synthetic"))
    *table, last = finished.stdout.splitlines()
    digest = sha256_file(folder / "dist" / "models" / CLASSIFIER_A / "model.tar.gz")
    assert table[0].split() == ["HANDLE", "STATUS", "ARCHIVE", "SHA-256"]
    assert table[1].split()[:3] == [CLASSIFIER_A, "new,", "synthetic"]
    assert table[1].split()[-1] == digest[:12]
    assert last.startswith("4 of 4 variants good in dist: ")
    assert "peak memory of one process " in last
    assert f"convert  {CLASSIFIER_A}: starts (not built yet)" in finished.stderr
    assert ESCAPE not in finished.stdout + finished.stderr


def test_a_second_publish_changes_nothing(
    command: Command, folder: Path, published: Finished
) -> None:
    before = times(folder / "dist"), times(folder / "build" / "models")
    again = good(command("publish", "--weights", "synthetic", "--json"))
    assert published.statuses == dict.fromkeys(HANDLES, "new")
    assert again.statuses == dict.fromkeys(HANDLES, "unchanged")
    assert again.stages == {}
    assert again.stderr == ""
    assert (times(folder / "dist"), times(folder / "build" / "models")) == before


def test_build_publishes_nothing(command: Command, folder: Path) -> None:
    finished = good(command("build", "--weights", "synthetic", "--json", EXTRACTOR_A))
    assert finished.statuses == {EXTRACTOR_A: "built"}
    assert not (folder / "dist").exists()
    again = good(command("build", "--weights", "synthetic", EXTRACTOR_A))
    assert rows(again)[0][:4] == [EXTRACTOR_A, "up", "to", "date,"]
    assert again.stdout.splitlines()[-1].startswith("1 of 1 variants good: ")


def test_json_is_one_document_and_everything_else_is_on_stderr(
    command: Command, published: Finished
) -> None:
    document = published.document
    assert document["release"] == "dist"
    assert document["seconds"] >= 0
    assert document["peak_memory_of_one_process"] > 10**7
    row = document["variants"][0]
    assert (row["handle"], row["build"], row["synthetic"]) == (CLASSIFIER_A, "built", True)
    assert set(row["archive"]) == {"file", "size", "sha256", "unpacked_size"}
    assert published.stages == {
        **dict.fromkeys(("fetch", "expect"), 2),
        **dict.fromkeys(("convert", "package", "validate", "render", "try"), 4),
    }
    assert "validate" in published.stderr


def test_quiet_shows_only_results(command: Command) -> None:
    finished = good(command("publish", "--weights", "synthetic", "--quiet"))
    assert finished.stderr == ""
    assert len(finished.stdout.splitlines()) == 6


def test_a_release_and_a_build_folder_may_lie_anywhere(command: Command, folder: Path) -> None:
    (folder / "deep").mkdir()
    options = ["--build-dir", "deep/../work", "--release", "deep/../out", "--weights", "synthetic"]
    good(command("publish", *options))
    again = good(command("publish", *options, "--json"))
    assert again.statuses == dict.fromkeys(HANDLES, "unchanged")
    assert (folder / "work" / "models").is_dir()
    assert (folder / "out" / "index.json").is_file()


def test_a_page_that_changed_is_said_to_have(
    command: Command, folder: Path, published: Finished
) -> None:
    template = folder / "templates" / "tfhub" / "module.md.j2"
    template.write_text(template.read_text() + "\nThe end.\n")
    finished = good(command("publish", "--weights", "synthetic", CLASSIFIER_A))
    assert rows(finished)[0][:4] == [CLASSIFIER_A, "page", "changed,", "synthetic"]


# Failures


def test_one_bad_checkpoint_blocks_its_variants_and_the_good_ones_are_published(
    command: Command, folder: Path
) -> None:
    bad = checkpoint("b", tolerance="{absolute: 1.0e-12, relative: 0}")
    (folder / "models.yaml").write_text(edited((B, bad)))
    finished = command("publish", "--weights", "synthetic")
    assert finished.status == 1
    assert [row[1] for row in rows(finished)[:4]] == ["new,", "new,", "blocked", "blocked"]
    assert finished.stdout.splitlines()[-1].startswith("2 of 4 variants good in dist: ")
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == [CLASSIFIER_B, EXTRACTOR_B]
    assert "largest error 2.4e-05, bound 1.0e-12; tensors kept in " in errors[0]
    index = json.loads((folder / "dist" / "index.json").read_text())
    assert [model["handle"] for model in index["models"]] == [CLASSIFIER_A, EXTRACTOR_A]


def test_one_cause_for_several_variants_is_said_once(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    weights = real_weights(tmp_path / "weights", ["a"])
    finished = command("publish", "--weights", weights, "--quiet")
    assert finished.status == 1
    *_, error, blocks = finished.stderr.splitlines()
    assert error.startswith(f"error: {weights}/distill/b.npz: there is no such file. ")
    assert blocks == f"  (blocks {CLASSIFIER_B}, {EXTRACTOR_B})"


def test_a_message_that_names_no_variant_says_which_it_blocks(
    command: Command, inline: type[Inline]
) -> None:
    inline.faults[f"convert {CLASSIFIER_B}"] = WorkerError("convert: the process was killed")
    finished = command("build", "--weights", "synthetic", "--quiet")
    assert finished.status == 1
    assert finished.stderr == (
        f"error: convert: the process was killed\n  (blocks {CLASSIFIER_B})\n"
    )


def test_with_json_a_blocked_variant_says_why(command: Command, inline: type[Inline]) -> None:
    inline.faults[f"convert {CLASSIFIER_B}"] = WorkerError("convert: the process was killed")
    finished = command("publish", "--weights", "synthetic", "--json")
    assert finished.status == 1
    row = finished.document["variants"][2]
    assert row == {
        "handle": CLASSIFIER_B,
        "status": "blocked",
        "message": "convert: the process was killed",
    }


def test_without_a_good_variant_the_release_stays_as_it_is(
    command: Command, folder: Path, published: Finished, inline: type[Inline]
) -> None:
    before = tree(folder / "dist"), times(folder / "dist")
    text = edited(
        ("title: BiT-ResNet", "title: Another"),
        ("{absolute: 1.0e-4, relative: 2.0e-4}", "{absolute: 1.0e-12, relative: 0}"),
    )
    (folder / "models.yaml").write_text(text)
    finished = command("publish", "--weights", "synthetic")
    assert finished.status == 1
    assert finished.stdout.splitlines()[-1].startswith("0 of 4 variants good in dist: ")
    assert (tree(folder / "dist"), times(folder / "dist")) == before


def change_the_archive(folder: Path) -> None:
    names = folder / "names.txt"
    names.write_text(names.read_text().replace("class 3", "owl"))


def test_other_bytes_under_a_published_version_are_refused_with_the_way_out(
    command: Command, folder: Path, published: Finished
) -> None:
    archive = folder / "dist" / "models" / CLASSIFIER_A / "model.tar.gz"
    before = archive.read_bytes()
    change_the_archive(folder)
    finished = command("publish", "--weights", "synthetic", "*_a_*")
    assert finished.status == 1
    assert [row[1] for row in rows(finished)[:2]] == ["refused,", "unchanged,"]
    (error,) = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert "a published version never changes; raise the version in models.yaml to" in error
    assert "small_a_classification/2" in error
    assert archive.read_bytes() == before


def test_an_archive_that_was_damaged_after_it_was_checked_is_not_published(
    command: Command, folder: Path
) -> None:
    good(command("build", "--weights", "synthetic"))
    archive = folder / "build" / "models" / CLASSIFIER_A / "model.tar.gz"
    status = archive.stat()
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    os.utime(archive, ns=(status.st_mtime_ns, status.st_mtime_ns))  # as a bad disk would
    finished = command("publish", "--weights", "synthetic", "*_a_*", "--json")
    assert finished.status == 1
    assert finished.statuses == {CLASSIFIER_A: "changed", EXTRACTOR_A: "new"}
    row = finished.document["variants"][0]
    assert "is not the archive that was built and checked" in row["message"]
    assert row["message"] in finished.stderr
    assert not (folder / "dist" / "models" / CLASSIFIER_A).exists()


def test_a_release_that_cannot_be_written_is_a_plain_error_after_the_results(
    command: Command, folder: Path, inline: type[Inline], monkeypatch: pytest.MonkeyPatch
) -> None:
    inline.faults[f"convert {CLASSIFIER_B}"] = WorkerError("convert: the process was killed")
    good(command("build", "--weights", "synthetic", "*_a_*"))
    (folder / "dist").mkdir()
    (folder / "dist" / "models").write_text("in the way")
    finished = command("publish", "--weights", "synthetic", "--json")
    assert finished.status == 1
    assert finished.statuses == {
        **dict.fromkeys(HANDLES, "not published"),
        CLASSIFIER_B: "blocked",
    }
    errors = finished.stderr[finished.stderr.index("error: ") :]
    assert f"{folder}/dist/models" in errors
    assert "convert: the process was killed" in errors
    assert "Traceback" not in errors


def test_a_damaged_release_is_a_plain_error_in_a_plan_and_in_a_publication(
    command: Command, folder: Path, published: Finished
) -> None:
    (folder / "dist" / "models" / CLASSIFIER_A / "manifest.json").write_text("{}")
    for name in ("plan", "publish"):
        finished = command(name, "--weights", "synthetic")
        assert finished.status == 1
        assert "damaged: manifest.json" in finished.stderr
        assert "Traceback" not in finished.stderr


def test_a_second_publisher_in_one_build_folder_says_so(command: Command, folder: Path) -> None:
    from publisher.build.build import build_lock

    with build_lock(folder / "build"):
        for name in ("build", "publish"):
            finished = command(name, "--weights", "synthetic")
            assert finished.status == 1
            assert "another publisher is at work here" in finished.stderr
        good(command("plan", "--weights", "synthetic"))


def test_an_interruption_ends_with_130_and_the_next_run_finishes(
    command: Command, inline: type[Inline]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    inline.faults[f"validate {EXTRACTOR_A}"] = interrupted
    finished = command("publish", "--weights", "synthetic", "--jobs", "1")
    assert finished.status == 130
    last = "error: interrupted; what is finished is kept, run the same command again"
    assert finished.stderr.splitlines()[-1] == last
    inline.faults.clear()
    again = good(command("publish", "--weights", "synthetic", "--json"))
    assert again.statuses == dict.fromkeys(HANDLES, "new")
    assert again.stages["fetch"] < 2


def test_a_fault_of_the_program_has_no_traceback_unless_asked_for(
    command: Command, inline: type[Inline], capsys: pytest.CaptureFixture[str]
) -> None:
    inline.faults["expect a"] = ZeroDivisionError("by zero")
    finished = command("build", "--weights", "synthetic")
    assert finished.status == 1
    assert finished.stderr.splitlines()[-1] == (
        "error: ZeroDivisionError: by zero; this is a fault of the program: run again with --debug"
        " to see where, and report it"
    )
    with pytest.raises(ZeroDivisionError):
        main(["build", "--weights", "synthetic", "--debug"])


def test_debug_shows_where_a_variant_was_blocked(command: Command, inline: type[Inline]) -> None:
    inline.faults[f"convert {CLASSIFIER_B}"] = WorkerError("convert: the process was killed")
    arguments = ["build", "--weights", "synthetic", "--quiet"]
    assert "Traceback" not in command(*arguments).stderr
    finished = command(*arguments, "--debug")
    assert finished.status == 1
    assert "Traceback (most recent call last):" in finished.stderr
    assert "in _convert" in finished.stderr or "in action" in finished.stderr
    assert f"  (blocks {CLASSIFIER_B})" in finished.stderr


def test_debug_shows_the_traceback_of_an_error(command: Command) -> None:
    with pytest.raises(publisher.errors.PublisherError):
        main(["list", "--debug", "nothing"])


# plan


def test_a_plan_says_what_publish_would_do_and_does_nothing(command: Command, folder: Path) -> None:
    before = tree(folder), times(folder)
    finished = good(command("plan", "--weights", "synthetic"))
    assert (tree(folder), times(folder)) == before
    assert finished.stdout.splitlines()[0].split() == ["HANDLE", "BUILD", "BECAUSE", "IN", "dist"]
    assert rows(finished)[0] == [CLASSIFIER_A, "from", "fetch", "not", "built", "yet", "new"]


def test_a_plan_agrees_with_what_publish_does(
    command: Command, folder: Path, published: Finished
) -> None:
    def planned() -> dict[str, tuple[str, str]]:
        before = tree(folder), times(folder)
        document = command("plan", "--weights", "synthetic", "--json").document
        assert (tree(folder), times(folder)) == before
        return {row["handle"]: (row["build"], row["release"]) for row in document["variants"]}

    assert planned() == dict.fromkeys(HANDLES, ("up to date", "unchanged"))
    template = folder / "templates" / "tfhub" / "module.md.j2"
    template.write_text(template.read_text() + "\nThe end.\n")
    assert planned() == dict.fromkeys(HANDLES, ("from render", "decided once built"))
    good(command("build", "--weights", "synthetic"))
    assert planned() == dict.fromkeys(HANDLES, ("up to date", "page"))
    finished = good(command("publish", "--weights", "synthetic", "--json"))
    assert finished.statuses == dict.fromkeys(HANDLES, "page")
    assert planned() == dict.fromkeys(HANDLES, ("up to date", "unchanged"))


def test_a_plan_for_what_would_be_refused_ends_with_1(
    command: Command, folder: Path, published: Finished
) -> None:
    change_the_archive(folder)
    plan = good(command("plan", "--weights", "synthetic", CLASSIFIER_A))
    assert "class names changed" in plan.stdout
    good(command("build", "--weights", "synthetic"))
    finished = command("plan", "--weights", "synthetic", "*_a_*")
    assert finished.status == 1
    assert [row[-1] for row in rows(finished)] == ["refused", "unchanged"]
    assert "raise the version in models.yaml" in finished.stderr


def test_a_plan_with_a_malformed_lock_file_says_so(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    weights = real_weights(tmp_path / "weights", ["a"])
    good(command("build", "--weights", weights, EXTRACTOR_A))
    (folder / "models.lock.yaml").write_text("[")
    finished = command("plan", "--weights", weights, EXTRACTOR_A)
    assert finished.status == 1
    assert rows(finished)[0][1] == "blocked"
    assert "models.lock.yaml:1: not YAML" in finished.stderr


# Weights


def settings_seen(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Let builds do nothing; return a list that gets the settings of each."""
    seen: list[Settings] = []

    def build(run: Run, variants: object) -> list[object]:
        seen.append(run.settings)
        return []

    monkeypatch.setattr("publisher.build.build.build", build)
    return seen


def test_in_ci_upstream_takes_only_what_is_recorded(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    finished = command("publish", "--quiet")
    assert finished.status == 1
    assert "--locked takes only what is" in finished.stderr
    good(command("publish", "--weights", "synthetic", EXTRACTOR_A))


@pytest.mark.parametrize("value", ["", "0", "false", "False"])
def test_ci_that_is_off_does_not_lock(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("CI", value)
    seen = settings_seen(monkeypatch)
    good(command("build"))
    monkeypatch.setenv("CI", "true")
    good(command("build"))
    good(command("build", "--weights", "https://localhost/mirror/"))
    good(command("build", "--weights", "synthetic"))
    good(command("build", "--weights", tmp_path))
    monkeypatch.delenv("CI")
    good(command("build", "--locked", "--weights", "synthetic"))
    assert [settings.locked for settings in seen] == [False, True, True, False, False, True]


def test_locked_refuses_a_directory_that_is_not_recorded(command: Command, tmp_path: Path) -> None:
    weights = real_weights(tmp_path / "weights", ["a", "b"])
    finished = command("build", "--weights", weights, "--locked", "--quiet")
    assert finished.status == 1
    assert finished.stderr.count("--locked takes only what is") == 2  # once a checkpoint
    warned = good(command("build", "--weights", weights, "--quiet")).stderr
    assert warned.count("warning: distill/") == 2
    good(command("build", "--weights", weights, "--locked"))


def test_the_number_of_jobs_and_the_memory_arrive(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = settings_seen(monkeypatch)
    good(command("build", "--jobs", "7", "--memory", "1.5", "--thorough"))
    good(command("build"))
    assert (seen[0].jobs, seen[0].memory, seen[0].thorough) == (7, 1_500_000_000, True)
    assert 1 <= seen[1].jobs <= 2
    assert seen[1].memory > 0
    assert not seen[1].thorough


# In processes of their own


def test_python_m_publisher_is_the_same_command(folder: Path) -> None:
    finished = publisher_process(folder, "list", "--json")
    assert finished.status == 0
    assert [row["handle"] for row in finished.document["variants"]] == HANDLES
    assert finished.stderr == ""


def test_listing_and_planning_import_nothing_large(folder: Path) -> None:
    code = (
        "import sys\nfrom publisher.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "print(sorted({'tensorflow', 'requests', 'numpy'} & set(sys.modules)))"
    )
    for arguments in (["list"], ["plan", "--weights", "synthetic"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"]])
def test_a_reader_that_has_enough_is_no_error(folder: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "publisher", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"]])
def test_a_full_disk_under_the_output_is_a_plain_error(folder: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "publisher", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output: No space left on device; check its space and permissions\n"
    )


def test_on_a_terminal_there_is_colour(folder: Path) -> None:
    parent, child = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "publisher", "list"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"},
        stdout=child,
        stderr=child,
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(parent)
    assert done.wait() == 0
    assert ESCAPE.encode() in shown
    assert CLASSIFIER_A.encode() in shown


# make


def test_make_passes_globs_and_folders_on_as_they_are(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    done = subprocess.run(
        [
            *("make", "-n", "-o", ".venv/.ready", "publish-all"),
            *("WEIGHTS=synthetic", "ONLY=*_a_* *_b_*", "RELEASE=out put", "FLAGS=--jobs 1"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if "publisher publish" in line]
    words = shlex.split(line)
    assert words[words.index("publisher") :] == [
        *("publisher", "publish", "--build-dir", "build", "--weights", "synthetic"),
        *("--jobs", "1", "--release", "out put", "*_a_*", "*_b_*"),
    ]
    assert "'*_a_*' '*_b_*'" in line  # else the shell would look for files
