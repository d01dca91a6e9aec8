"""``python -m benchmarks.forecasting``: the window sampler and the batched ensemble against their peers.

* windows per CPU-second: :class:`WindowSource` against the training loader of GluonTS, on the monthly series of
  Tourism, both giving batches of 1024 windows of 90 + 18 values;
* step time: 18 members trained together as batched matrix products against the same 18 trained one by one, each
  with its own optimiser, for members from 32 to 512 units wide.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measure import interleave, print_comparison, print_heading, print_table, print_text
from core.config import TrainConfig
from core.train.hardware import keep_large_allocations
from core.train.optim import build_optimizer
from tasks.forecasting.config import DataConfig, GenericConfig
from tasks.forecasting.data.load import load_data
from tasks.forecasting.ensemble import Ensemble, EnsembleLearner
from tasks.forecasting.sampler import Member, WindowSource

LOOKBACK, HORIZON, BATCH = 90, 18, 1024
SIZES = ((32, 4, 128), (64, 4, 128), (128, 4, 256), (256, 4, 256), (512, 2, 512))
"""Width, blocks and batch of the members."""
PEER = "GluonTS 0.17, training loader of its torch estimators"
MEMBERS = """\
There is no bar. Wide members fill the CPU by themselves: batching wins nothing there and costs next to nothing. With
two threads in place of one the ratios are higher, up to 5.9.
"""
CPU = torch.device("cpu")


def gluonts_loader(series: list[np.ndarray]) -> Callable[[], object]:
    """Returns a function that draws one batch from GluonTS' training loader."""
    warnings.filterwarnings("ignore")
    import pandas as pd
    from gluonts.dataset.common import ListDataset
    from gluonts.itertools import Cached
    from gluonts.torch.model.simple_feedforward import SimpleFeedForwardEstimator

    data = ListDataset([{"start": pd.Period("2000-01", "M"), "target": x} for x in series], freq="M")
    estimator = SimpleFeedForwardEstimator(
        prediction_length=HORIZON, context_length=LOOKBACK, batch_size=BATCH, num_batches_per_epoch=10**9
    )
    module = estimator.create_lightning_module()
    # As the estimator's own `train`, with its cache of transformed series on.
    prepared = Cached(estimator.create_transformation().apply(data, is_train=True))
    batches = iter(estimator.create_training_data_loader(prepared, module))
    return lambda: next(batches)


def window_source(series: list[np.ndarray]) -> Callable[[], object]:
    """Returns a function that draws one batch from the flat-tensor sampler."""
    members = [Member(LOOKBACK, "mape", 0)]
    source = WindowSource(series, horizon=HORIZON, history=20, members=members, batch_size=BATCH, seed=0)
    batches = source.batches(0, CPU)
    return lambda: next(batches)


def step(learner: EnsembleLearner, batches: list[dict], config: TrainConfig) -> Callable[[], None]:
    """Returns a function that makes one optimiser step on prepared batches."""
    optimizer = build_optimizer(learner, config)
    cycle = itertools.cycle(batches)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        learner.loss_and_metrics(next(cycle))[0].backward()
        learner.clip_grad_norm(1.0)
        optimizer.step()

    return run


def ensembles(width: int, blocks: int, batch: int, series: list[np.ndarray]) -> dict[str, Callable[[], None]]:
    """Returns one step of 18 members together, and of the same 18 one by one."""
    config = TrainConfig()
    losses = ["smape", "mape", "mase"]

    def build(losses: list[str], repeats: int, batched: bool) -> tuple[EnsembleLearner, list[dict]]:
        model = GenericConfig(
            lookbacks=[2], losses=losses, repeats=repeats, blocks=blocks, width=width, batched=batched
        )
        ensemble = Ensemble(model, HORIZON)
        source = WindowSource(
            series, horizon=HORIZON, history=20, members=ensemble.members, batch_size=batch, seed=0
        )
        stream = source.batches(0, CPU)
        return EnsembleLearner(ensemble, 12), [next(stream) for _ in range(4)]

    together = step(*build(losses, 6, True), config)
    alone = [step(*build([loss], 1, False), config) for loss in losses for _ in range(6)]

    def one_by_one() -> None:
        for run in alone:
            run()

    return {"18 members together": together, "18 members one by one": one_by_one}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each contestant")
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it works, no figures")
    options = parser.parse_args()
    rounds, sizes = (1, SIZES[:1]) if options.quick else (options.rounds, SIZES)
    print_heading("Forecasting")
    keep_large_allocations()  # as every training does; the peer gains by it too
    series = load_data(DataConfig(groups=["Monthly"])).groups[0].history
    loaders = {"`WindowSource`": window_source(series), PEER: gluonts_loader(series)}
    times = interleave(loaders, rounds)
    title = f"Training windows: {BATCH} of {LOOKBACK} + {HORIZON} values from the monthly series of Tourism"
    print_comparison(title, "window", BATCH, times)
    rates = ", ".join(f"{name} {BATCH / cpu:,.0f}" for name, (cpu, _) in times.items())
    print_text(f"Windows per CPU-second: {rates}. There is no bar.")
    rows = []
    for width, blocks, batch in sizes:
        (cpu, wall), (cpu_alone, wall_alone) = interleave(
            ensembles(width, blocks, batch, series), rounds
        ).values()
        cells = (
            f"{1e3 * wall:.3g}",
            f"{1e3 * wall_alone:.3g}",
            f"{wall_alone / wall:.2g}",
            f"{cpu_alone / cpu:.2g}",
        )
        rows.append([f"{blocks} blocks x {width}, batch {batch}", *cells])
    title = "A training step of 18 members, as batched matrix products against one by one, each with its own fused Adam"
    columns = ["members", "together, wall ms", "one by one, wall ms", "ratio, wall", "ratio, CPU"]
    print_table(title, columns, rows)
    print_text(MEMBERS)


if __name__ == "__main__":
    main()
