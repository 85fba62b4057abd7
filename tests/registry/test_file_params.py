"""What a file may set: nothing in it chooses programs, paths or packages; the caller may."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner
from networks import Net, batches, make_model
from torch import nn

import argus_core
from argus_core import BuildError, ConfigError, Model, UnsafeCheckpointError, load_model
from argus_core.cli import main
from argus_core.config import Config, complete_config, read_config
from argus_core.registry.factory import build_component, call_factory
from argus_core.registry.file_params import FUNCTION, FileParam, Source, file_params_of, taken_from
from argus_core.runs.run import build_model, resume, train
from argus_core.steps.compile import Compile

# torch's own, of what inductor imports.
pytestmark = pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")

PROGRAM = {"cpp.cxx": ["/path/to/program"]}
READS = FileParam("reads the file that it names", values=("standard",), in_configuration=True)
CHECKPOINT = Source("stranger.safetensors", is_checkpoint=True)
CONFIGURATION = Source("stranger.toml", is_checkpoint=False)


class Reader(Net):
    """Would read a file.

    Args:
        vocabulary: a file.
        tool: a program.
        options: of `Net`.
    """

    file_params: ClassVar = {"vocabulary": READS, "tool": FileParam("runs the program that it names")}

    def __init__(self, vocabulary: Any = None, tool: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self.vocabulary, self.tool = vocabulary, tool


class Outer(nn.Module):
    """A loss that is made of another."""

    def __init__(self, inner: Any, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.inner = build_component("loss", inner, "outer's inner")

    def forward(self, prediction: Any, target: Any) -> Any:
        return self.scale * self.inner(prediction, target)


class ReadingLoss(nn.CrossEntropyLoss):
    """Would read a file.

    Args:
        table: a file.
    """

    file_params: ClassVar = {"table": READS}

    def __init__(self, table: Any = None) -> None:
        super().__init__()


@pytest.fixture(autouse=True)
def parts(net_registry: Any) -> None:
    for kind, name, factory in (
        ("nn_module", "reader", Reader),
        ("loss", "outer", Outer),
        ("loss", "reading", ReadingLoss),
    ):
        argus_core.register(kind, name)(factory)


def stored(path: Path, **params: Any) -> Path:
    """Save a model with these params."""
    make_model(**params).save(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.safetensors"


# A checkpoint.


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"options": PROGRAM},
            r"options of step 'compile' is \{'cpp.cxx'.*names programs to run.*pass step=",
        ),
        ({"options": {"trace.enabled": True}}, "options of step 'compile'"),
        ({"options": {"max_autotune": "a string"}}, "options of step 'compile'"),
        (
            {"backend": "package_of_a_stranger"},
            "backend of step 'compile' is 'package_of_a_stranger'.*'inductor'",
        ),
        ({"backend": "tvm"}, "names a package whose code runs"),
        ({"name": "../../x"}, "name of step 'compile'"),
        ({"mode": None, "backend": "eager", "shapes_spec": {"x": 1}}, "shapes_spec of step 'compile'"),
    ],
)
def test_a_checkpoint_chooses_no_program_and_no_package(
    path: Path, options: dict[str, Any], why: str
) -> None:
    stored(path, step=[("compile", options)])
    with pytest.raises(UnsafeCheckpointError, match=rf"(?s)a.safetensors: .*{why}"):
        load_model(path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "reduce-overhead", "dynamic": True},
        {"fullgraph": True, "backend": "eager"},
        {"backend": "aot_eager", "disable": True, "options": None},
        {"options": {"max_autotune": False, "triton.cudagraphs": False, "epilogue_fusion": True}},
    ],
)
def test_a_checkpoint_chooses_what_changes_the_compiled_code_alone(
    path: Path, options: dict[str, Any]
) -> None:
    model = load_model(stored(path, step=[("compile", options)]))
    assert model.step_parts[0].params == options


@pytest.mark.parametrize("name", sorted(Compile.file_params["options"].keys))
def test_options_that_a_file_may_set_are_flags_of_inductor(name: str) -> None:
    from torch._inductor import config

    assert isinstance(functools.reduce(getattr, name.split("."), config), bool)


def test_backends_that_a_file_may_choose_are_torchs_own() -> None:
    from torch._dynamo.backends import registry

    registry._lazy_import()
    for name in Compile.file_params["backend"].values:
        assert registry.lookup_backend(name).__module__.startswith("torch.")


@pytest.mark.parametrize(
    "step",
    [None, [], [("compile", {"backend": "eager"})], {"options": None}, ("compile", {"options": PROGRAM})],
)
def test_the_caller_chooses_in_the_checkpoints_place(path: Path, step: Any) -> None:
    load_model(stored(path, step=[("compile", {"options": PROGRAM})]), step=step)


def test_what_the_caller_does_not_set_stays_the_files(path: Path) -> None:
    stored(path, step=[("compile", {"options": PROGRAM, "dynamic": True})])
    with pytest.raises(UnsafeCheckpointError, match="options of step 'compile'"):
        load_model(path, step={"dynamic": False})


def test_what_change_params_func_returns_is_still_the_files(path: Path) -> None:
    stored(path, nn_module=("reader", {"vocabulary": "/etc/passwd"}))
    with pytest.raises(UnsafeCheckpointError, match="vocabulary of nn_module 'reader'"):
        load_model(path, change_params_func=dict)


def test_a_parameter_in_a_checkpoint_is_refused_before_anything_is_built(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(path, loss=("reading", {"table": "/etc/passwd"}))
    monkeypatch.setattr(Net, "__init__", lambda self, **_: pytest.fail("built"))
    with pytest.raises(
        UnsafeCheckpointError, match="table of loss 'reading' is '/etc/passwd'.*may choose 'standard'"
    ):
        load_model(path)


def test_a_part_that_is_left_out_is_not_checked(path: Path) -> None:
    load_model(stored(path, loss=("reading", {"table": "/etc/passwd"})), loss=None)


@pytest.mark.parametrize("value", ["standard", None])
def test_a_checkpoint_chooses_from_the_list(path: Path, value: Any) -> None:
    assert load_model(stored(path, nn_module=("reader", {"vocabulary": value}))).nn_module.vocabulary == value


def test_a_part_of_a_part_is_held_to_the_same_file(path: Path) -> None:
    stored(path, loss=("outer", {"inner": ("reading", {"table": "/etc/passwd"})}))
    with pytest.raises(UnsafeCheckpointError, match="table of loss 'reading'.*pass loss=... to load_model"):
        load_model(path)
    load_model(path, loss=("outer", {"inner": ("reading", {"table": "/etc/passwd"})}))


def test_another_parameter_from_the_caller_leaves_a_part_of_a_part_the_files(path: Path) -> None:
    stored(path, loss=("outer", {"inner": ("reading", {"table": "/etc/passwd"})}))
    with pytest.raises(UnsafeCheckpointError, match="table of loss 'reading'"):
        load_model(path, loss={"scale": 0.5})


class FixedReader(Model):
    nn_module = Reader


class ChoiceOfReaders(Model):
    nn_module: ClassVar = {"small": Reader, "named": "reader"}


@pytest.mark.parametrize(
    ("cls", "value"),
    [
        (FixedReader, {"vocabulary": "/x"}),
        (ChoiceOfReaders, ("small", {"vocabulary": "/x"})),
        (ChoiceOfReaders, ("named", {"vocabulary": "/x"})),
    ],
)
def test_fixed_classes_and_choices_are_held_to_it(path: Path, cls: type[Model], value: Any) -> None:
    argus_core.register("model", cls.__name__, cls, override=True)
    cls({"nn_module": value, "device": "cpu"}).save(path)
    with pytest.raises(UnsafeCheckpointError, match="vocabulary of nn_module"):
        load_model(path)
    load_model(path, nn_module={"vocabulary": "/mine"})


class GivesItsOwn(Model):
    """Gives parameters in its code, which is the caller's."""

    nn_module = ("reader", {"vocabulary": "/mine", "hidden": 4})
    loss = ("outer", {"inner": ("reading", {"table": "/mine"})})
    step: ClassVar = [("compile", {"backend": lambda module, inputs: module.forward})]


