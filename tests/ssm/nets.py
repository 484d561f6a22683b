"""Networks with nothing at its initial value, so that a forgotten term cannot hide."""

import numpy as np
import torch

from emp.model.build_ssm import TEMPERATURE, pack
from emp.model.ssm_config import SSMConfig
from emp.perception.normalise import INPUTS
from emp.train.network import Network

torch.set_num_threads(1)

DOMAINS = ("equity/nasdaq", "fx_fut/globex")
IMPLS = ("mamba2", "mamba3")


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


def tensors(net):
    return net.tensors() | {TEMPERATURE: temperatures()}


def packed(net):
    return pack(net.config, tensors(net), INPUTS, len(DOMAINS), "test")


def inputs(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, INPUTS)).astype(np.float32)
