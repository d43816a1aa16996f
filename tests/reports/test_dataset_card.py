"""The dataset card as people see it."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from offrl_jax import data
from offrl_jax.data.card import card
from offrl_jax.reports import dataset_card

NAME = "<script>alert('x')</script> & \"more\""
BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


def made(n=40, size=3, **fields):
    rng = np.random.default_rng(0)
    return card(
        data.dataset_from_arrays(
            rng.normal(size=(n, size)),
            rng.uniform(-0.9, 0.9, (n, 2)),
            np.ones(n),
            np.arange(1, n + 1) % 10 == 0,
            **{"name": NAME, "env_id": "Hopper-v5", "reference_scores": (0.0, 20.0)} | fields,
        ),
        time_limit=1000,
    )


def pictures(page):
    encoded = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    return [base64.b64decode(part) for part in encoded]


class Outline(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text += text


def test_text_says_what_the_card_holds():
    text = dataset_card.text(made())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == NAME
    for line in (
        "environment Hopper-v5",
        "transitions 40, of 3 numbers observed and 2 of action",
        "number 4",
        "length mean 10; 10 to 10, median 10, half of them 10 to 10",
        "ends 4 true ends, 0 time-outs after 1000 steps, 0 cut elsewhere",
        "score mean 50; 50 to 50, median 50, half of them 50 to 50; 0 is random, 100 the reference",
        "most frequent 1, 100.0% of all",
        "repeated 0 transitions (0.0%), 0 episodes",
        "- only 40 transitions",
        "- every reward is 1: there is nothing to tell good from bad",
    ):
        assert line in lines, line
    assert "- none" not in lines
    assert "- none" in dataset_card.text(made() | {"warnings": []})


def test_a_page_is_well_formed_escaped_and_refers_to_nothing_outside():
    page = dataset_card.page(made())
    outline = Outline(page)
    assert outline.open == [] and "script" not in outline.tags
    assert NAME in outline.text  # as text
    addresses = re.findall(r'(?:src|href)="(.{0,20})', page)
    assert addresses and all(address.startswith("data:image/svg") for address in addresses)
    assert "url(" not in page and "@import" not in page
    for words in ("only 40 transitions", "4 true ends", "at bounds"):
        assert words in outline.text


def test_figures_are_returns_lengths_rewards_actions_and_a_map():
    drawings = pictures(dataset_card.page(made()))
    assert len(drawings) == 5
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert len(pictures(dataset_card.page(made(size=1)))) == 4  # one number has no map


@pytest.mark.parametrize("maze_map", [[[1, 1], [1, "g"]], 5, [5], [], None])
def test_whatever_the_data_call_a_map_of_the_maze_is_drawn_or_left_out(maze_map):
    kwargs = json.dumps({"maze_map": maze_map})
    found = made(env_id="PointMaze_UMaze-v3", env_kwargs=kwargs)
    assert found["map"]["is_position"]
    assert len(pictures(dataset_card.page(found))) == 5
    assert "maze_map" not in dataset_card.text(found)


def test_many_features_are_cut_in_tables_alone():
    found = made(size=100)
    text = dataset_card.text(found)
    assert "observations, the first 60 of 100" in text
    assert len(found["observations"]["mean"]) == 100


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_shows_the_page(tmp_path):
    (tmp_path / "card.html").write_text(dataset_card.page(made()), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu"]
    address = (tmp_path / "card.html").as_uri()
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    shot = [f"--screenshot={tmp_path / 'card.png'}", "--window-size=1000,2200"]
    subprocess.run([*command, profile, *shot, address], check=True, capture_output=True, timeout=60)
    from matplotlib import image

    pixels = image.imread(tmp_path / "card.png")[..., :3]
    assert pixels.shape == (2200, 1000, 3)
    assert np.mean(pixels.min(-1) > 0.9) > 0.7  # light
    assert np.mean(pixels.max(-1) < 0.3) > 0.005  # with dark text on it
