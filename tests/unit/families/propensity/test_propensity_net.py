"""Sequences, members and folds, reasons, intervals, options."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from propensity_case import ALL, CONVERSION, Example, built, example, taken, without_last_events

from wanamaker.data.propensity_batch import PropensitySchema
from wanamaker.errors import UserError
from wanamaker.families.propensity import PropensityNet, reasons
from wanamaker.families.propensity.lstm import layout_of
from wanamaker.families.propensity.reasons import attributions, latest, link_of, one_sequence_each, top_reasons

POOLED = {"hidden": 5, "pool": ["last", "mean", "max"]}


def members(net: PropensityNet, made: Example) -> torch.Tensor:
    with torch.no_grad():
        return net.members_of(net.encode(made.batch), made.batch)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("embed_above", [0, 32])
def test_groups_equal_a_loop_over_sequences(cell: str, embed_above: int) -> None:
    made = example(40, events=True)
    batch = made.batch
    net = built(made, sequence={**POOLED, "cell": cell, "embed_above": embed_above, "layers": 2})
    encoder = net.sequence
    with torch.no_grad():
        found = encoder(batch)
        inputs = encoder.inputs(batch)
        first = batch.length.cumsum(0) - batch.length
        for p in range(40):
            seen, s = int(batch.seen[p]), int(batch.sequence[p])
            for m in range(net.members):
                expected = encoder.start[m, 0]
                if seen:
                    own = inputs if inputs.ndim == 2 else inputs[m]
                    states = encoder.nets[m](own[first[s] : first[s] + seen][:, None])[0][:, 0]
                    expected = torch.cat([states[-1], states.mean(0), states.max(0).values])
                torch.testing.assert_close(found[m, p], expected, rtol=1e-4, atol=1e-5)


def test_every_event_has_its_place_in_a_group_of_like_length() -> None:
    length = torch.tensor([2, 40, 1, 31, 3, 12])
    layout = layout_of(length, torch.device("cpu"))
    assert [tuple(group.shape) for group in layout.groups] == [(40, 2), (12, 1), (3, 3)]
    laid = torch.cat([group.flatten() for group in layout.groups])
    assert torch.equal(laid[layout.place], torch.arange(int(length.sum())))
    assert len(layout.place.unique()) == int(length.sum())
    assert layout.longest == 40
    assert torch.equal(layout.first, length.cumsum(0) - length)


def test_events_after_the_moment_move_nothing() -> None:
    made = example(60, ALL, events=True)
    net = built(made, sequence=POOLED)
    later = without_last_events(made)
    assert not torch.equal(later.batch.event_categorical, made.batch.event_categorical)
    assert torch.equal(members(net, made), members(net, later))


def test_a_position_does_not_depend_on_its_batch() -> None:
    made = example(60, ALL, events=True)
    net = built(made, sequence=POOLED)
    whole = members(net, made)
    order = torch.from_numpy(np.random.default_rng(0).permutation(60)[:23])
    part = replace(made, batch=taken(made.batch, order))
    torch.testing.assert_close(members(net, part), whole[:, order], rtol=1e-5, atol=1e-5)
    alone = replace(made, batch=taken(made.batch, torch.tensor([5])))
    torch.testing.assert_close(members(net, alone), whole[:, 5:6], rtol=1e-5, atol=1e-5)


def test_positions_may_share_a_sequence() -> None:
    made = example(30, events=True)
    net = built(made, sequence=POOLED)
    long = int(made.batch.seen.argmax())
    batch = taken(made.batch, torch.tensor([long, long, long]))
    seen = torch.tensor([1, int(made.batch.seen[long]), 0])
    shared = batch._replace(sequence=torch.zeros(3, dtype=torch.int64), seen=seen)
    own = one_sequence_each(shared)
    assert own.length.tolist() == seen[:2].tolist()
    torch.testing.assert_close(members(net, replace(made, batch=own)), members(net, replace(made, batch=shared)))


def test_dropout_is_a_function_of_the_position_and_the_step() -> None:
    made = example(60, ALL, events=True)
    net = built(made, dropout=0.3, sequence={"hidden": 5, "dropout": 0.3, "input_dropout": 0.3}).train()
    batch = made.batch
    whole = net.members_of(net.encode(batch), batch, 3)
    order = torch.arange(59, 30, -1)
    part = taken(batch, order)
    torch.testing.assert_close(net.members_of(net.encode(part), part, 3), whole[:, order], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(net.members_of(net.encode(batch), batch, 4), whole)


def test_every_parameter_learns_with_and_without_events_in_the_batch() -> None:
    made = example(60, ALL, events=True)
    net = built(made, wide=True, structure="ple", experts=2, task_weighting="uncertainty", embed_above=2).train()
    nobody = (made.batch.seen == 0).nonzero().flatten()
    for rows in (torch.arange(60), nobody):
        part = taken(made.batch, rows)
        part = part._replace(sequence=torch.where(part.seen > 0, part.sequence, -1))
        if rows is nobody:
            part = part._replace(
                length=part.length[:0], event_categorical=part.event_categorical[:0],
                event_numeric=part.event_numeric[:0], event_gap=part.event_gap[:0],
            )  # fmt: skip
        net.zero_grad()
        losses = net.heads.loss(net.members_of(net.encode(part), part, 0), part.label, part.time)
        net.weighting(losses.mean(1), torch.ones(net.members, 4, dtype=torch.bool)).sum().backward()
        assert all(value.grad is not None for value in net.parameters())


def test_members_never_learn_from_their_fold_and_seen_rows_are_judged_by_them() -> None:
    made = example(300)
    net = built(made, folds=3, replicas=2)
    fold, weight = net.fold(made.batch), net.learning_weight(made.batch)
    own = torch.arange(6)[:, None] % 3 == fold
    assert not weight[own].any()
    assert weight.sum() > 0
    seen = torch.zeros(300, dtype=torch.bool)
    seen[:100] = True
    use = net.may_speak(made.batch, seen)
    assert torch.equal(use[:, :100], own[:, :100])
    assert use[:, 100:].all()
    alone = built(made, folds=1, bootstrap="none")
    assert (alone.learning_weight(made.batch) == 1).all()
    assert alone.may_speak(made.batch, seen).all()


def test_members_of_a_fold_may_share_weights_and_those_of_two_do_not() -> None:
    made = example(30)
    net = built(made, folds=3, replicas=2, bootstrap="none", adapted=True, hidden=(5, 4), dropout=0.2).train()
    raw = net.members_of(net.encode(made.batch), made.batch, 0)
    raw[1].sum().backward()  # a member of fold 1, as number 4 is
    tower = net.trunk.towers[0]
    for weight in tower.weights:
        assert weight.grad[1].any()
        assert not weight.grad[[0, 2]].any()
    assert [bool(own.any()) for own in tower.last_weights.grad] == [False, True, False, False, False, False]
    member = net.eval().members_of(net.encode(made.batch), made.batch)[4]
    values = net.encode(made.batch).static
    for layer in range(2):
        mapped = (values * tower.input_gains[layer][4]) @ tower.weights[layer][1] * tower.output_gains[layer][4]
        values = torch.nn.functional.silu(mapped + tower.biases[layer][4])
    expected = values @ tower.last_weights[4] + tower.last_biases[4] + net.heads.start
    torch.testing.assert_close(member, expected)


def test_scores_are_within_their_intervals_and_survival_falls() -> None:
    made = example(200, ALL, events=True)
    net = built(made, replicas=3)
    found = net(made.batch)
    assert (found.low <= found.score).all()
    assert (found.score <= found.high).all()
    assert (found.low[:, 0] < found.high[:, 0]).all()
    assert (found.survival.diff(dim=1) <= 0).all()
    torch.testing.assert_close(found.score[:, 1], 1 - found.survival[:, -1])
    torch.testing.assert_close(found.score, found.raw)
    single = built(made, replicas=1)(made.batch)
    assert torch.equal(single.low, single.high)


def test_large_tables_are_scored_in_parts() -> None:
    made = example(2500)
    net = built(made, pieces=4)
    head = net(taken(made.batch, torch.arange(100)))
    torch.testing.assert_close(net(made.batch).score[:100], head.score)


@pytest.mark.parametrize("events", ["type", "column"])
@pytest.mark.parametrize("embed_above", [0, 32])
def test_reasons_sum_up_to_the_difference_to_the_reference(events: str, embed_above: int) -> None:
    made = example(50, ALL, events=True)
    options = {"steps": 12, "events": events}
    net = built(made, reasons=options, pieces=3, embed_above=embed_above, sequence={"embed_above": embed_above})
    batch = made.batch
    with torch.no_grad():
        net.references.take(net.references.sums_of(net.encode(batch)))
    split = torch.full((50,), 2)
    found = attributions(net, batch, split)
    assert found.shape == (50, 4, len(net.reason_names))
    own = one_sequence_each(batch)
    with torch.no_grad():
        encoded = net.encode(own)
        means = [m.expand_as(v) for m, v in zip(net.references.like(encoded), encoded, strict=True)]
        use = net.may_speak(own, split == 0)
        gap = link_of(net, encoded, own, use) - link_of(net, type(encoded)(*means), own, use)
    torch.testing.assert_close(found.sum(-1), gap, rtol=0.02, atol=0.02)
    assert all(not part.training for part in net.modules())


@pytest.mark.parametrize("events", [True, False])
def test_reasons_do_not_depend_on_the_portions(events: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = example(50, ALL, events=events)
    net, split = built(made, embed_above=0), torch.arange(50) % 3
    whole = attributions(net, made.batch, split)
    monkeypatch.setattr(reasons, "EVENTS_AT_ONCE", 9)
    parts = list(reasons.portions(made.batch.seen))
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(50))
    assert len(parts) > 5
    assert all(len(part) == 1 or made.batch.seen[part].clamp(min=1).sum() <= 9 for part in parts)
    torch.testing.assert_close(attributions(net, made.batch, split), whole, rtol=1e-4, atol=1e-5)


def test_reasons_are_of_the_latest_position_of_a_sequence() -> None:
    batch = example(60, (CONVERSION,), events=True).batch
    twice = batch.some(torch.arange(60).repeat(2))
    twice = twice._replace(row=torch.arange(120), seen=torch.cat([batch.seen, (batch.seen - 1).clamp(min=0)]))
    asked = latest(twice)
    has = batch.sequence >= 0
    assert torch.equal(asked[:60], torch.where(has & (batch.seen == 0), asked[:60], True))
    assert asked[has.repeat(2)].sum() == len(batch.length)
    assert asked[~has.repeat(2)].all()


def test_reasons_name_what_moved_the_score_also_under_inference() -> None:
    made = example(200, (CONVERSION,), events=True)
    net = built(made, hidden=(), bootstrap="none", sequence={"hidden": 3})
    with torch.no_grad():
        for value in net.trunk.parameters():
            value.zero_()
        net.trunk.towers[0].weights[0][:, 1] = 2.0  # the second numeric feature alone
    with torch.inference_mode():
        place, push = top_reasons(attributions(net, made.batch, torch.full((200,), 2)), 3)
    assert (place[:, 0, 0] == 1).all()
    assert (place[:, 0, 1:] == -1).all()
    assert torch.equal(push[:, 0, 0] > 0, made.batch.numeric[:, 1] > made.stats.mean[1])


def test_a_types_events_push_under_its_name() -> None:
    made = example(80, (CONVERSION,), events=True, static=False)
    net = built(made, sequence={"hidden": 4})
    assert net.reason_names[:4] == ("type: (other)", "type: a", "type: b", "type: c")
    found = attributions(net, made.batch, torch.full((80,), 2))
    own = one_sequence_each(made.batch)
    where = torch.repeat_interleave(own.length)
    owner = (own.sequence >= 0).nonzero().flatten()[where]
    has = torch.zeros(80, 4, dtype=torch.bool)
    has[owner, own.event_categorical[:, 0]] = True
    assert not found[:, 0, :4][~has].any()
    assert (found[:, 0, :4][has] != 0).float().mean() > 0.95


def test_a_checkpoint_alone_rebuilds_the_net() -> None:
    made = example(60, ALL, events=True)
    options = {"structure": "mmoe", "experts": 2, "wide": True, "pieces": 3, "sequence": {"hidden": 4}}
    net = built(made, **options)
    schema = PropensitySchema.from_dict(made.schema.to_dict())
    other = PropensityNet(hidden=(8,), replicas=2, dropout=0.0, **options).build(schema).eval()
    other.load_state_dict(net.state_dict())
    for one, two in zip(net(made.batch), other(made.batch), strict=True):
        assert torch.equal(one, two)
    assert not any(value.isnan().any() for value in net.state_dict().values())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"folds": 0}, "folds=0"),
        ({"bootstrap": "x"}, "bootstrap='x'"),
        ({"structure": "x"}, "structure='x'"),
        ({"structure": "mmoe", "hidden": ()}, "hidden is empty"),
        ({"structure": "ple", "adapted": True}, "adapted"),
        ({"calibration": "x"}, "calibration='x'"),
        ({"task_weights": {"x": 1.0}}, "task_weights names 'x'"),
        ({"sequence": {"cell": "rnn"}}, "cell='rnn'"),
        ({"sequence": {"pool": "last"}}, "pool='last'"),
        ({"sequence": {"units": 3}}, "units"),
        ({"reasons": {"steps": 0}}, "steps=0"),
        ({"reasons": {"baseline": "x"}}, "baseline='x'"),
        ({"reasons": {"number": 1}}, "number"),
        ({"level": 1.5}, "level=1.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        PropensityNet(**options).build(example(20, events=True).schema)
