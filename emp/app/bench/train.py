"""Events per second of training, beside DeepLOB, which looks at every event a hundred times."""

import json
import time
from typing import Any

import typer

from emp.app.terminal.console import make_console

app = typer.Typer()

BATCH = {"cpu": 64, "cuda": 1024}
"""Windows in a batch of DeepLOB."""


@app.command()
def train(
    rounds: int = typer.Option(3, min=1, help="rounds, interleaved; the best counts"),
    lanes: int = typer.Option(4, min=1, help="streams in a batch"),
    device: str = typer.Option("cpu", help="auto, cpu or cuda"),
    bf16: bool = typer.Option(False, help="projections in bfloat16"),
    fused: bool = typer.Option(
        False, "--fused", help="compile the kernels, as a long training on a GPU does"
    ),
    as_json: bool = typer.Option(False, "--json", help="print one JSON object as the last line"),
) -> None:
    """Time whole optimiser steps, losses and clipping included, on the same made-up events; one thread."""
    import torch

    from emp.train.fit.settings import pick_device

    device = pick_device(device)
    torch.set_num_threads(1)
    console = make_console()
    steps: dict[str, Any] = {"mamba3": _sequence_step("mamba3", lanes, device, bf16, fused)}
    with console.status("training") as status:
        steps["mamba3"]()
        peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None  # of no other network
        steps["mamba2"] = _sequence_step("mamba2", lanes, device, bf16, fused)
        steps["deeplob"] = _deeplob_step(device)
        best = dict.fromkeys(steps, 0.0)
        for name in ("mamba2", "deeplob"):
            steps[name]()
        for number in range(rounds):
            for name, step in steps.items():
                status.update(f"training {name}, round {number + 1} of {rounds}")
                began = time.perf_counter()
                events = step()
                best[name] = max(best[name], events / (time.perf_counter() - began))
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    result = {
        "device": device,
        "gpu": gpu,
        "peak_gib": None if peak is None else round(peak, 2),
        "lanes": lanes,
        "bf16": bf16,
        "fused": fused,
        "events_per_s": round(best["mamba3"]),
        "mamba2_events_per_s": round(best["mamba2"]),
        "peers": {
            "deeplob": {
                "events_per_s": round(best["deeplob"]),
                "ratio": round(best["mamba3"] / best["deeplob"], 2),
            }
        },
    }
    for name, speed in best.items():
        console.print(f"{name:<8} {speed:>10,.0f} events/s trained on")
    if gpu is not None:
        console.print(f"on {gpu}, at most {peak:.1f} GiB of its memory")
    if as_json:
        print(json.dumps(result))


def _sequence_step(impl: Any, lanes: int, device: str, bf16: bool, fused: bool) -> Any:
    """A step of `emp.train.fit.loop` on one window of `lanes` streams; returns the events it trained on."""
    import torch

    from emp.model.ssm_config import SSMConfig
    from emp.perception.normalise import INPUTS
    from emp.train.data.chunks import WINDOW, Sequence
    from emp.train.fit.config import TrainConfig
    from emp.train.fit.loop import Trainer
    from emp.train.fit.losses import Scales
    from emp.train.net.network import Network

    torch.manual_seed(0)
    network = Network(SSMConfig(impl=impl), INPUTS, ("shared", "equity/nasdaq")).to(device)
    one = torch.ones(2, 6, device=device)
    streams = [_synthetic_stream(lane) for lane in range(lanes)]
    config = TrainConfig(lanes=lanes, bf16=bf16)
    trainer = Trainer(network, streams, Scales(one, 2.0 * one, 5.0 * one), config, fused=fused)
    group = [Sequence(lane, 0, WINDOW, 0, False) for lane in range(lanes)]

    def step() -> int:
        trainer.train_group(group)
        if device == "cuda":
            torch.cuda.synchronize()
        return lanes * WINDOW

    return step


def _synthetic_stream(seed: int) -> Any:
    import numpy as np

    from emp.core.ids import generator
    from emp.core.records import HORIZONS
    from emp.perception.normalise import INPUTS
    from emp.perception.targets import CLASSES, classes
    from emp.train.data.auxiliary import auxiliary_labels
    from emp.train.data.chunks import WINDOW, Stream

    rng = generator(seed, "bench train")
    x = rng.normal(size=(WINDOW, INPUTS)).astype(np.float32)
    delta_hat = rng.normal(size=(WINDOW, HORIZONS)).astype(np.float32)
    bid, segment = np.cumsum(rng.integers(-1, 2, WINDOW)), np.zeros(WINDOW, np.int64)
    return Stream(
        name=f"made up {seed}",
        domain=1,
        broader=(0,),
        x=x,
        delta_hat=delta_hat,
        labels=classes(delta_hat, np.full(HORIZONS, 0.3)),
        use=np.ones(WINDOW, bool),
        segment=segment,
        pos_weight=np.ones((1, HORIZONS, CLASSES), np.float32),
        day=segment,
        weight=1.0,
        auxiliary=auxiliary_labels(bid, bid + 1, x, segment),
    )


def _deeplob_step(device: str) -> Any:
    """Four batches of DeepLOB; returns the events (windows) it trained on."""
    import torch

    from emp.train.net.deeplob import FEATURES, WINDOW, DeepLOB

    torch.manual_seed(0)
    batch = BATCH[device]
    network = DeepLOB().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    books = torch.randn(batch + WINDOW, FEATURES, device=device)
    windows = books.unfold(0, WINDOW, 1)[:batch].transpose(1, 2).contiguous()
    labels = torch.randint(0, 3, (batch, 6), device=device)

    def step() -> int:
        for _ in range(4):
            loss = torch.nn.functional.cross_entropy(network(windows).flatten(0, 1), labels.flatten())
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return 4 * batch

    return step
