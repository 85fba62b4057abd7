"""Who works on which trial; no training."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from argus_core.config import read_config
from argus_core.errors import ArgusError, ConfigError
from argus_optuna import database
from argus_optuna.algorithms import PRUNERS, SAMPLERS
from argus_optuna.database import connect
from argus_optuna.lock import Lock
from argus_optuna.settings import read_settings
from argus_optuna.study import Study

SPACE = '"optimizer.lr" = { low = 0.0, high = 1.0 }\nbatch_size = { choices = [32, 64] }'
SMALL = "batch_size = { choices = [32, 64] }\nnum_workers = { low = 0, high = 1 }"


@pytest.fixture
def study(write: Any) -> Any:
    """Return a function that opens the study of a configuration, and close what it opened."""
    opened: list[Study] = []

    def open_study(
        space: str = SPACE, sweep: str = "", better: str = "max", config: dict[str, str] | None = None
    ) -> Study:
        path = write(space, sweep)
        opened.append(Study(read_settings(read_config(path), str(path)), better, config or {}))
        return opened[-1]

    yield open_study
    for each in opened:
        each.close()


def run(study: Study, trials: int) -> list[dict[str, Any]]:
    """Finish trials until the study has so many, and return their params."""
    params: list[dict[str, Any]] = []
    while claim := study.claim(trials):
        params.append(dict(claim.params))
        study.finish(claim, TrialState.COMPLETE, claim.params.get("optimizer.lr", 0.0))
    return params


def abandon(study: Study) -> int:
    """Begin a trial, or go on with one, and leave it as kill -9 does; return its number."""
    claim = study.claim(10)
    assert claim is not None
    claim.lock.release()
    return claim.trial.number


def test_a_trial_is_claimed_finished_and_recorded(study: Any) -> None:
    one = study()
    claim = one.claim(1)
    assert (claim.trial.number, claim.begun) == (0, False)
    record = one.finish(claim, TrialState.COMPLETE, 0.5)
    assert (record.number, record.state, record.value, record.error) == (0, "complete", 0.5, None)
    assert record.params == claim.params
    assert record.directory == Path("runs/digits-sweep/trial-0000")
    assert one.claim(1) is None
    assert one.result().trials == (record,)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_fills_a_study(study: Any, name: str) -> None:
    space = SMALL if name == "grid" else SPACE
    assert len(run(study(space, f'sampler = "{name}"'), 4)) == 4


def test_sampler_that_lacks_its_package_is_one_sentence(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def suggest(*_: object) -> None:
        raise ImportError("no module 'scipy';\n pip install scipy")

    one = study(sweep='sampler = "gp"')
    monkeypatch.setattr("argus_optuna.space.Space.suggest", suggest)
    with pytest.raises(
        ArgusError,
        match="sampler 'gp' cannot choose a trial: ImportError: no module 'scipy'; pip install scipy; check",
    ):
        one.claim(3)
    assert [trial.state for trial in one.result().trials] == ["failed"]


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_judges_a_trial(study: Any, name: str) -> None:
    params = {"percentile": "percentile = 25.0", "threshold": "lower = 0.5", "patient": "patience = 1"}
    one = study(sweep=f'pruner = ["{name}", {{ {params.get(name, "")} }}]')
    claim = one.claim(3)
    claim.trial.report(0.1, 0)
    assert claim.trial.should_prune() == (name == "threshold")
    record = one.finish(claim, TrialState.PRUNED)
    assert (record.state, record.value, record.epochs) == ("pruned", None, 1)


def test_grid_has_each_point_once_and_then_ends(study: Any) -> None:
    params = run(study(SMALL, 'sampler = "grid"'), 10)
    assert params == [{"batch_size": size, "num_workers": number} for size in (32, 64) for number in (0, 1)]


def test_seeded_studies_are_the_same_whether_they_were_interrupted_or_not(study: Any) -> None:
    whole = run(study(sweep='study_dir = "whole"'), 6)
    first, second = study(sweep='study_dir = "parts"'), study(sweep='study_dir = "parts"')
    assert run(first, 2) + run(second, 6) == whole


def test_a_random_sampler_does_not_begin_again_in_another_process(study: Any) -> None:
    first = run(study(sweep='sampler = "random"'), 2)
    assert run(study(sweep='sampler = "random"'), 4)[0] != first[0]


# Several processes.


def test_a_trial_of_a_living_process_is_left_alone(study: Any) -> None:
    one, other = study(), study()
    mine, theirs = one.claim(2), other.claim(2)
    assert (mine.trial.number, theirs.trial.number) == (0, 1)
    assert other.claim(2) is None  # both count
    one.finish(mine, TrialState.COMPLETE, 0.1)
    other.finish(theirs, TrialState.COMPLETE, 0.2)
    assert [trial.state for trial in one.result().trials] == ["complete", "complete"]


def test_a_trial_of_a_dead_process_is_gone_on_with_before_a_new_one(study: Any) -> None:
    number = abandon(study())
    claim = study().claim(5)
    assert (claim.trial.number, claim.begun) == (number, True)
    assert set(claim.params) == {"optimizer.lr", "batch_size"}


def test_a_trial_that_is_gone_on_with_can_be_reported_and_finished(study: Any) -> None:
    one = study()
    claim = one.claim(5)
    claim.trial.report(0.3, 0)
    claim.lock.release()
    claim = study().claim(5)
    claim.trial.report(0.4, 1)
    record = one.finish(claim, TrialState.COMPLETE, 0.4)
    assert (record.state, record.value, record.epochs) == ("complete", 0.4, 2)


def test_a_trial_that_kills_its_process_again_and_again_has_failed(study: Any) -> None:
    assert [abandon(study()) for _ in range(3)] == [0, 0, 0]
    one = study()
    assert one.claim(5).trial.number == 1
    assert one.result().trials[0].error == "its process was killed 3 times"


def test_an_interrupted_trial_was_not_killed(study: Any) -> None:
    one = study()
    for _ in range(5):
        claim = one.claim(5)
        assert claim.trial.number == 0
        one.interrupt(claim)
    assert one.result().trials[0].state == "running"


def test_a_trial_whose_process_was_killed_while_it_chose_has_failed(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def suggest(*_: object) -> None:
        raise KeyboardInterrupt

    one = study()
    with monkeypatch.context() as patch:
        patch.setattr("argus_optuna.space.Space.suggest", suggest)
        with pytest.raises(KeyboardInterrupt):
            one.claim(5)
    for lock in Path("runs/digits-sweep/locks").iterdir():
        lock.unlink()  # as when the process is gone
    assert study().claim(5).trial.number == 1
    assert one.result().trials[0].error == "its process was killed"


def test_another_process_that_hangs_while_choosing_is_told(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = study()
    monkeypatch.setattr("argus_optuna.study._PATIENCE", 0.1)
    lock = Lock(Path("runs/digits-sweep/locks/study"))
    assert lock.acquire()
    with pytest.raises(ArgusError, match="another process has been choosing a trial .*; end it if it hangs"):
        one.claim(5)
    lock.release()
    assert one.claim(5) is not None


# The best checkpoint.


def finish_with_checkpoint(study: Study, value: float) -> None:
    claim = study.claim(10)
    assert claim is not None
    folder = study.directory(claim.trial.number) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "best.safetensors").write_text(f"{value}")
    study.finish(claim, TrialState.COMPLETE, value)


@pytest.mark.parametrize(("better", "best"), [("max", 0.7), ("min", 0.2)])
def test_best_checkpoint_is_that_of_the_best_trial(study: Any, better: str, best: float) -> None:
    one = study(better=better)
    for value in (0.5, 0.7, 0.2, 0.4):
        finish_with_checkpoint(one, value)
    result = one.result()
    assert result.best is not None
    assert result.best.value == best
    assert result.best_checkpoint is not None
    assert result.best_checkpoint.read_text() == f"{best}"
    assert not [*Path("runs/digits-sweep").glob(".*")]  # no temporary file is left


def test_best_checkpoint_goes_through_no_link_that_is_made_meanwhile(study: Any, tmp_path: Path) -> None:
    one, thesis = study(), tmp_path / "thesis.tex"
    thesis.write_text("years")
    Path("runs/digits-sweep/best.safetensors").symlink_to(thesis)
    with pytest.raises(ConfigError, match=r"best\.safetensors is a symbolic link; .*; replace the link"):
        finish_with_checkpoint(one, 0.5)
    assert thesis.read_text() == "years"


def test_trial_is_not_run_through_a_link_that_is_made_meanwhile(study: Any, tmp_path: Path) -> None:
    one = study()
    run(one, 1)
    (tmp_path / "elsewhere").mkdir()
    one.directory(1).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="trial-0001 is a symbolic link; a sweep writes only to files"):
        one.claim(3)


def test_of_equal_trials_the_first_is_the_best(study: Any) -> None:
    one = study()
    for value in (0.5, 0.7, 0.7):
        finish_with_checkpoint(one, value)
    assert one.result().best.number == 1


def test_study_without_a_complete_trial_has_no_best(study: Any) -> None:
    one = study()
    one.finish(one.claim(3), TrialState.FAIL, error="ValueError: no")
    result = one.result()
    assert (result.best, result.best_checkpoint, result.ranked) == (None, None, ())
    assert result.trials[0].error == "ValueError: no"


# A study that is there.


@pytest.mark.parametrize(
    ("space", "sweep", "config", "message"),
    [
        (
            '"optimizer.lr" = { low = 0.0, high = 2.0 }\nbatch_size = { choices = [32, 64] }',
            "",
            {"fit.num_epochs": "2"},
            r"\[sweep\.space\] optimizer\.lr was \{ low = 0\.0, high = 1\.0 \} and is \{ low = 0",
        ),
        (
            '"optimizer.lr" = { low = 0.0, high = 1.0 }',
            "",
            {"fit.num_epochs": "2"},
            r"\[sweep\.space\] batch_size was \{ choices = \[32, 64\] \} and is not set",
        ),
        (
            SPACE,
            "",
            {"fit.num_epochs": "3"},
            r"fit\.num_epochs was 2 and is 3; undo the change, or start another ",
        ),
        (SPACE, "", {"a": "1"}, r"fit\.num_epochs was 2 and is not set; a was not set and is 1"),
    ],
)
def test_another_configuration_is_refused_with_what_has_changed(
    study: Any, space: str, sweep: str, config: dict[str, str], message: str
) -> None:
    study(config={"fit.num_epochs": "2"})
    with pytest.raises(
        ConfigError, match=f"the study in runs/digits-sweep has another configuration: {message}"
    ):
        study(space, sweep, config=config)


def test_how_to_search_may_change(study: Any) -> None:
    run(study(), 1)
    assert len(run(study(sweep='sampler = "random"\npruner = "none"\ntimeout = 5'), 3)) == 2


def test_study_of_another_program_is_left_alone(study: Any) -> None:
    Path("runs/digits-sweep").mkdir(parents=True)
    theirs = optuna.create_study(study_name="theirs", storage="sqlite:///runs/digits-sweep/study.db")
    theirs.tell(theirs.ask(), 0.0)
    theirs._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    with pytest.raises(
        ConfigError, match=r"study\.db contains a study of another program; give another --study-dir"
    ):
        study()


def test_file_that_is_no_database_is_one_sentence(study: Any) -> None:
    Path("runs/digits-sweep").mkdir(parents=True)
    Path("runs/digits-sweep/study.db").write_text("no database" * 100)
    with pytest.raises(
        ConfigError, match=r"study\.db cannot be used as a study: .*; fix it, or give another --s"
    ):
        study()


def test_file_in_place_of_the_folder_is_one_sentence(study: Any) -> None:
    Path("runs").write_text("")
    with pytest.raises(
        ConfigError, match="study_dir 'runs/digits-sweep' cannot be created: .*; give another"
    ):
        study()


def test_folder_may_have_any_name(study: Any) -> None:
    one = study(sweep='study_dir = "a ?b#c%20{d} é"')
    run(one, 1)
    assert Path("a ?b#c%20{d} é/study.db").is_file()
    assert [path.name for path in Path().iterdir() if path.is_dir()] == ["a ?b#c%20{d} é"]


def test_checkpoint_that_no_sweep_has_written_is_not_replaced(study: Any) -> None:
    mine = Path("runs/digits-sweep/best.safetensors")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(
        ConfigError,
        match=r"best\.safetensors is not of a study, and a sweep writes its best checkpoint there",
    ):
        study()
    assert mine.read_bytes() == b"mine"


def test_runs_of_a_study_that_is_gone_are_left_alone(study: Any) -> None:
    Path("runs/digits-sweep/trial-0003").mkdir(parents=True)
    with pytest.raises(
        ConfigError,
        match="trial-0003 belongs to a study that is missing; move it away, or give another",
    ):
        study()


def test_wrong_sampler_leaves_no_folder(study: Any) -> None:
    with pytest.raises(ArgusError, match="no sampler named 'zzz'"):
        study(sweep="sampler = 'zzz'")
    assert not Path("runs").exists()


def test_optunas_own_study_can_be_loaded(study: Any) -> None:
    one = study()
    run(one, 2)
    theirs = one.result().load_study()
    assert [trial.number for trial in theirs.trials] == [0, 1]
    assert theirs.direction is optuna.study.StudyDirection.MAXIMIZE
    theirs._storage._backend.engine.dispose()


def test_folder_without_a_study_has_none_to_load(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="contains no study; give the folder of a study, which has a study.db"
    ):
        connect(tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "params",
    [
        'n_startup_trials = "1"',
        "n_ei_candidates = -5, n_startup_trials = 0",
    ],
)
def test_parameter_that_only_sampling_meets_is_one_sentence(study: Any, params: str) -> None:
    run(study(), 2)
    one = study(sweep=f'sampler = ["tpe", {{ {params} }}]')
    with pytest.raises(ArgusError, match="sampler 'tpe' cannot choose a trial: .*Error: .*; check its param"):
        one.claim(3)


@pytest.mark.parametrize(
    "change",
    [
        "update study_user_attributes set value_json = '5'",
        """update study_user_attributes set value_json = '{"monitor": "val_accuracy"}'""",
        "update study_user_attributes set value_json = '{'",
        """update trial_params set distribution_json = '{"name": "X", "attributes": {}}'""",
        "update trials set state = 'x'",
        "update trials set datetime_start = 'x'",
        "update trial_values set value = 'x'",
        "update trial_values set value = x'00'",
        "update trial_values set value_type = 'INF_POS'",
        "update trials set number = 7",
        "update trials set number = '../x'",
        "update trial_params set param_value = 'x'",
        "insert into trial_values select 9, trial_id, 1, 0.5, 'FINITE' from trial_values limit 1",
        "insert into trial_intermediate_values values (1, 1, 0, 'x', 'FINITE')",
        "insert into trial_user_attributes values (99, 1, 'argus_kills', '\"x\"')",
        "insert into trial_user_attributes values (99, 1, 'argus_error', '[1]')",
        pytest.param(
            f"insert into trial_user_attributes values (99, 1, 'deep', '{'[' * 200_000}')", id="deep"
        ),
        pytest.param(
            'update trial_params set distribution_json = \'{"name": "FloatDistribution", "attributes": '
            '{"low": 0, "high": 1e308, "step": 1e-300, "log": false}}\'',
            id="small steps",
        ),
    ],
)
def test_study_that_holds_something_else_is_one_sentence(study: Any, change: str) -> None:
    run(study(), 2)
    with sqlite3.connect("runs/digits-sweep/study.db") as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(ConfigError, match="study.db cannot be used as a study: .*; fix it"):
        study().result()


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("update study_directions set direction = 'MINIMIZE'", "minimize"),
        ("update study_directions set direction = 'NOT_SET'", "not_set"),
        ("insert into study_directions values (9, 'MINIMIZE', 1, 1)", "maximize and minimize"),
    ],
)
def test_study_of_another_direction_is_refused(study: Any, change: str, shown: str) -> None:
    run(study(), 1)
    with sqlite3.connect("runs/digits-sweep/study.db") as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(
        ConfigError, match=f"is one to {shown}, and this sweep is to maximize val_accuracy; give"
    ):
        study()


def test_study_of_too_many_rows_is_refused_before_they_are_read(
    study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(study(), 3)
    monkeypatch.setattr(database, "_MOST_ROWS", 5)
    with pytest.raises(
        ConfigError, match=r"study.db has \d+ rows, and 5 is the most that a study may have; start"
    ):
        study()


@pytest.mark.parametrize(
    "change",
    [
        "alter table trials rename to t; create view trials as select one.* from t one, t two, t three",
        "create trigger slow after insert on trials begin select hex(zeroblob(1000000)); end",
        "create index slow on trials (hex(zeroblob(number)))",
        "alter table trials add column more as (hex(zeroblob(1000000000)))",
        "drop table trial_heartbeats; create virtual table trial_heartbeats using fts5(x)",
        "drop table trial_heartbeats; create table trial_heartbeats (x check (hex(zeroblob(9000000)) > ''))",
        "drop table trial_heartbeats; create table trial_heartbeats (x default (hex(zeroblob(400000000))))",
        "drop table trial_heartbeats; create table trial_heartbeats (x check/**/(hex(x) = ''))",
        "drop table trial_heartbeats; create table trial_heartbeats (x check (x = 1), check (1 = hex(x)))",
    ],
)
def test_study_whose_database_runs_sql_of_its_own_is_refused(study: Any, change: str) -> None:
    one = study()
    run(one, 1)
    with sqlite3.connect("runs/digits-sweep/study.db") as connection:
        connection.executescript(change)
    connection.close()
    with pytest.raises(ConfigError, match=r"study.db has the \w+ '\w+', whose SQL optuna did not write"):
        study()
