"""What a training step of our models costs against the same network written directly in torch.

    python benchmarks/training_step.py

Both are given the same weights and the same batches and take turns, so that what slows one slows the other; the ratio
is that of the medians. The limit that we hold ourselves to is 1.15; beyond it the script ends with 1. Losses are
compared before anything is timed.
"""

import statistics
import time
from itertools import pairwise
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from hf_canary.models import config_file

LIMIT = 1.15


class PlainRecurrent(nn.Module):
    """Embedding, all layers in one call of torch's LSTM or GRU, linear head."""

    def __init__(self, config, cell):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.rnn = cell(config.embedding_size, config.hidden_size, config.num_hidden_layers, batch_first=True)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, ids):
        return self.head(self.rnn(self.embedding(ids))[0])

    def take(self, model):
        self.embedding.load_state_dict(model.model.embedding.state_dict())
        self.head.load_state_dict(model.lm_head.state_dict())
        for number, layer in enumerate(model.model.layers):
            for name, tensor in layer.cell.state_dict().items():
                self.rnn.state_dict()[name.removesuffix("0") + str(number)].copy_(tensor)


class PlainCNN(nn.Module):
    """Padded convolutions and rectifiers."""

    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        widths = [config.embedding_size] + [config.hidden_size] * config.num_hidden_layers
        pairs = pairwise(widths)
        self.convolutions = nn.ModuleList(nn.Conv1d(i, o, config.kernel_size) for i, o in pairs)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)
        self.before = config.kernel_size - 1

    def forward(self, ids):
        hidden = self.embedding(ids).transpose(1, 2)
        for convolution in self.convolutions:
            hidden = convolution(nn.functional.pad(hidden, (self.before, 0))).relu()
        return self.head(hidden.transpose(1, 2))

    def take(self, model):
        self.embedding.load_state_dict(model.model.embedding.state_dict())
        self.head.load_state_dict(model.lm_head.state_dict())
        for plain, layer in zip(self.convolutions, model.model.layers, strict=True):
            plain.load_state_dict(layer.convolution.state_dict())


class PlainWaveNet(nn.Module):
    """Padded dilated convolutions, gates, residuals and skips in a loop."""

    def __init__(self, config):
        super().__init__()
        size, layers = config.hidden_size, range(config.num_hidden_layers)
        self.embedding = nn.Embedding(config.vocab_size, size)
        self.gates = nn.ModuleList(nn.Conv1d(size, 2 * size, config.kernel_size, dilation=2**n) for n in layers)
        self.outs = nn.ModuleList(nn.Conv1d(size, 2 * size, 1) for _ in layers)
        self.mix = nn.Linear(size, size)
        self.head = nn.Linear(size, config.vocab_size)
        self.spans = [(config.kernel_size - 1) * 2**n for n in layers]

    def forward(self, ids):
        hidden, skips = self.embedding(ids).transpose(1, 2), 0.0
        for span, gates, out in zip(self.spans, self.gates, self.outs, strict=True):
            filters, gate = gates(nn.functional.pad(hidden, (span, 0))).chunk(2, dim=1)
            residual, skip = out(filters.tanh() * gate.sigmoid()).chunk(2, dim=1)
            hidden, skips = hidden + residual, skips + skip
        return self.head(self.mix(skips.relu().transpose(1, 2)).relu())

    def take(self, model):
        self.embedding.load_state_dict(model.model.embedding.state_dict())
        self.mix.load_state_dict(model.model.mix.state_dict())
        self.head.load_state_dict(model.lm_head.state_dict())
        for gates, out, layer in zip(self.gates, self.outs, model.model.layers, strict=True):
            gates.load_state_dict(layer.gates.convolution.state_dict())
            out.load_state_dict(layer.out.state_dict())


PLAIN = {
    "lstm-2x200": lambda config: PlainRecurrent(config, nn.LSTM),
    "gru-2x235": lambda config: PlainRecurrent(config, nn.GRU),
    "cnn-2x188": PlainCNN,
    "wavenet-2x188": PlainWaveNet,
    "wavenet-4x122": PlainWaveNet,
}


def seconds_of_steps(name: str, rounds: int, rows: int, tokens: int) -> tuple[float, float]:
    """(ours, plain) median seconds of a training step."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(config_file(name))
    ours = AutoModelForCausalLM.from_config(config).train()
    plain = PLAIN[name](config)
    plain.take(ours)

    def loss_of_ours(ids):
        return ours(input_ids=ids, labels=ids, use_cache=False).loss

    def loss_of_plain(ids):
        return nn.functional.cross_entropy(plain(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    ids = torch.randint(0, config.vocab_size, (rows, tokens + 1))
    torch.testing.assert_close(loss_of_ours(ids), loss_of_plain(ids))
    contestants = []
    for model, loss_of in ((ours, loss_of_ours), (plain, loss_of_plain)):
        contestants.append((torch.optim.RMSprop(model.parameters(), lr=1e-3), loss_of, []))
    for number in range(rounds + 2):
        ids = torch.randint(0, config.vocab_size, (rows, tokens + 1))
        for optimizer, loss_of, times in contestants if number % 2 else reversed(contestants):
            start = time.perf_counter()
            optimizer.zero_grad()
            loss_of(ids).backward()
            optimizer.step()
            if number >= 2:
                times.append(time.perf_counter() - start)
    return statistics.median(contestants[0][2]), statistics.median(contestants[1][2])


def main(
    rounds: Annotated[int, typer.Option(help="Timed steps of each.")] = 30,
    rows: Annotated[int, typer.Option(help="Rows of a batch.")] = 64,
    tokens: Annotated[int, typer.Option(help="Characters of a row.")] = 100,
) -> None:
    """Time training steps against the same networks in plain torch."""
    slow = []
    table = Table("model", "ours (ms)", "plain torch (ms)", "ratio", f"at most {LIMIT}")
    for name in PLAIN:
        ours, plain = seconds_of_steps(name, rounds, rows, tokens)
        if ours / plain > LIMIT:
            slow.append(name)
        verdict = "NO" if name in slow else "yes"
        table.add_row(name, f"{1000 * ours:.1f}", f"{1000 * plain:.1f}", f"{ours / plain:.3f}", verdict)
    console = Console()
    console.print(table)
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batches of {rows} x {tokens}")
    if slow:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