def test_what_a_model_class_gives_itself_is_the_callers(path: Path) -> None:
    argus_core.register("model", "GivesItsOwn", GivesItsOwn, override=True)
    GivesItsOwn({"nn_module": {"hidden": 5}, "device": "cpu"}).save(path)
    assert load_model(path).nn_module.vocabulary == "/mine"
    GivesItsOwn({"nn_module": {"vocabulary": "/x"}, "device": "cpu"}).save(path)
    with pytest.raises(UnsafeCheckpointError, match="vocabulary of nn_module 'reader' is '/x'"):
        load_model(path)


@pytest.mark.parametrize(
    "factory",
    [
        functools.partial(Reader, hidden=4),
        type("Derived", (Reader,), {}),
        functools.wraps(Reader)(lambda **_: Net()),
    ],
    ids=["partial", "subclass", "wrapper"],
)
def test_a_factory_made_of_another_has_its_declaration(path: Path, factory: Callable[..., Any]) -> None:
    argus_core.register("nn_module", "alias", factory)
    stored(path, nn_module=("alias", {"vocabulary": "/x"}))
    with pytest.raises(UnsafeCheckpointError, match="vocabulary of nn_module 'alias'"):
        load_model(path)


def test_a_file_of_pytorch_argus_is_held_to_it(tmp_path: Path) -> None:
    model = make_model(nn_module=("reader", {"vocabulary": "/etc/passwd"}))
    state = {"model_name": "Model", "params": model.params, "nn_state_dict": model.nn_module.state_dict()}
    torch.save(state, tmp_path / "old.pth")
    with pytest.raises(UnsafeCheckpointError, match="vocabulary of nn_module 'reader'"):
        load_model(tmp_path / "old.pth")
    result = CliRunner().invoke(
        main, ["convert", str(tmp_path / "old.pth"), str(tmp_path / "new.safetensors")]
    )
    assert result.exit_code != 0
    assert "vocabulary of nn_module 'reader'" in result.output


