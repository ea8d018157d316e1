"""The equations of the models once more: float64, one row, one token, one sum after the other, from the weights alone.

They share nothing with the package but the names of the parameters.
"""

import numpy as np
import torch


def weights(module):
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0.0)


def lstm_step(w, x, h, c):
    """One LSTM cell: `w` holds the parameters of one layer of `nn.LSTM`."""
    sums = w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"]
    i, f, g, o = np.split(sums, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(w, x, h):
    """One GRU cell, in the form of cuDNN."""
    r_x, z_x, n_x = np.split(w["weight_ih_l0"] @ x + w["bias_ih_l0"], 3)
    r_h, z_h, n_h = np.split(w["weight_hh_l0"] @ h + w["bias_hh_l0"], 3)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    return (1 - z) * np.tanh(n_x + r * n_h) + z * h


class Stack:
    """Recurrent layers with their states, fed one input at a time."""

    def __init__(self, layers, states=None):
        self.cells = [weights(layer.cell) for layer in layers]
        self.lstm = "LSTM" in type(layers[0].cell).__name__
        units = [layer.cell.hidden_size for layer in layers]
        self.states = states or [[np.zeros(u)] * (2 if self.lstm else 1) for u in units]

    def step(self, x):
        after = []
        for w, state in zip(self.cells, self.states, strict=True):
            state = list(lstm_step(w, x, *state)) if self.lstm else [gru_step(w, x, *state)]
            x = state[0]
            after.append(state)
        self.states = after
        return x


def logits(model, hidden):
    w = weights(model.lm_head)
    return np.array(hidden) @ w["weight"].T + w["bias"]


def recurrent_logits(model, ids):
    w, stack = weights(model.model), Stack(model.model.layers)
    return logits(model, [stack.step(w["embedding.weight"][token]) for token in ids])


def convolved(kernel, bias, inputs, at, dilation):
    """(outputs,) of a causal convolution at place `at`; `kernel` (outputs, inputs, width), `inputs` a list."""
    total, width = bias.copy(), kernel.shape[-1]
    for back in range(width):
        place = at - back * dilation
        if place >= 0:
            total += kernel[:, :, width - 1 - back] @ inputs[place]
    return total


def cnn_logits(model, ids):
    w = weights(model.model)
    hidden = [w["embedding.weight"][token] for token in ids]
    for number in range(model.config.num_hidden_layers):
        kernel, bias = (w[f"layers.{number}.convolution.{part}"] for part in ("weight", "bias"))
        hidden = [relu(convolved(kernel, bias, hidden, at, 1)) for at in range(len(ids))]
    return logits(model, hidden)


def wavenet_logits(model, ids):
    w = weights(model.model)
    hidden = [w["embedding.weight"][token] for token in ids]
    skips = np.zeros((len(ids), model.config.hidden_size))
    for number in range(model.config.num_hidden_layers):
        part = f"layers.{number}."
        kernel, bias = w[part + "gates.convolution.weight"], w[part + "gates.convolution.bias"]
        above = []
        for at in range(len(ids)):
            f, g = np.split(convolved(kernel, bias, hidden, at, 2**number), 2)
            z = np.tanh(f) * sigmoid(g)
            residual, skip = np.split(w[part + "out.weight"][:, :, 0] @ z + w[part + "out.bias"], 2)
            above.append(hidden[at] + residual)
            skips[at] += skip
        hidden = above
    return logits(model, relu(relu(skips) @ w["mix.weight"].T + w["mix.bias"]))


def translation_logits(model, source, target):
    """(target tokens, vocabulary) logits of one pair: thought vector, and attention where the model has it."""
    w = weights(model)
    embedding = w["encoder.embedding.weight"]
    encoder = Stack(model.encoder.layers)
    memory = np.array([encoder.step(embedding[token]) for token in source])
    decoder = Stack(model.decoder.layers, encoder.states)
    vector, outputs = np.zeros(model.config.hidden_size), []
    for token in target:
        if model.decoder.attention is None:
            vector = decoder.step(embedding[token])
        else:
            hidden = decoder.step(np.concatenate([embedding[token], vector]))
            scores = np.array([hidden @ w["decoder.attention.score.weight"] @ each for each in memory])
            shares = np.exp(scores - scores.max())
            context = shares / shares.sum() @ memory
            vector = np.tanh(w["decoder.attention.mix.weight"] @ np.concatenate([context, hidden]))
        outputs.append(w["lm_head.weight"] @ vector + w["lm_head.bias"])
    return np.array(outputs)


CAUSAL_LOGITS = {
    "lstm": recurrent_logits,
    "gru": recurrent_logits,
    "awd-lstm": recurrent_logits,
    "cnn": cnn_logits,
    "wavenet": wavenet_logits,
}


@torch.no_grad()
def slow_beam_search(log_probabilities, start, num_beams, steps):
    """The best sequence of `steps` tokens that a beam search without end token finds, and its log-probability.

    `log_probabilities(ids)` gives those of the token after `ids`, by a full pass.
    """
    beams = [(0.0, list(start))]
    for _ in range(steps):
        longer = []
        for score, ids in beams:
            following = log_probabilities(ids)
            longer += [(score + following[token].item(), [*ids, token]) for token in range(len(following))]
        beams = sorted(longer, key=lambda beam: -beam[0])[:num_beams]
    return beams[0][1], beams[0][0]
