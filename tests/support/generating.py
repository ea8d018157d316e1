"""Beam search as transformers does it, with a format over its scores."""


def beams(model, processor, prompt, count, **options):
    """Sequences of a beam search that keeps so many, and their scores."""
    return model.generate(
        prompt,
        logits_processor=[processor],
        num_beams=count,
        num_return_sequences=count,
        length_penalty=0.0,
        max_new_tokens=40,
        return_dict_in_generate=True,
        output_scores=True,
        do_sample=False,
        early_stopping=True,
        **options,
    )
