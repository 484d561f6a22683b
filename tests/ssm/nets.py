"""Networks with nothing at its initial value, so that a forgotten term cannot hide."""

import numpy as np
import torch

from emp.core.records import HORIZONS
from emp.model.build_ssm import TEMPERATURE, pack
from emp.model.calibration import FLOOR, ISOTONIC, KINDS, KNOTS, QUARTILES
from emp.model.ssm_config import SSMConfig
from emp.perception.normalise import INPUTS
from emp.train.net.network import Network

torch.set_num_threads(1)

DOMAINS = ("equity/nasdaq", "fx_fut/globex")
IMPLS = ("mamba2", "mamba3")
SMALL = {"d_model": 16, "layers": 2, "d_state": 8, "headdim": 16, "attention_heads": 2, "window": 8}
"""Sizes of a network that trains in seconds."""


def network(impl, seed=0, **sizes):
    torch.manual_seed(seed)
    net = Network(SSMConfig(impl=impl, **sizes), INPUTS, DOMAINS)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("scale"):
                p.uniform_(0.2, 0.6)
            elif name.endswith("norm.weight"):
                p.uniform_(0.5, 1.5)
            elif name.startswith("heads"):
                p.normal_(0.0, 0.3)
            elif name.endswith(("attention.mixer.bias", "b_bias", "c_bias", "skip")):
                p.normal_()
    return net.eval()


def temperatures():
    return np.linspace(0.7, 1.6, 12, dtype=np.float32).reshape(2, 6)


def table(bend):
    """A rising table of both kinds: `bend` above 1 lowers small probabilities."""
    knots = np.linspace(0.0, 1.0, KNOTS) ** 1.5
    values = np.clip(np.stack([knots**bend, knots ** (1.0 / bend)]), FLOOR, 1.0 - FLOOR)
    return np.stack([np.broadcast_to(knots, values.shape), values], axis=1).astype(np.float32)


def calibration():
    """Temperatures everywhere, tables at two horizons of each head, and quartiles that follow in part."""
    isotonic = np.zeros((2, HORIZONS, KINDS, 2, KNOTS), np.float32)
    isotonic[0, 1], isotonic[0, 5] = table(1.3), table(0.8)
    isotonic[1, 0], isotonic[1, 4] = table(1.1), table(1.6)
    follow = np.linspace(0.2, 1.0, 2 * HORIZONS).reshape(2, HORIZONS)
    quartiles = np.stack([follow, 0.4 * (1.0 - follow)], axis=-1).astype(np.float32)
    return {TEMPERATURE: temperatures(), ISOTONIC: isotonic, QUARTILES: quartiles}


def tensors(net):
    return net.tensors() | calibration()


def packed(net):
    return pack(net.config, tensors(net), INPUTS, len(DOMAINS), "test")


def inputs(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, INPUTS)).astype(np.float32)