@pytest.mark.parametrize("value", [9, 8.5, 0, -1, None, [0.5, 10], ()])
def test_a_file_may_choose_numbers_up_to_the_most(value: Any) -> None:
    assert FileParam("sets how much is computed", most=9).allows(value)


@pytest.mark.parametrize(
    "value", [10, 2**70, float("inf"), float("nan"), True, "9", ["9"], [1] * 10, torch.tensor(9)]
)
def test_a_file_may_choose_nothing_else_where_there_is_a_most(value: Any) -> None:
    assert not FileParam("sets how much is computed", most=9).allows(value)


def test_after_a_refusal_the_caller_is_free_again(path: Path) -> None:
    stored(path, nn_module=("reader", {"vocabulary": "/x"}))
    with pytest.raises(UnsafeCheckpointError, match="vocabulary"):
        load_model(path)
    make_model(nn_module=("reader", {"vocabulary": "/x"}), step=[("compile", {"options": PROGRAM})])


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("LambdaLR", "lr_lambda"), ("MultiplicativeLR", "lr_lambda"), ("CyclicLR", "scale_fn")],
)
@pytest.mark.parametrize("source", [CHECKPOINT, CONFIGURATION])
def test_no_file_gives_a_function_to_a_scheduler(source: Source, name: str, parameter: str) -> None:
    factory = argus_core.resolve("lr_scheduler", name).load()
    assert file_params_of(factory) == {parameter: FUNCTION}
    why = (
        rf"{parameter} of lr_scheduler '{name}' is 'os.system'; a \w+ must not set it, since it is a function"
    )
    with taken_from(source), pytest.raises((UnsafeCheckpointError, ConfigError), match=why):
        call_factory(f"lr_scheduler {name!r}", factory, (make_model().optimizer,), _needed(name, parameter))


