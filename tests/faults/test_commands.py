"""What the command line itself refuses."""

import pytest


@pytest.mark.fault(42, "flag typo", "nearest name")
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num_sede=3"], ("--num_sede", "did you mean --num_seeds?")),
        (["--config.learning_rat=1"], ("did you mean --config.learning_rate?",)),
        (["--algorithm=cq1"], ("'cq1'", "did you mean cql?")),
        (["--dataset=pointmaze/umase"], ("did you mean pointmaze/umaze?",)),
    ],
    ids=["flag", "config", "algorithm", "dataset"],
)
def test_a_typo_is_met_with_the_nearest_name(refused, flags, words):
    refused(*flags, words=words)
