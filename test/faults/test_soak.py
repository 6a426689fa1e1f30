# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Hours of conversation (`soak.py`), in a short form: it goes on as if never stopped."""

import numpy as np
import pytest
from simulation import read_dialogue, tiny_model
from soak import Soak, load


@pytest.fixture(scope='module')
def model():
    return tiny_model()


def test_one_that_was_stopped_goes_on_bit_for_bit(model, tmp_path):
    dialogue, path = read_dialogue(), tmp_path / 'soak.pickle'
    whole = Soak(model, seed=3)
    whole.go_on(dialogue)
    whole.save(path)
    whole.go_on(dialogue)

    resumed = load(path, model)
    resumed.go_on(dialogue)

    assert resumed.at_s == whole.at_s
    assert [row.name for row in resumed.rows] == [row.name for row in whole.rows]
    np.testing.assert_array_equal(resumed._stage.neck_deg(), whole._stage.neck_deg())
    assert resumed._stage.conversation.counters() == whole._stage.conversation.counters()
    assert whole.found == []
