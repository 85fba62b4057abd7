"""The job files in ``examples/clusters``: their syntax, and the options that they give to ``argus``."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from argus_core.cli.launching_command import split_arguments

CLUSTERS = Path(__file__).parent.parent / "examples/clusters"


def launched(script: str) -> list[str]:
    """Return torchrun's options of the line that starts ``argus``."""
    (line,) = re.findall(r"argus .*", script.replace("\\\n", " "))
    launching, rest = split_arguments(shlex.split(line)[1:])
    assert len(rest) == 1
    assert "$" in rest[0]
    return launching


def test_job_of_slurm_is_a_script_that_starts_argus_on_each_host() -> None:
    script = CLUSTERS / "slurm.sh"
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    subprocess.run([bash, "-n", str(script)], check=True)
    options = launched(script.read_text("utf-8"))
    assert options[options.index("--nnodes") + 1] == "$SLURM_JOB_NUM_NODES"


def test_first_job_of_slurm_trains_and_the_next_one_resumes(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    for name, body in (("scontrol", "echo host1; echo host2"), ("srun", 'echo "$@"')):
        program = tmp_path / name
        program.write_text(f"#!{bash}\n{body}\n")
        program.chmod(0o755)
    found = []
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "host[1-2]"}
    environment |= {"SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7"}
    for _ in range(2):
        done = subprocess.run(
            [bash, str(CLUSTERS / "slurm.sh")], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
        (tmp_path / "runs/digits/checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs/digits/checkpoints/last.safetensors").touch()
    assert found[0].startswith("argus train run.toml --run-dir runs/digits --nnodes 2 ")
    assert found[1].startswith("argus resume runs/digits --nnodes 2 ")
    assert found[1].endswith("--rdzv-endpoint host1:29500 --rdzv-id 7\n")


def test_job_of_kubernetes_is_yaml_whose_pods_start_argus_and_find_each_other() -> None:
    service, job = yaml.safe_load_all((CLUSTERS / "kubernetes.yaml").read_text("utf-8"))
    name, spec = service["metadata"]["name"], job["spec"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert (spec["completionMode"], spec["template"]["spec"]["subdomain"]) == ("Indexed", name)
    (container,) = spec["template"]["spec"]["containers"]
    options = launched(container["args"][0])
    assert options[options.index("--nnodes") + 1] == str(spec["completions"])
    assert options[options.index("--rdzv-endpoint") + 1].startswith(f"{job['metadata']['name']}-0.{name}:")
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