def _needed(name: str, parameter: str) -> dict[str, Any]:
    return {parameter: "os.system"} | ({"base_lr": 0.1, "max_lr": 1.0} if name == "CyclicLR" else {})


# argus predict.


def test_predict_leaves_compile_out(tmp_path: Path, path: Path) -> None:
    import numpy

    stored(path, step=[("compile", {"options": PROGRAM}), ("ema", {"decay": 0.9})])
    numpy.save(tmp_path / "inputs.npy", batches()[0][0].numpy())
    output = tmp_path / "out.npz"
    arguments = [
        "predict",
        str(path),
        str(tmp_path / "inputs.npy"),
        "--output",
        str(output),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert output.exists()


# Configurations.

TOML = """
[model]
nn_module = {{ name = "reader", classes = 2{network} }}
loss = "CrossEntropyLoss"
optimizer = ["SGD", {{ lr = 0.1 }}]
device = "cpu"
{step}

[data]
train = {{ name = "samples"{data} }}

[fit]
seed = 0
run_dir = "{run_dir}"
{fit}
"""


class Samples(torch.utils.data.TensorDataset):
    file_params: ClassVar = {"tool": FileParam("runs the program that it names"), "root": READS}

    def __init__(self, tool: Any = None, root: Any = None) -> None:
        [(inputs, target)] = batches((8,), classes=2)
        super().__init__(inputs, target)


class Tooled(argus_core.Callback):
    file_params: ClassVar = {"tool": FileParam("runs the program that it names")}

    def __init__(self, tool: Any = None) -> None: ...


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    argus_core.register("dataset", "samples", Samples)
    argus_core.register("callback", "tooled", Tooled)

    def write(network: str = "", step: str = "", data: str = "", fit: str = "") -> Path:
        path = tmp_path / "config.toml"
        run_dir = tmp_path / "run"
        path.write_text(TOML.format(network=network, step=step, data=data, fit=fit, run_dir=run_dir))
        return path

    return write


TOOLED = '[["tooled", { tool = "/x" }]]'
LAMBDA = '["LambdaLR", { lr_lambda = "os.system" }]'
NESTED = f'["SequentialLR", {{ milestones = [1], schedulers = ["ConstantLR", {LAMBDA}] }}]'
COMPILE = 'step = [["compile", {{ {} }}]]'


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (
            {"step": COMPILE.format('options = { "cpp.cxx" = ["/path/to/program"] }')},
            "options of step 'compile'.*a configuration may choose numbers.*--set step.compile.options=",
        ),
        ({"step": COMPILE.format('backend = "stranger"')}, "backend of step 'compile' is 'stranger'"),
        (
            {"network": ', tool = "/x"'},
            "tool of nn_module 'reader' is '/x'; a configuration must not set it.*--set nn_module.tool=",
        ),
        ({"data": ', tool = "/x"'}, "tool of dataset 'samples'"),
        ({"fit": f"callbacks = {TOOLED}"}, "tool of callback 'tooled'.*callbacks.tooled.tool="),
        (
            {"fit": f"val_callbacks = {TOOLED}", "data": ' }\nval = { name = "samples"'},
            "tool of callback 'tooled'",
        ),
        ({"fit": f"lr_scheduler = {LAMBDA}"}, "lr_lambda of lr_scheduler"),
        ({"fit": f"lr_scheduler = {NESTED}"}, "lr_lambda of lr_scheduler 'LambdaLR'"),
    ],
)
def test_a_configuration_chooses_no_program(
    config: Callable[..., Path], written: dict[str, str], why: str
) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)config.toml: .*{why}"):
        train(read_config(config(**written)))


def test_a_configuration_may_name_files_to_read(config: Callable[..., Path]) -> None:
    train(read_config(config(network=', vocabulary = "/mine"', data=', root = "/mine"')))


