"""Learning-rate schedules against torch 2.13, and their edges."""

from __future__ import annotations

import math

import pytest

import fastlstm as fl

# torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=10)
ONE_CYCLE_10 = [
    0.0040000000000000036,
    0.052000000000000005,
    0.1,
    0.09504846320134738,
    0.0811745653949763,
    0.06112620219362893,
    0.03887419780637107,
    0.0188258346050237,
    0.004951936798652629,
    4e-07,
]
# OneCycleLR(0.5, total_steps=7, pct_start=0.4, div_factor=10, final_div_factor=100)
ONE_CYCLE_7 = [
    0.04999999999999999,
    0.31407083997505925,
    0.49721049884972585,
    0.4059665780142187,
    0.23158615912679054,
    0.06717029501050087,
    0.0005,
]
# CosineAnnealingLR from 0.2 with T_max=5, eta_min=0.01
COSINE_6 = [
    0.2,
    0.18185661446562001,
    0.13435661446562,
    0.07564338553437999,
    0.02814338553438,
    0.01,
]


def test_one_cycle_is_that_of_torch():
    schedule = fl.OneCycle(0.1)
    rates = [schedule(step, 10) for step in range(10)]
    assert rates == pytest.approx(ONE_CYCLE_10, rel=1e-12)
    other = fl.OneCycle(0.5, 7, pct_start=0.4, div_factor=10, final_div_factor=100)
    rates = [other(step) for step in range(7)]
    assert rates == pytest.approx(ONE_CYCLE_7, rel=1e-12)


def test_cosine_is_that_of_torch():
    schedule = fl.Cosine(0.2, final_lr=0.01)
    rates = [schedule(step, 6) for step in range(6)]
    assert rates == pytest.approx(COSINE_6, rel=1e-12)


def test_cosine_warms_up_linearly():
    schedule = fl.Cosine(1.0, warmup_steps=4, total_steps=9)
    rates = [schedule(step) for step in range(9)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.0, abs=1e-15)


def test_constant():
    assert fl.Constant(0.3)(12345, None) == 0.3


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("schedule", [fl.OneCycle(0.1), fl.Cosine(0.1)])
def test_short_runs_have_finite_rates(schedule, total):
    rates = [schedule(step, total) for step in range(total + 2)]
    assert all(0 <= rate <= 0.1 and math.isfinite(rate) for rate in rates)


@pytest.mark.parametrize("schedule", [fl.OneCycle(0.1), fl.Cosine(0.1)])
def test_unknown_total_is_named(schedule):
    with pytest.raises(ValueError, match="needs total_steps"):
        schedule(0, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fl.OneCycle(0.0), "max_lr must be finite and > 0"),
        (lambda: fl.OneCycle(0.1, 0), "total_steps must be at least 1"),
        (lambda: fl.OneCycle(0.1, pct_start=1.5), "pct_start must be finite"),
        (lambda: fl.Cosine(math.inf), "lr must be finite"),
        (lambda: fl.Cosine(0.1, warmup_steps=-1), "warmup_steps must be at least 0"),
        (lambda: fl.Constant(-1), "lr must be finite and >= 0"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
