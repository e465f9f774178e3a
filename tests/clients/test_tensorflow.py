"""What TensorFlow and TensorFlow Hub bring: `hub.load`, `KerasLayer`, command line, Lite."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tensorflow_hub
import tf_keras

from benchmarks.runtimes import lite_converter
from publisher.families.bit import reference
from publisher.weights import open_npz
from tests.builds import Project
from tests.clients.agreement import ALIAS, CLASSIFIER, EXTRACTOR, FOLDED, HANDLES, OUTPUTS, agrees

Images = npt.NDArray[np.float32]
Answers = dict[str, npt.NDArray[Any]]


@pytest.mark.parametrize("handle", HANDLES)
def test_hub_load_takes_the_address_of_a_handle(
    hub: str, images: Images, truth: Answers, handle: str
) -> None:
    model = tensorflow_hub.load(f"{hub}/{handle}")
    agrees(f"hub.load of {handle}", model(images), float64=truth[handle])
    served = model.signatures["serving_default"](images=tf.constant(images))
    assert set(served) == {OUTPUTS[handle]}
    agrees(f"signature of {handle}", served[OUTPUTS[handle]], float64=truth[handle])


def test_hub_load_follows_a_name_without_a_version_and_an_old_spelling(
    hub: str, images: Images, truth: Answers, answers: Answers
) -> None:
    for name in (CLASSIFIER.rpartition("/")[0], ALIAS, f"{ALIAS}/1"):
        model = tensorflow_hub.load(f"{hub}/{name}")
        agrees(
            f"hub.load of {name}",
            model(images),
            float64=truth[CLASSIFIER],
            hub_load=answers[CLASSIFIER],
        )


def test_hub_load_gives_a_model_for_any_height_and_width(hub: str, built: Project) -> None:
    wide = np.random.default_rng(5).uniform(-1, 1, (2, 40, 56, 3)).astype(np.float32)
    arrays = open_npz(built.build / "weights" / "synthetic" / "distill" / "small.npz")
    model = tensorflow_hub.load(f"{hub}/{EXTRACTOR}")
    agrees("hub.load, 40x56", model(wide), float64=reference.features(arrays, wide))


@pytest.mark.parametrize("handle", HANDLES)
def test_keras_layer_predicts_in_a_keras_2_model(
    hub: str, images: Images, truth: Answers, answers: Answers, handle: str
) -> None:
    layer = tensorflow_hub.KerasLayer(f"{hub}/{handle}")
    model = tf_keras.Sequential([tf_keras.layers.InputLayer((32, 32, 3)), layer])
    agrees(
        f"hub.KerasLayer of {handle}",
        model.predict(images, verbose=0),
        float64=truth[handle],
        hub_load=answers[handle],
    )


def test_saved_model_cli_shows_the_signature_and_runs_it(
    unpacked: dict[str, Path], images: Images, truth: Answers, answers: Answers, tmp_path: Path
) -> None:
    model = ["--dir", str(unpacked[CLASSIFIER]), "--tag_set", "serve"]
    model += ["--signature_def", "serving_default"]
    shown = saved_model_cli("show", *model)
    assert (
        "inputs['images'] tensor_info:\n      dtype: DT_FLOAT\n      shape: (-1, -1, -1, 3)"
        in shown
    )
    assert "outputs['logits'] tensor_info:\n      dtype: DT_FLOAT\n      shape: (-1, 10)" in shown

    np.save(tmp_path / "images.npy", images)
    given, out = f"images={tmp_path / 'images.npy'}", tmp_path / "out"
    saved_model_cli("run", *model, "--inputs", given, "--outdir", str(out))
    agrees(
        "saved_model_cli run",
        np.load(out / "logits.npy"),
        float64=truth[CLASSIFIER],
        hub_load=answers[CLASSIFIER],
    )


@pytest.mark.parametrize("handle", [CLASSIFIER, FOLDED])
def test_tensorflow_lite_converts_the_signature_and_interprets_it(
    unpacked: dict[str, Path], images: Images, truth: Answers, answers: Answers, handle: str
) -> None:
    converter = lite_converter(unpacked[handle])
    # No custom operation, and none of TensorFlow's own: what any Lite runtime has is enough.
    assert converter.target_spec.supported_ops == {tf.lite.OpsSet.TFLITE_BUILTINS}
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    answer = interpreter.get_signature_runner("serving_default")(images=images)
    agrees(
        f"TFLite of {handle}",
        answer["logits"],
        float64=truth[handle],
        hub_load=answers[handle],
    )


@pytest.mark.clients
def test_a_layer_learns_and_predicts_on_two_devices_as_on_one(
    unpacked: dict[str, Path], tmp_path: Path
) -> None:
    program = Path(__file__).parent / "programs" / "two_devices.py"
    done = subprocess.run(
        [sys.executable, program, unpacked[EXTRACTOR], tmp_path / "answers.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "answers.npz") as found:
        assert found["replicas"] == 2
        assert np.isfinite(found["loss"])
        agrees("two devices", found["both_before"], one_device=found["one_before"])
        agrees("two devices, trained", found["both_after"], one_device=found["one_after"])
        # The step is large enough to be seen.
        with pytest.raises(AssertionError):
            agrees("untrained", found["both_before"], trained=found["both_after"])


def saved_model_cli(*arguments: str) -> str:
    """Run the program that TensorFlow installs, and return what it prints."""
    program = Path(sys.executable).with_name("saved_model_cli")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
