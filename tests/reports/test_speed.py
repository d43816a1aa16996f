"""The benchmark's table where cases differ, and its figure where there is nothing to show."""

from offrl_jax.networks.modules import MLP
from offrl_jax.networks.serialization import to_json
from offrl_jax.reports import speed

CASE = {
    **{"shape": "hopper", "observation_size": 11, "action_size": 3, "algorithm": "bc"},
    **{"num_seeds": 16, "num_settings": 4, "config": {"batch_size": 256}},
}
CASE["config"]["network"] = to_json(MLP((8, 4)))
MEASURED = CASE | {
    **{"updates_per_second": 1234.5, "repeats": [1200.4, 1234.5, 1300.6]},
    **{"lower_seconds": 0.5, "compile_seconds": 1.25, "program_bytes": 2_500_000},
    **{"device_peak_bytes": None, "operations_over_minimum": 1.0625},
    **{"fraction_of_product_rate": 0.725, "product": "256×256×256"},
}
LARGE = CASE | {
    "failed": "out of memory",
    "config": {
        **{"batch_size": 100, "num_critics": 10},
        "actor_network": to_json(MLP((8,))),
        "critic_network": to_json(MLP((16, 16), layer_norm=True)),
    },
}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_numbers_stand_below_their_names():
    header, _, measured, large = map(cells, speed.markdown([MEASURED, LARGE]).splitlines())
    row = dict(zip(header, measured, strict=True))
    assert row == {
        **{"shape": "hopper (11, 3)", "algorithm": "bc", "networks": "8x4", "batch": "256"},
        **{"seeds × settings": "16 × 4", "updates/s": "1,234", "compile": "1.8 s"},
        **{"lowest to highest": "1,200 to 1,301", "memory": "2.5 MB"},
        **{"operations / minimum": "1.062", "of the product's rate": "72% of 256×256×256"},
    }
    row = dict(zip(header, large, strict=True))
    assert row["batch"] == "100"
    critic = "MLP(hidden_sizes=16x16,layer_norm=True)"
    assert row["networks"] == f"actor 8; critic {critic}; E = 10"
    assert row["updates/s"] == "out of memory" and row["memory"] == "–"


def test_a_device_that_tells_its_peak_has_a_column():
    known = MEASURED | {"device_peak_bytes": 7_000_000}
    header, _, first, second = map(cells, speed.markdown([known, MEASURED]).splitlines())
    assert first[header.index("device peak")] == "7.0 MB"
    assert second[header.index("device peak")] == "–"


def test_there_is_no_figure_of_nothing(tmp_path):
    speed.plot(tmp_path / "none.png", [LARGE], "nothing")
    assert not list(tmp_path.iterdir())
    speed.plot(tmp_path / "one.png", [LARGE, MEASURED], "one")
    assert (tmp_path / "one.png").stat().st_size > 1000
