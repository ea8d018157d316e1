"""Extract from any checkpoint, of the Hub or in a folder: what fills of a format does the model find likeliest?

    python examples/extract_from_hub.py HuggingFaceTB/SmolLM2-135M "My phone number is 555-{digit:4}." --top-k 5
    python examples/extract_from_hub.py ./my-checkpoint "The random number is {digit:9}" --rank 123456789

With an encoder-decoder, --source is what it reads. Weights are read from safetensors, and no code that comes with them
is run.
"""

import argparse

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

import hf_canary.models  # noqa: F401 (for checkpoints of the paper's models)
from hf_canary import CanaryFormat, exact_rank, extract


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Hub id or a folder")
    parser.add_argument("format", help="text with holes")
    parser.add_argument("--source", help="what an encoder-decoder reads")
    parser.add_argument("--context", help="text before the canary, such as a rendered chat template")
    parser.add_argument("--top-k", type=int, default=3)
    parser.add_argument("--rank", type=int, nargs="*", default=[], help="fills whose ranks to count")
    parser.add_argument("--max-seconds", type=float, default=600.0)
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    seq2seq = AutoConfig.from_pretrained(options.model).is_encoder_decoder
    auto = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    model = auto.from_pretrained(options.model, use_safetensors=True)

    format = CanaryFormat(options.format)
    where = {"source": options.source, "context": options.context, "max_seconds": options.max_seconds}
    found = extract(model, tokenizer, format, top_k=options.top_k, **where)
    for candidate in found.candidates:
        print(f"{candidate.log_perplexity:8.2f} bits  {candidate.text}")
    print(f"{found.proof}; {found.expanded:,} prefixes expanded, of {format.space_size:,} candidates")
    print(*found.worth, sep="\n")

    for fill, rank in zip(options.rank, exact_rank(model, tokenizer, format, options.rank, **where), strict=True):
        counted = f"{rank.low:,} to {rank.high:,}" if rank.rank is None else f"{rank.rank:,}"
        print(f"{format.render(fill)}: rank {counted}")


if __name__ == "__main__":
    main()
