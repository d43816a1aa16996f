"""Writes the report of a study, as one self-contained HTML file and as Markdown.

  offrl report runs/*
  offrl report runs/cql-* runs/bc-* --output=report --frames=8
  offrl report runs/sweep/runs/* --title="CQL's weights"

Runs are grouped by dataset, algorithm and settings; those that differ only in their seeds are
pooled. Runs that cannot be used are named at the end of the report. --frames renders the best
policy of each task if its environment can be rendered; --load_data reads the data of runs that have
not recorded a summary of them.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

import offrl_jax as orl
from offrl_jax.cli.command_line import FLAGS, launch
from offrl_jax.cli.help import section
from offrl_jax.files import replacing

if TYPE_CHECKING:
    import numpy as np

    from offrl_jax.reports.study import Group

with section("contents"):
    flags.DEFINE_string("title", "Report of a study", "the report's heading")
    flags.DEFINE_integer("frames", 0, "frames of the best policy of each task; 0: none", 0, 100)
    flags.DEFINE_bool("load_data", False, "read datasets that the runs have not summarised")
with section("output"):
    flags.DEFINE_string("output", "report", "folder of the report; an earlier one is replaced")

IMAGES = "figures"


def main(*run_dirs: str) -> None:
    from offrl_jax.reports.document import Figures, to_html, to_markdown
    from offrl_jax.reports.page import compose
    from offrl_jax.reports.study import read_study

    if not run_dirs:
        raise orl.InputError("no run directories are given; give some, such as runs/*")
    output = Path(FLAGS.output)
    study = read_study(run_dirs, _described if FLAGS.load_data else lambda dataset: {})
    parts = compose(study, partial(_frames, num_frames=FLAGS.frames) if FLAGS.frames else None)
    try:
        (output / IMAGES).mkdir(parents=True, exist_ok=True)
        for part in parts:
            for image in part.images if isinstance(part, Figures) else ():
                with replacing(output / IMAGES / f"{image.name}.png") as path:
                    path.write_bytes(image.png)
        texts = {
            "report.html": to_html(FLAGS.title, parts),
            "report.md": to_markdown(FLAGS.title, parts, IMAGES),
        }
        for name, text in texts.items():
            with replacing(output / name) as path:
                path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise orl.InputError(
            f"output {output} cannot be written ({error}); give another"
        ) from error
    for problem in study.problems:
        print(f"note: {problem}")
    counted = sum(len(group.runs) for group in study.groups)
    print(f"{counted} of {len(run_dirs)} paths counted\n{output}/report.html\n{output}/report.md")


def _described(dataset: dict[str, Any]) -> dict[str, Any]:
    """Summary of a dataset that is read again; empty if it is missing or has changed."""
    from offrl_jax.data.summary import summary

    try:
        found = orl.load_dataset(
            dataset["name"], clip_actions=True
        )  # as they may have been trained on
    except orl.InputError as error:
        print(f"note: {error}")
        return {}
    if found.spec.fingerprint != dataset["fingerprint"]:
        print(f"note: {dataset['name']} has changed since the runs were trained")
        return {}
    reference = dataset.get("reference_scores") and tuple(dataset["reference_scores"])
    spec = dataclasses.replace(found.spec, reference_scores=reference)
    return summary(dataclasses.replace(found, spec=spec))


def _frames(group: "Group", num_frames: int) -> list["np.ndarray"]:
    """Frames of the group's best seed."""
    import numpy as np

    from offrl_jax.reports.frames import filmed

    best = int(np.nanargmax(group.last))
    for run in group.runs:
        if best < len(run.seeds):
            return filmed(run.path, best, num_frames)
        best -= len(run.seeds)
    raise AssertionError("seeds are those of the runs")


if __name__ == "__main__":
    launch(main)
