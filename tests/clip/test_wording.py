"""How classes are read: prompts written out, their tokens, and the mean of their embeddings."""

import numpy as np
import pytest
import torch
from made import tiny_backbone

from segp_ext.clip.wording import Wording, check_wording, mean_embeddings, tokenized


def test_prompts_are_written_out():
    assert Wording().sentences("beaver", "a {}.") == ["a beaver."]
    assert Wording("beaver").sentences("caltech101/beaver", "a {}.") == ["a beaver."]
    assert Wording("b", ["one {}", "no name"]).sentences("x/b", "a {}.") == ["one b", "no name"]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ("a photo", TypeError, "wording of class 'cat' must be a segp_ext.Wording; got str"),
        (Wording(prompts=[" "]), ValueError, "a prompt of class 'cat' must be one line of text; got ' '"),
        (Wording(prompts=["a\nb"]), ValueError, "must be one line of text"),
        (Wording(prompts=["a {name}."]), ValueError, "may have no other braces than {}, for its name; got 'a {name}.'"),
        (Wording(prompts=["a {}", "a {}"]), ValueError, "class 'cat' has the prompt 'a {}' twice"),
    ],
)
def test_what_is_no_wording_is_refused(wrong, error, says):
    with pytest.raises(error, match=says):
        check_wording("cat", wrong)


def test_a_mean_embedding_is_the_mean_of_unit_vectors():
    draw = np.random.RandomState(0)
    rows = draw.randn(6, 5)
    found = mean_embeddings(torch.tensor(rows), torch.tensor([1, 3, 2])).numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found, [rows[0], unit[1:4].mean(0), unit[4:].mean(0)], rtol=1e-12)
    alone = torch.tensor(rows)
    assert mean_embeddings(alone, torch.ones(6, dtype=torch.int64)) is alone  # bit for bit as without ensembles


def test_one_prompt_of_each_class_is_the_first_or_a_draw():
    tokens = tokenized(tiny_backbone(), [["a"], ["b", "c", "d"], ["e", "f"]])
    assert not tokens.are_single and len(tokens) == 3
    assert torch.equal(tokens.plain(), tokens.tokens[[0, 1, 4]])
    drawn = {tuple(tokens.drawn(torch.Generator().manual_seed(seed)).flatten().tolist()) for seed in range(60)}
    assert len(drawn) == 6  # 1 · 3 · 2, each of them possible
    assert torch.equal(tokens.begin_at(1).tokens, tokens.tokens[1:]) and len(tokens.begin_at(3)) == 0
