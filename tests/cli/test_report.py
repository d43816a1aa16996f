"""The report of fabricated runs: its numbers, its safety, and how it looks in a browser."""

import base64
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from offrl_jax.cli import report
from offrl_jax.evaluation.statistics import bootstrap_interval
from offrl_jax.reports import recorded
from offrl_jax.reports.published import published
from offrl_jax.types import InputError
from tests import commands
from tests.fabricated_runs import write_run

HOPPER = {"name": "data/hopper-medium.hdf5", "fingerprint": "e" * 64}
HOSTILE = '<script>alert("x")</script> $\\frac{ | `a` [b](http://c) _d_ & "q"'
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Page(html.parser.HTMLParser):
    """The text of a page's table cells, by table and row, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self._cell = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag == "br":
            self._cell.append(" ")

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self._cell))
            self._cell = None

    def table(self, heading):
        """The rows below the header of the table with this heading, by their first cell."""
        found = next(table for table in self.tables if heading in table[0])
        return {row[0]: dict(zip(found[0], row, strict=True)) for row in found[1:]}


def made(folder, *paths, **flags):
    words = [f"--{name}={value}" for name, value in flags.items()]
    done = commands.run(report, *map(str, paths), f"--output={folder}", *words)
    assert done["code"] == 0, done
    return done, (folder / "report.html").read_text(), (folder / "report.md").read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three algorithms on two tasks; two runs of one are to be pooled, and a seed diverged."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    scores = {}
    for task, dataset in (("task", {}), ("hopper-medium", HOPPER)):
        for algorithm, mean in (("bc", 20), ("cql", 60), ("iql", 70)):
            found = rng.normal(mean, 9, (4, 3)).round(1)
            bias = None if algorithm == "bc" else {"cql": -40.0, "iql": 3e6}[algorithm]
            diverged = None
            if (task, algorithm) == ("task", "iql"):
                found[-1, 1], diverged = np.nan, [None, "critic/loss at step 400", None]
            write_run(
                *(root / f"{algorithm}-{task}", found),
                **dict(algorithm=algorithm, dataset=dataset, value_error=bias, diverged=diverged),
            )
            scores[task, algorithm] = found
    more = rng.normal(60, 9, (4, 3)).round(1)
    write_run(root / "more", more, algorithm="cql", seed=3, value_error=-40.0)
    scores["task", "cql"] = np.concatenate([scores["task", "cql"], more], axis=1)
    (root / "no-run").mkdir()
    output = tmp_path_factory.mktemp("made") / "report"
    done, page, markdown = made(output, *sorted(root.iterdir()))
    return {"scores": scores, "done": done, "html": page, "md": markdown, "folder": output}


@pytest.mark.parametrize("task", ["task", "hopper-medium"])
@pytest.mark.parametrize("algorithm", ["bc", "cql", "iql"])
def test_the_scores_are_those_of_the_runs(study, task, algorithm):
    scores = study["scores"][task, algorithm]
    last = scores[-1][~np.isnan(scores[-1])]
    middle = np.sort(last)[len(last) // 4 : len(last) - len(last) // 4].mean()
    low, high = bootstrap_interval(last, num_resamples=2_000)
    tables = [t for t in Page(study["html"]).tables if "mean score" in t[0]]
    assert len(tables) == 2  # hopper-medium's comes first
    name = "bc (cloning)" if algorithm == "bc" else algorithm
    (row,) = (r for r in tables[task == "task"] if r[0] == name)
    seeds = "2 of 3, 1 diverged" if len(last) == 2 else str(len(last))
    assert row[1:6] == [
        *(f"{last.mean():.1f}", f"{middle:.1f}", f"{low:.1f} to {high:.1f}", seeds),
        f"{np.nanmax(scores, 0).mean():.1f} (k = 4)",
    ]


def test_the_datas_average_and_what_was_published_stand_beside_them(study):
    hopper, task = (t for t in Page(study["html"]).tables if "mean score" in t[0])
    assert task[-1][:2] == hopper[-1][:2] == ["the data's own average", "25.0"]
    assert "published†" not in task[0]
    (row,) = (row for row in hopper if row[0] == "cql")
    assert row[-1] == "CQL 59.1 ± 3.8 (D4RL v2, CORL)"
    assert "For orientation only" in study["html"] and "another dataset" in study["html"]


def test_pooled_numbers_are_those_of_all_tasks(study):
    pooled = Page(study["html"]).table("optimality gap")
    improvement = Page(study["html"]).table("row better than column")
    for algorithm in ("bc", "cql", "iql"):
        scores = [study["scores"][task, algorithm][-1] for task in ("hopper-medium", "task")]
        flat = np.concatenate([x[~np.isnan(x)] for x in scores])
        gap = np.mean([100 - min(x, 100) for x in flat])
        assert pooled[algorithm]["scores"] == str(len(flat))
        assert pooled[algorithm]["mean"].startswith(f"{flat.mean():.1f} (")
        assert pooled[algorithm]["optimality gap"].startswith(f"{gap:.1f} (")
        others = [study["scores"][task, "bc"][-1] for task in ("hopper-medium", "task")]
        beaten = [
            np.mean([[a > b for b in y] for a in x[~np.isnan(x)]])
            for x, y in zip(scores, others, strict=True)
        ]
        told = improvement[algorithm]["bc"]
        assert told == "–" if algorithm == "bc" else told.startswith(f"{np.mean(beaten):.2f} (")


def test_what_is_not_counted_and_what_diverged_is_named(study):
    assert "7 of 8 paths counted" in study["done"]["out"]
    for text in (study["html"], study["md"]):
        assert "no-run is no run directory: it has no config.json" in text
        assert "seed 1 diverged, its critic/loss at step 400" in text
        assert "1 seed diverged, without a score" in text


def test_compute_and_versions_are_told(study):
    compute = Page(study["html"]).table("wall time")
    assert compute["more"]["wall time"] == "8 s" and compute["more"]["training"] == "75%"
    assert compute["more"]["updates/s, all seeds"] == "150"
    assert compute["more"]["device"] == "abacus"
    assert "of all runs: commit c0ffee, python 3.11, jax 9.9.9" in study["html"]


def test_the_page_needs_no_other_file_and_runs_nothing(study):
    page = Page(study["html"])
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "form"}
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 7 and all(image["alt"] for image in images)
    for image in images:
        kind, content = image["src"].split(",", 1)
        assert kind == "data:image/svg+xml;base64" and b"<svg" in base64.b64decode(content)
    assert not re.search(r'(src|href|url)\s*[=(]\s*"?https?:', study["html"])


def test_markdown_shows_the_same_tables_and_files_that_exist(study):
    files = re.findall(r"!\[[^\]]*\]\((\S+)\)", study["md"])
    assert len(files) == 7
    for file in files:
        assert (study["folder"] / file).read_bytes().startswith(b"\x89PNG")
    lines = [line for line in study["md"].splitlines() if line.startswith("|")]
    cells = [line.strip("| ").split(" | ") for line in lines if "| ---" not in line]
    shown = [row for table in Page(study["html"]).tables for row in table]
    assert [row[0].split() for row in cells[:5]] == [row[0].split() for row in shown[:5]]
    assert len(cells) == len(shown)
    assert [len(row) for row in cells[:11]] == [len(row) for row in shown[:11]]


def test_names_from_run_directories_are_shown_and_not_obeyed(tmp_path):
    path = tmp_path / "a<b>&c"
    scores = [[1.0, 2.0], [3.0, np.nan]]
    write_run(
        *(path, scores),
        **dict(
            algorithm=HOSTILE,
            dataset={"name": HOSTILE, "env_id": HOSTILE},
            config={HOSTILE: HOSTILE},
            facts={HOSTILE: HOSTILE, "mean_return": HOSTILE},
            diverged=[None, HOSTILE],
        ),
    )
    write_run(tmp_path / "other", scores, algorithm=HOSTILE, config={HOSTILE: "x"}, seed=0)
    environment = json.loads((path / "environment.json").read_text())
    environment |= {"commit": HOSTILE, "device_kind": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    (path / "environment.json").write_text(json.dumps(environment))
    _, page, markdown = made(tmp_path / "r", path, tmp_path / "other", title=HOSTILE)
    tags = {tag for tag, _ in Page(page).tags}
    assert "script" not in tags and "b" not in tags
    assert page.count("&lt;script&gt;") > 5
    assert "<script" not in markdown and "[b](http" not in markdown
    assert "&lt;script&gt;" in markdown and "\\[b\\]" in markdown


def test_names_that_are_no_unicode_are_shown_with_question_marks(tmp_path):
    folder = tmp_path / os.fsdecode(b"run-\xff")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"the file system has no such names: {error}")
    odd = folder.name
    for seed in range(2):
        write_run(
            *(folder / f"{seed}-{odd}", [[1.0], [2.0]]),
            **dict(seed=seed, dataset={"name": odd}, config={odd: seed, "tau": 0.1}),
        )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "offrl_jax.cli.report", *sorted(folder.iterdir())),
            *(folder / "no-run", f"--output={folder / 'r'}", f"--title={odd}"),
        ],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert b"note: " in done.stdout and b"run-?/no-run is no run directory" in done.stdout
    for name in ("report.html", "report.md"):
        text = (folder / "r" / name).read_text(encoding="utf-8")
        assert "1-run-?" in text and "bc run-?=1" in text


def test_an_algorithms_name_that_is_no_unicode_is_refused(tmp_path):
    odd = write_run(tmp_path / "a", [[1.0, 2.0]], algorithm="b\udcffc")
    with pytest.raises(InputError, match="not as a training writes it"):
        recorded.read(odd)


@pytest.mark.parametrize(
    "paths, told",
    [
        ((), "no run directories are given; give some, such as runs/*"),
        (("nowhere",), "none of the given runs has ended, with evaluations"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, paths, told):
    done = commands.run(report, *paths, f"--output={tmp_path / 'r'}")
    assert done["code"] == 2 and told in done["err"] and done["err"].count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_an_output_that_is_a_file_is_told(tmp_path):
    (tmp_path / "r").write_text("mine")
    run = write_run(tmp_path / "a", [[1.0, 2.0]])
    done = commands.run(report, str(run), f"--output={tmp_path / 'r'}")
    assert done["code"] == 2 and "r cannot be written" in done["err"]
    assert (tmp_path / "r").read_text() == "mine"


def test_a_single_run_of_one_seed_is_reported_without_intervals(tmp_path):
    run = write_run(tmp_path / "a", [[1.0], [2.0]], facts=None)
    _, page, _ = made(tmp_path / "r", run)
    assert Page(page).table("seeds")["bc (cloning)"]["95% interval"] == "one seed"
    assert "average is not recorded" in page and "nan" not in page.replace("finance", "").lower()


def test_pooled_numbers_tell_that_a_task_with_one_seed_is_why_they_have_no_interval(tmp_path):
    runs = [
        write_run(tmp_path / "a", [[1.0, 2.0, 4.0]]),
        write_run(tmp_path / "b", [[3.0]], dataset=HOPPER),
    ]
    _, page, _ = made(tmp_path / "r", *runs)
    assert Page(page).table("optimality gap")["bc"]["mean"] == "2.5 (a task with one seed)"


def test_frames_that_cannot_be_had_are_told_and_cost_nothing_else(tmp_path):
    run = write_run(tmp_path / "a", [[1.0, 2.0]])  # it has no policy
    _, page, _ = made(tmp_path / "r", run, frames=2)
    assert "What the best policies do" in page and "holds no policy" in page


def test_what_is_published_is_found_by_the_datasets_name():
    methods = {str(found) for found in published("D4RL/door/human-v2", "iql")}
    assert methods == {"IQL 3.3 ± 1.8 (D4RL v1, CORL)"}
    assert published("hopper_medium-v2", "cql") == published("mujoco/hopper/medium-v0", "cql")
    assert {p.dataset for p in published("hopper-medium-expert", "sac")} == {
        "hopper-medium-expert-v2",
        "hopper-medium-expert-v0",
    }
    assert published("pointmaze/umaze", "cql") == published("rehopper-medium", "cql") == []


WIDTHS = 400, 768, 1280, 1600
FRAMES = """<body><script>
const widths = {widths};
for (const w of widths) {{
  const f = document.createElement("iframe");
  f.style.width = w + "px"; f.style.height = "900px"; f.src = "report.html";
  document.body.append(f);
}}
window.onload = () => {{
  const told = [...document.querySelectorAll("iframe")].map((f, i) => {{
    const d = f.contentDocument, root = d.documentElement;
    return {{
      width: widths[i], scroll: root.scrollWidth, client: root.clientWidth,
      smallest: Math.min(...[...d.querySelectorAll("td, th, p, li")].map(
        e => parseFloat(getComputedStyle(e).fontSize))),
      images: [...d.images].map(e => e.naturalWidth > 0 && e.clientWidth > 250),
      outside: [...d.querySelectorAll("h1, h2, h3, p, li, figure")].filter(
        e => e.getBoundingClientRect().right > root.clientWidth + 1).length,
    }};
  }});
  document.body.innerHTML = "<pre>" + JSON.stringify(told) + "</pre>";
}};
</script></body>"""


def browse(folder, *flags):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder}/profile", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_browser_shows_it_at_every_width_with_nothing_cut(study, tmp_path):
    shutil.copy(study["folder"] / "report.html", tmp_path)
    (tmp_path / "frames.html").write_text(FRAMES.format(widths=list(WIDTHS)))
    done = browse(
        *(tmp_path, "--allow-file-access-from-files", "--virtual-time-budget=20000"),
        *("--dump-dom", f"file://{tmp_path}/frames.html"),
    )
    (told,) = re.findall(r"<pre>(.*)</pre>", done.stdout)
    for found in json.loads(told):
        assert found["scroll"] <= found["client"] <= found["width"], found
        assert found["smallest"] >= 12 and found["outside"] == 0, found
        assert len(found["images"]) == 7 and all(found["images"]), found


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_a_browser_draws_dark_on_light_and_prints(study, tmp_path):
    from matplotlib import image

    page = f"file://{study['folder']}/report.html"
    browse(tmp_path, "--window-size=1280,1600", f"--screenshot={tmp_path}/shot.png", page)
    brightness = image.imread(tmp_path / "shot.png")[..., :3].mean(-1)
    assert brightness.shape == (1600, 1280)
    assert np.median(brightness) > 0.95 and 0.005 < (brightness < 0.4).mean() < 0.2
    browse(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path}/paper.pdf", page)
    paper = Path(tmp_path / "paper.pdf").read_bytes()
    assert paper.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 8
