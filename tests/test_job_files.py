"""The job files on the page about clusters are whole and agree with the commands in them; no
cluster has run them."""

import re

import pytest
import yaml  # of Orbax

from experiments.command_line import ERROR_CODE, FAILED_CODE, STOPPED_CODE
from tests.markdown import ROOT, code_blocks, commands, unknown_flags

PAGE = (ROOT / "docs/cluster.md").read_text()
DOCUMENTS = [d for block in code_blocks(PAGE, "yaml") for d in yaml.safe_load_all(block)]
JOBS = [d for d in DOCUMENTS if d.get("kind") == "Job"]
(SERVICE,) = (d for d in DOCUMENTS if d.get("kind") == "Service")
(TASK,) = (d for d in DOCUMENTS if "kind" not in d)


def flags_of(text):
    """Those of the one command in it, which exist."""
    ((module, rest),) = commands(text)
    assert module == "experiments.sweep" and not unknown_flags(module, rest), rest
    return dict(re.findall(r"--([\w.]+)=(\S+)", rest))


def pod_and_flags(job):
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ((mount, volume),) = zip(container["volumeMounts"], pod["volumes"], strict=True)
    flags = flags_of(container["args"][0])
    assert mount["name"] == volume["name"]
    assert flags["sweep_dir"].startswith(mount["mountPath"] + "/")
    return pod, flags


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_kubernetes_replaces_what_was_stopped_and_gives_up_on_what_failed(job):
    spec = job["spec"]
    assert job["apiVersion"] == "batch/v1" and spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    assert pod_and_flags(job)[0]["restartPolicy"] == "Never"  # which podFailurePolicy asks for
    rules = [rule for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    codes = {rule["action"]: rule["onExitCodes"]["values"] for rule in rules}
    assert codes == {"Ignore": [STOPPED_CODE], "FailJob": [ERROR_CODE, FAILED_CODE]}


def test_kubernetes_has_a_pod_for_each_job_and_for_each_process():
    by_job, by_process = JOBS
    _, flags = pod_and_flags(by_job)
    assert by_job["spec"]["completions"] == len(flags["grid.num_critics"].split(","))
    pod, flags = pod_and_flags(by_process)
    name = by_process["metadata"]["name"]
    assert flags["num_processes"] == str(by_process["spec"]["completions"])
    assert flags["coordinator"].startswith(f"{name}-0.{pod['subdomain']}:")
    assert pod["subdomain"] == SERVICE["metadata"]["name"]
    assert SERVICE["spec"]["selector"] == {"job-name": name}
    assert SERVICE["spec"]["clusterIP"] == "None"


def test_skypilot_recovers_what_was_stopped_and_shares_a_volume():
    flags = flags_of(TASK["run"])
    assert TASK["resources"]["job_recovery"]["recover_on_exit_codes"] == [STOPPED_CODE]
    assert any(flags["sweep_dir"].startswith(f"{path}/") for path in TASK["volumes"])
    assert flags["process_id"] == "$SKYPILOT_NODE_RANK" and TASK["num_nodes"] > 1