def test_a_configuration_chooses_how_to_compile(config: Callable[..., Path]) -> None:
    path = config(
        step=COMPILE.format('mode = "default", dynamic = false, fullgraph = true, backend = "inductor"')
    )
    build_model(read_config(path))


@pytest.mark.parametrize(
    "change",
    [
        "nn_module.tool=/mine",
        'nn_module={name="reader", classes=2, tool="/mine"}',
        "model.nn_module.tool=/mine",
    ],
)
def test_set_gives_what_a_configuration_must_not(config: Callable[..., Path], change: str) -> None:
    model = build_model(read_config(config(network=', tool = "/x"'), [change]))
    assert model.nn_module.tool == "/mine"


@pytest.mark.parametrize("change", ["step.compile.backend=eager", 'step=["compile", {backend="eager"}]'])
def test_set_gives_a_parameter_of_one_of_several(config: Callable[..., Path], change: str) -> None:
    path = config(step='step = [["compile", { backend = "x" }], "argus-torch/ema"]')
    build_model(read_config(path, [change]))
    path = config(step='step = [["argus-torch/compile", { backend = "x" }], "ema"]')
    build_model(read_config(path, [change]))


def test_set_of_another_parameter_gives_nothing(config: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="tool of nn_module"):
        build_model(
            read_config(config(network=', tool = "/x"'), ["nn_module.hidden=4", "loss=CrossEntropyLoss"])
        )
    path = config(step=COMPILE.format('options = { "cpp.cxx" = ["/x"] }'))
    with pytest.raises(ConfigError, match="options of step 'compile'"):
        build_model(read_config(path, ["step.compile.options.max_autotune=true"]))


def test_a_value_that_the_file_searches_over_is_the_files(config: Callable[..., Path]) -> None:
    from argus_core.config import read_document

    path = config()
    given, whole = "nn_module.tool=/mine", 'nn_module={name="reader", classes=2, tool="/x"}'
    found = complete_config(read_document(path), path, [given], ["nn_module.tool=/x"])
    with pytest.raises(ConfigError, match="tool of nn_module 'reader' is '/x'"):
        build_model(found)
    with pytest.raises(ConfigError, match="would undo --set nn_module.tool=/mine"):
        complete_config(read_document(path), path, [given], [whole])


def test_a_configuration_made_in_python_is_the_callers() -> None:
    model = {"name": "Model", "nn_module": ("reader", {"tool": "/mine"}), "loss": None, "optimizer": None}
    assert build_model(Config(model, {}, {})).nn_module.tool == "/mine"


def test_a_run_that_the_caller_gave_a_tool_is_tested_and_goes_on_only_if_it_is_given_again(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    path = config(network=', vocabulary = "/mine"', data=' }\ntest = { name = "samples"')
    result = train(read_config(path, ["nn_module.tool=/mine"]))
    assert "test_loss" in result.test_metrics
    with pytest.raises(ConfigError, match="tool of nn_module 'reader' is '/mine'"):
        resume(tmp_path / "run", ["num_epochs=2"])
    resume(tmp_path / "run", ["num_epochs=2", "nn_module.tool=/mine"])


def test_explain_refuses_what_train_refuses(config: Callable[..., Path]) -> None:
    path = config(step=COMPILE.format('backend = "stranger"'))
    result = CliRunner().invoke(main, ["explain", str(path)])
    assert result.exit_code != 0
    assert "backend of step 'compile' is 'stranger'" in result.output


def test_a_wrong_value_from_the_caller_keeps_its_own_message() -> None:
    with pytest.raises(BuildError, match="backend 'stranger', which torch does not have"):
        make_model(step=[("compile", {"backend": "stranger"})]).train_step(batches()[0])


def test_a_check_of_a_part_gives_its_own_parameters() -> None:
    from argus_core.testing import check_component

    params = {"vocabulary": "/mine", "tool": "/mine", "classes": 3}
    check_component("nn_module", "reader", params, input=(2, 4), reload=False)
    check_component("loss", "reading", {"table": "/mine"}, reload=False)
