"""Features around class centres, and heads that learn them task by task."""

import torch

from segp_ext.runtime.processes import Processes

CPU = torch.device("cpu")


def features(seed=0, count=200, classes=6, width=5):
    """Features around class centres, with labels."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % classes
    mixing = torch.randn(width, width, generator=draw)
    centre = 3 * torch.randn(classes, width, generator=draw)
    return centre[label] + torch.randn(count, width, generator=draw) @ mixing, label


def learnt(head, feature, label, sizes):
    """The head after tasks of so many classes each."""
    start = 0
    for size in sizes:
        chosen = (label >= start) & (label < start + size)
        head.begin(size)
        for rows in chosen.nonzero().flatten().split(7):
            head.add(feature[rows], label[rows] - start, rows)
        head.finish(Processes())
        start += size
    return head


def check_kept(make_head):
    """A head that took over the state of another gives the same scores, now and after one more task."""
    feature, label = features()
    means = torch.stack([feature[label == c].mean(0) for c in range(6)])
    head, other = learnt(make_head(), feature, label, (3, 3)), make_head()
    other.restore(head.state())
    assert torch.equal(other.scores(feature, means, 1.0), head.scores(feature, means, 1.0))
    more, labels = features(seed=5, classes=2)
    both = [learnt(h, more, labels, (2,)) for h in (head, other)]
    wide = torch.cat([means, means[:2]])
    assert torch.equal(*(h.scores(more, wide, 1.0) for h in both))
