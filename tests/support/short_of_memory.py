"""A model that runs out of memory, as often as a test wants it to."""

import torch


class ShortOfMemory:
    """A model's forward pass that takes no more than so many tokens, but for its first call."""

    def __init__(self, model, limit):
        self._forward, self.limit, self.called, self.refused = model.forward, limit, 0, 0

    def __call__(self, **options):
        self.called += 1
        ids = options.get("input_ids", options.get("decoder_input_ids"))
        if self.called > 1 and ids.numel() > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self._forward(**options)
