"""Each kind of encoder-decoder costs what its own training says: Marian, mBART, NLLB, T5, BART, PEGASUS, two halves.

The oracle is the model's pass on the batches of its own preprocessing: tokens of the labels that are text, one by one.
"""

import functools
import io
import json
import math
import re
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
import pytest
import sentencepiece
import torch
import transformers as hf
from datasets import Dataset
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers import models as token_models

from hf_canary import (
    Canary,
    CanaryFormat,
    CanarySet,
    ExposureCallback,
    FormatLogitsProcessor,
    check_presence,
    exact_rank,
    extract,
    log_perplexity,
    measure_exposure,
)
from hf_canary.decoding import CheapestFills
from hf_canary.errors import ArgumentError, FormatError, ModelError
from hf_canary.extraction import iter_extract
from hf_canary.inference.cache_checks import CacheCheck
from hf_canary.measurement.checks import check_measurable
from hf_canary.tokenization.encoding import decoded, encode, special_ids, token_ids, token_namer, unknown_ids
from hf_canary.tree.asked.vocabulary import ENDING, Vocabulary
from tests.support import oracles
from tests.support.generating import beams

LETTERS = list("0123456789abcdefghijklmnopqrstuvwxyz.:")
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")  # by Marian's tokenizer

FORMAT = CanaryFormat("pin {digit:2}")
TEXTS = list(FORMAT.candidates())
BITS = 1e-3  # what other shapes of a batch bring
LN2 = math.log(2.0)
FILES = TemporaryDirectory()  # of tokenizers
SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
SIZES |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 48}
T5_SIZES = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
BERT_SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def fast(single, names):
    """Letters alone, with special tokens around a text."""
    tokens = [*names.values(), "▁", *LETTERS]
    tokenizer = Tokenizer(token_models.Unigram([(token, -1.0) for token in tokens], unk_id=tokens.index("<unk>")))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    used = [(token, tokens.index(token)) for token in single.split() if token != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(single, special_tokens=used)
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def ended():
    """As T5's and PEGASUS's."""
    return fast("$A </s>", {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"})


def enclosed():
    """As BART's and BERT's."""
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return fast("<s> $A </s>", names)


@functools.cache
def piece_model(lines):
    """What `sentencepiece` learns from some lines, in bytes."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*lines, " ".join(LETTERS)] * 20),
        model_writer=written,
        vocab_size=60,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def pieces_of(learnt):
    """Those that stand for text."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=learnt)
    return [pieces.id_to_piece(id) for id in range(3, len(pieces))]


def written(*contents):
    """The paths of new files; a tokenizer that is copied reads its own again."""
    folder = Path(mkdtemp(dir=FILES.name))
    for number, content in enumerate(contents):
        (folder / str(number)).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return [str(folder / str(number)) for number in range(len(contents))]


def marian_tokenizer(*, separate):
    """Its own, with one vocabulary or two, of other sizes."""
    learnt = [piece_model(("pin 7",)), piece_model(("pin 7", "pin 2277", "pin 14"))]
    learnt = learnt if separate else learnt[1:] * 2
    numbered = [{piece: id for id, piece in enumerate(["</s>", "<unk>", *pieces_of(each), "<pad>"])} for each in learnt]
    source, target, first, second = written(*learnt, *numbered)
    both = {"target_vocab_file": second, "separate_vocabs": True} if separate else {}
    return hf.MarianTokenizer(source, target, first, source_lang="en", target_lang="fr", **both)


def marian_reads_more():
    """Its own, with two vocabularies: that which is read is larger; in the other a 7 has the id of padding."""
    lines = tuple(f"pin {a}{b}{a} {b}{b} {a}{c}" for a in "012345" for b in "6789xyz" for c in "klmn")
    learnt = [piece_model(lines), piece_model(("pin 7é",))]
    read, written_pieces = (pieces_of(each) for each in learnt)
    written_pieces.remove("7")
    first = ["</s>", "<unk>", *read[:5], "<pad>", *read[5:]]
    second = ["</s>", "<unk>", "<pad>", *written_pieces[:4], "7", *written_pieces[4:]]
    assert len(first) > len(second) + 10
    assert first.index("<pad>") == second.index("7")
    numbered = [{piece: id for id, piece in enumerate(each)} for each in (first, second)]
    source, target, one, other = written(*learnt, *numbered)
    options = {"target_vocab_file": other, "separate_vocabs": True, "source_lang": "en", "target_lang": "fr"}
    return hf.MarianTokenizer(source, target, one, **options)


def marian_of_two(tokenizer):
    sizes = {"vocab_size": len(tokenizer.encoder), "decoder_vocab_size": len(tokenizer.target_encoder)}
    return marian(tokenizer, **sizes, share_encoder_decoder_embeddings=False, tie_word_embeddings=False)


def m2m100_tokenizer():
    """Its own, with a language in front of each text."""
    learnt = piece_model(("pin 2277",))
    numbered = {piece: id for id, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces_of(learnt)])}
    pieces, vocabulary = written(learnt, numbered)
    return hf.M2M100Tokenizer(vocabulary, pieces, src_lang="en", tgt_lang="fr")


def with_languages(kind):
    pieces = [(piece, -1.0) for piece in ("<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS)]
    if kind is hf.NllbTokenizer:
        vocab, languages = (
            {piece: id for id, (piece, _) in enumerate(pieces)},
            {"src_lang": "eng_Latn", "tgt_lang": "fra_Latn"},
        )
        return kind(vocab=vocab, merges=[], **languages)
    if kind is hf.MBartTokenizer:
        pieces += [(code, 0.0) for code in ("en_XX", "fr_XX", "ro_RO")]
    return kind(vocab=pieces, src_lang="en_XX", tgt_lang="fr_XX")


def marian(tokenizer, **options):
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    start = {"decoder_start_token_id": tokenizer.pad_token_id, "forced_eos_token_id": None}
    return hf.MarianMTModel(hf.MarianConfig(**{"vocab_size": len(tokenizer)} | SIZES | ids | start | options))


def bart_like(kind, tokenizer, **options):
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return kind(kind.config_class(**{"vocab_size": len(tokenizer)} | SIZES | ids | options))


def t5_like(kind, tokenizer):
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    start = {"decoder_start_token_id": tokenizer.pad_token_id}
    return kind(kind.config_class(vocab_size=len(tokenizer), **T5_SIZES, **ids, **start))


def two_halves(tokenizer):
    """Encoder and decoder of their own, with other numbers of positions."""
    half = functools.partial(hf.BertConfig, vocab_size=len(tokenizer), **BERT_SIZES)
    config = hf.EncoderDecoderConfig.from_encoder_decoder_configs(
        half(max_position_embeddings=64), half(max_position_embeddings=48, is_decoder=True, add_cross_attention=True)
    )
    config.decoder_start_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id
    config.eos_token_id = tokenizer.eos_token_id
    return hf.EncoderDecoderModel(config)


def bert_and_gpt2(tokenizer, reads=64, writes=48):
    """Halves of two families, of which the second looks at its source as it lies in memory."""
    config = hf.EncoderDecoderConfig.from_encoder_decoder_configs(
        hf.BertConfig(vocab_size=len(tokenizer), **BERT_SIZES, max_position_embeddings=reads),
        hf.GPT2Config(
            vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=writes, is_decoder=True,
            add_cross_attention=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        ),
    )  # fmt: skip
    config.decoder_start_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id
    config.eos_token_id = tokenizer.eos_token_id
    return hf.EncoderDecoderModel(config)


def sharp(make):
    """A random model for which it matters what stands before a token."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and "position" not in name:
                weights.mul_(1.5 if isinstance(model, hf.T5ForConditionalGeneration) else 10.0)
    return model.eval()


MBART, M2M = hf.MBartForConditionalGeneration, hf.M2M100ForConditionalGeneration
# By name: the tokenizer, the model of it, and what stands before each source.
KINDS = {
    "marian": (functools.partial(marian_tokenizer, separate=False), marian, ""),
    "marian, two vocabularies": (
        functools.partial(marian_tokenizer, separate=True),
        marian_of_two,
        "",
    ),
    "marian, which reads more": (marian_reads_more, marian_of_two, ""),
    "mbart": (lambda: with_languages(hf.MBartTokenizer), functools.partial(bart_like, MBART), ""),
    "mbart-50": (
        lambda: with_languages(hf.MBart50Tokenizer),
        functools.partial(bart_like, MBART, decoder_start_token_id=2),
        "",
    ),
    "nllb": (lambda: with_languages(hf.NllbTokenizer), functools.partial(bart_like, M2M, decoder_start_token_id=2), ""),
    "m2m100": (
        m2m100_tokenizer,
        lambda tokenizer: bart_like(M2M, tokenizer, vocab_size=1 + max(tokenizer.id_to_lang_token)),
        "",
    ),
    "t5 with a prefix": (ended, functools.partial(t5_like, hf.T5ForConditionalGeneration), "translate: "),
    "mt5": (ended, functools.partial(t5_like, hf.MT5ForConditionalGeneration), ""),
    "bart": (enclosed, functools.partial(bart_like, hf.BartForConditionalGeneration), ""),
    "pegasus": (
        ended,
        functools.partial(bart_like, hf.PegasusForConditionalGeneration, decoder_start_token_id=0),
        "",
    ),
    "two halves": (enclosed, two_halves, ""),
    "bert and gpt2": (enclosed, bert_and_gpt2, ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """By name: a model after a few steps of Seq2SeqTrainer, its tokenizer, and its collator."""
    folder = tmp_path_factory.mktemp("training")

    @functools.cache
    def train(name):
        make_tokenizer, make_model, prefix = KINDS[name]
        tokenizer = make_tokenizer()
        model = sharp(lambda: make_model(tokenizer))
        if name == "m2m100":  # what is set after loading is what it trains with
            model.config.decoder_start_token_id = tokenizer.bos_token_id
        rows = [(f"{prefix}pin {n}", f"pin {n * 7} pin"[: 9 + n % 3]) for n in range(24)]
        collator = hf.DataCollatorForSeq2Seq(tokenizer, model=model)
        options = {"max_steps": 3, "per_device_train_batch_size": 8, "learning_rate": 0.03, "save_strategy": "no"}
        hf.Seq2SeqTrainer(
            model=model,
            args=hf.Seq2SeqTrainingArguments(
                str(folder), use_cpu=True, report_to="none", disable_tqdm=True, dataloader_pin_memory=False, **options
            ),
            train_dataset=Dataset.from_list([preprocessed(tokenizer, *row) for row in rows]),
            data_collator=collator,
        ).train()
        return model.eval(), tokenizer, collator

    with torch.random.fork_rng():
        yield train


def preprocessed(tokenizer, source, target):
    """As the examples of transformers do it."""
    return dict(tokenizer(source, text_target=target))


@torch.no_grad()
def costs_in_training(model, tokenizer, collator, sources, targets, *, end=False):
    """Bits of each target by the model's pass on a batch of its own preprocessing: of labels that are text, and of the
    end. The pass's loss is the mean over all labels, those of special tokens too.
    """
    batch = collator([preprocessed(tokenizer, *pair) for pair in zip(sources, targets, strict=True)])
    output, labels = model(**batch), batch["labels"]
    each = -output.logits.double().log_softmax(-1).gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    assert output.loss.item() == pytest.approx(each[labels >= 0].mean().item(), abs=1e-4)
    unsummed = set(tokenizer.all_special_ids)
    if getattr(tokenizer, "separate_vocabs", False):
        unsummed = {tokenizer.target_encoder[token] for token in tokenizer.all_special_tokens}
    unsummed -= {tokenizer.eos_token_id} if end else set()
    unsummed |= {getattr(tokenizer, "cur_lang_code", -100), getattr(tokenizer, "cur_lang_code_id", -100), -100}
    unsummed |= set(tokenizer.convert_tokens_to_ids([c for c in ("fr_XX", "fra_Latn") if c in tokenizer.get_vocab()]))
    if isinstance(tokenizer, hf.M2M100Tokenizer):
        unsummed |= set(tokenizer.id_to_lang_token)
    is_text = ~torch.isin(labels, torch.tensor(sorted(unsummed)))
    return (each * is_text).sum(dim=1).numpy() / LN2


@pytest.mark.filterwarnings("ignore:Version v4.12.0")  # of two halves, at each loss
@pytest.mark.parametrize("name", KINDS)
def test_costs_are_those_of_training(trained, name):
    """Of texts with a source each and of all fills of one source, with the end and without; and so extraction, whose
    costs are of other walks, and ranks.
    """
    model, tokenizer, collator = trained(name)
    prefix = KINDS[name][2]
    sources, targets = (
        [f"{prefix}pin {n}" + " pin" * (n % 2) for n in range(5)],
        [f"pin {n}"[: 4 + n % 2] for n in range(5)],
    )
    one = f"{prefix}pin 7"
    for end in (False, True):
        expected = costs_in_training(model, tokenizer, collator, sources, targets, end=end)
        found = log_perplexity(model, tokenizer, targets, sources=sources, end=end)
        np.testing.assert_allclose(found, expected, atol=BITS)
        expected = costs_in_training(model, tokenizer, collator, [one] * 100, TEXTS, end=end)
        found = log_perplexity(model, tokenizer, TEXTS, sources=[one] * 100, end=end)
        np.testing.assert_allclose(found, expected, atol=BITS)
        best = extract(model, tokenizer, FORMAT, source=one, end=end, top_k=4)
        assert best.certified
        np.testing.assert_allclose([each.log_perplexity for each in best.candidates], np.sort(expected)[:4], atol=BITS)
        fills = np.argsort(expected)[[0, 1, 50]].tolist()
        for fill, rank in zip(fills, exact_rank(model, tokenizer, FORMAT, fills, source=one, end=end), strict=True):
            surely, perhaps = (int((expected <= expected[fill] + by).sum()) for by in (-BITS, BITS))
            assert surely <= rank.rank <= perhaps


def test_another_start_would_cost_otherwise(trained):
    """The test above can fail: behind the token that the config names, or names elsewhere, a text costs other bits."""
    for name in ("mbart", "m2m100"):
        model, tokenizer, collator = trained(name)
        (right,) = costs_in_training(model, tokenizer, collator, ["pin 7"], ["pin 12"])
        labels = tokenizer(text_target="pin 12", return_tensors="pt")["input_ids"]
        start = torch.tensor([[tokenizer.eos_token_id]])
        with torch.no_grad():
            logits = model(
                **tokenizer("pin 7", return_tensors="pt"), decoder_input_ids=torch.cat([start, labels[:, :-1]], dim=1)
            ).logits
        each = -logits.log_softmax(-1).gather(-1, labels[..., None])[0, :, 0] / LN2
        is_text = labels[0] > 3
        is_text &= ~torch.isin(labels[0], torch.tensor(tokenizer.convert_tokens_to_ids(["fr_XX", "fra_Latn"])))
        assert abs(each[is_text].sum().item() - right) > 10 * BITS


@pytest.mark.parametrize("start", [None, 2])
def test_mbart_is_measured_as_it_trains_whatever_its_config_says(trained, start, monkeypatch):
    """It takes the labels' last token: the language. Ranks and draws are walked behind it, too."""
    model, tokenizer, collator = trained("mbart")
    format = CanaryFormat(FORMAT.template, source="pin 7")
    canaries = CanarySet.draw(format, per_repetition=2, seed=0)
    costs = costs_in_training(model, tokenizer, collator, ["pin 7"] * 100, TEXTS)
    monkeypatch.setattr(model.config, "decoder_start_token_id", start)
    estimators = ["exact", "importance"]
    report = measure_exposure(model, tokenizer, canaries, estimators=estimators, num_references=5, num_draws=300)
    for each in report.exposures:
        fill = next(canary.fill for canary in canaries if canary.id == each.canary_id)
        assert each.log_perplexity == pytest.approx(costs[fill], abs=BITS)
        if each.estimator == "exact":
            assert each.value == pytest.approx(math.log2(100 / (costs <= costs[fill] + BITS / 10).sum()), abs=0.3)


class OtherwiseTrained(hf.BartForConditionalGeneration):
    """What it makes of labels begins with token 5, and what it says of them with another."""

    def forward(self, labels=None, decoder_input_ids=None, **options):
        if decoder_input_ids is None:
            decoder_input_ids = torch.cat([labels.new_full((len(labels), 1), 5), labels[:, :-1]], dim=1)
        return super().forward(decoder_input_ids=decoder_input_ids.clamp_min(0), **options)


def silently_wrong(kind):
    """A model whose training and whose config differ, and a tokenizer."""
    tokenizer = enclosed()
    return sharp(lambda: bart_like(kind, tokenizer, decoder_start_token_id=2)), tokenizer


def test_a_start_that_the_models_own_pass_does_not_have_is_an_error():
    """Before anything is measured, at every door; the error says four things, and of the text nothing."""
    model, tokenizer = silently_wrong(OtherwiseTrained)
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}", source="pin 7"), per_repetition=1, seed=0)
    ids = tokenizer("pin 7", return_tensors="pt")["input_ids"]
    search = CheapestFills(FORMAT, tokenizer, target=True)
    doors = [
        lambda: log_perplexity(model, tokenizer, ["pin 12"], sources=["pin 7"]),
        lambda: log_perplexity(model, tokenizer, TEXTS, sources=["pin 7"] * 100),
        lambda: extract(model, tokenizer, FORMAT, source="pin 7"),
        lambda: exact_rank(model, tokenizer, FORMAT, [12], source="pin 7"),
        lambda: measure_exposure(model, tokenizer, canaries, num_references=5),
        lambda: model.generate(ids, custom_generate=search, max_new_tokens=9),
    ]
    for door in doors:
        with pytest.raises(
            ModelError, match=r"model: expected labels .* own pass .*; got .* nats for .*\. Let "
        ) as raised:
            door()
        assert "pin" not in str(raised.value)


def test_a_decoder_that_looks_ahead_behind_its_encoders_output_is_refused():
    """FSMT masks what is to come only if it is given the source's ids: texts do not cost what they do in training."""
    tokenizer = enclosed()
    sizes = {"langs": ["en", "fr"], "src_vocab_size": len(tokenizer), "tgt_vocab_size": len(tokenizer)} | SIZES
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = hf.FSMTConfig(**sizes, **ids, decoder={"vocab_size": len(tokenizer)})
    model = sharp(lambda: hf.FSMTForConditionalGeneration(config))
    with pytest.raises(ModelError, match="own pass"):
        log_perplexity(model, tokenizer, ["pin 12"], sources=["pin 7"])


@pytest.mark.filterwarnings("ignore:Version v4.12.0")
def test_the_pass_on_labels_warns_of_nothing(trained):
    """What a model says of a loss is for those who train it: two halves say of each that it is computed anew."""
    model, tokenizer, _ = trained("two halves")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert log_perplexity(model, tokenizer, ["pin 12"], sources=["pin 7"])[0] > 0


def test_the_pass_on_labels_is_made_once(monkeypatch):
    """However many texts and sources there are, and walks."""
    tokenizer = ended()
    model = sharp(lambda: marian(tokenizer))
    forward, seen = model.forward, []

    def counted(**options):
        seen.append("labels" in options)
        return forward(**options)

    monkeypatch.setattr(model, "forward", counted)
    sources = [f"pin {n // 25}" for n in range(100)]
    log_perplexity(model, tokenizer, TEXTS, sources=sources)
    assert seen.count(True) == 1
    seen.clear()
    measure_exposure(
        model,
        tokenizer,
        CanarySet.draw(CanaryFormat("pin {digit:2}", source="pin 7"), per_repetition=1, seed=0),
        estimators=["exact", "importance"],
        num_references=20,
        num_draws=50,
    )
    assert seen.count(True) == 1


def test_a_model_that_takes_no_labels_is_measured_with_a_word_about_it(caplog):
    """Nothing can be compared; its config is believed."""

    class Unlabelled(hf.BartForConditionalGeneration):
        def forward(self, input_ids=None, attention_mask=None, encoder_outputs=None, decoder_input_ids=None,
                    past_key_values=None, use_cache=None):  # fmt: skip
            options = {"encoder_outputs": encoder_outputs, "past_key_values": past_key_values, "use_cache": use_cache}
            return super().forward(input_ids, attention_mask, decoder_input_ids, **options)

    tokenizer = enclosed()
    model, labelled = (
        sharp(lambda kind=kind: bart_like(kind, tokenizer, decoder_start_token_id=2))
        for kind in (Unlabelled, hf.BartForConditionalGeneration)
    )
    found, expected = (log_perplexity(each, tokenizer, ["pin 12"], sources=["pin 7"]) for each in (model, labelled))
    np.testing.assert_allclose(found, expected, atol=BITS)
    assert [record.message for record in caplog.records if "takes no labels" in record.message]


def test_a_model_that_makes_nothing_of_labels_is_asked_as_a_collator_asks_it():
    """Alone it would feed its decoder with the source, also where that is as long as the labels."""

    class FedWithSource(hf.BartForConditionalGeneration):
        def forward(self, labels=None, **options):
            return super().forward(**options)

    tokenizer = enclosed()
    kinds = (FedWithSource, hf.BartForConditionalGeneration)
    models = [sharp(lambda kind=kind: bart_like(kind, tokenizer, decoder_start_token_id=2)) for kind in kinds]
    for source in ("pin 34", "pin 7"):
        found, expected = (log_perplexity(model, tokenizer, ["pin 12"], sources=[source]) for model in models)
        np.testing.assert_allclose(found, expected, atol=BITS)


def test_without_a_start_nothing_is_measured():
    """Neither T5, which says so when it is asked, nor NLLB, whose config says it."""
    tokenizer = ended()
    t5 = t5_like(hf.T5ForConditionalGeneration, tokenizer)
    nllb = bart_like(M2M, tokenizer, decoder_start_token_id=2)
    del t5.config.decoder_start_token_id
    nllb.config.decoder_start_token_id = nllb.generation_config.decoder_start_token_id = None
    for model in (t5, nllb):
        with pytest.raises(ModelError, match=r"decoder_start_token_id in its config.*Set model\.config"):
            log_perplexity(model, tokenizer, ["pin 12"], sources=["pin 7"])


def test_a_start_that_would_depend_on_the_text_is_refused():
    """An mBART takes the last of the labels, and this tokenizer puts nothing behind: each fill would have its own."""
    tokenizer = fast("<s> $A", {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"})
    model = bart_like(MBART, tokenizer)
    for end in (False, True):
        with pytest.raises(ModelError, match="same token behind every text"):
            log_perplexity(model, tokenizer, ["pin 12"], sources=["pin 7"], end=end)
        with pytest.raises(ModelError, match="same token behind every text"):
            extract(model, tokenizer, FORMAT, source="pin 7", end=end)


def test_long_texts_are_compared_by_their_beginnings():
    """As many labels as the positions hold, with what the tokenizer puts behind them."""
    tokenizer = with_languages(hf.MBartTokenizer)
    model = sharp(lambda: bart_like(MBART, tokenizer, max_position_embeddings=24))
    longest = "pin 12" * 4  # with the token of its first space
    assert len(tokenizer(text_target=longest, add_special_tokens=False)["input_ids"]) == 24 + 1
    assert log_perplexity(model, tokenizer, [longest[:-1]], sources=["pin 7"])[0] > 0
    with pytest.raises(ModelError, match="at most 24"):
        log_perplexity(model, tokenizer, [longest], sources=["pin 7"])


@pytest.mark.filterwarnings("ignore:Version v4.12.0")
@pytest.mark.parametrize("name", ["t5 with a prefix", "mbart", "two halves"])
def test_other_ways_to_train_are_measured_alike(trained, name):
    """Also without a model in the collator: the decoder's inputs are then made by the pass itself."""
    model, tokenizer, _ = trained(name)
    expected = costs_in_training(model, tokenizer, hf.DataCollatorForSeq2Seq(tokenizer), ["pin 7"], ["pin 12"])
    assert log_perplexity(model, tokenizer, ["pin 12"], sources=["pin 7"]) == pytest.approx(expected, abs=BITS)


@pytest.mark.filterwarnings("ignore:Version v4.12.0")
def test_each_half_has_its_own_positions(trained):
    """64 for what is read, 48 for what is written."""
    model, tokenizer, collator = trained("two halves")
    sources = ["p" * count for count in (61, 62)]  # with a token each for the space and the ends
    expected = costs_in_training(model, tokenizer, collator, sources[:1], ["pin 12"])
    assert log_perplexity(model, tokenizer, ["pin 12"], sources=sources[:1]) == pytest.approx(expected, abs=BITS)
    with pytest.raises(ModelError, match=r"sources\[0\].*at most 64"):
        log_perplexity(model, tokenizer, ["pin 12"], sources=sources[1:])
    with pytest.raises(ModelError, match=r"source: expected at most 64"):
        extract(model, tokenizer, FORMAT, source=sources[1])
    with pytest.raises(ModelError, match="at most 48"):
        log_perplexity(model, tokenizer, sources[:1], sources=["pin 7"])


@pytest.mark.parametrize(("reads", "writes"), [(64, 40), (30, 64)])
def test_halves_of_two_families_have_their_own_positions(reads, writes):
    """Whichever has more: all of them are read and written, and a token more is refused."""
    tokenizer = enclosed()
    model = sharp(lambda: bert_and_gpt2(tokenizer, reads, writes))
    source, target = "p" * (reads - 3), "p" * (writes - 2)  # with tokens for the space and the ends
    expected = oracles.log_perplexity_slowly(
        model, tokenizer(target).input_ids[:-1], 1, tokenizer(source).input_ids
    )  # of the model's own pass, behind what the tokenizer puts there
    assert log_perplexity(model, tokenizer, [target], sources=[source]) == pytest.approx(expected, abs=BITS)
    with pytest.raises(ModelError, match=rf"sources\[0\]: expected at most {reads} tokens"):
        log_perplexity(model, tokenizer, [target], sources=[source + "p"])
    with pytest.raises(ModelError, match=rf"texts\[0\]: expected at most {writes} tokens"):
        log_perplexity(model, tokenizer, [target + "p"], sources=[source])


@pytest.mark.filterwarnings("ignore:Version v4.12.0")
@pytest.mark.parametrize("name", ["bert and gpt2", "marian"])
def test_many_texts_of_one_source_are_read_without_a_cache(trained, name, monkeypatch, tmp_path):
    """Several rows behind one source, read anew: it is repeated for each, in a piece. So is it where a checkpoint asks
    what the model answers.
    """
    model, tokenizer, collator = trained(name)
    expected = costs_in_training(model, tokenizer, collator, ["pin 7"] * 100, TEXTS)
    best = extract(model, tokenizer, FORMAT, source="pin 7", checkpoint=tmp_path / "kept").candidates[0]
    assert best.log_perplexity == pytest.approx(expected.min(), abs=BITS)
    monkeypatch.setattr(CacheCheck, "_can_fork", False)
    np.testing.assert_allclose(log_perplexity(model, tokenizer, TEXTS, sources=["pin 7"] * 100), expected, atol=BITS)
    best = extract(model, tokenizer, FORMAT, source="pin 7").candidates[0]
    assert best.log_perplexity == pytest.approx(expected.min(), abs=BITS)


def test_each_side_of_two_vocabularies_has_its_own_tokens():
    """By name, by what is special, and by what is unknown; transformers names all by one, and all special ones by the
    other.
    """
    tokenizer = marian_reads_more()
    seven, most = tokenizer.target_encoder["7"], len(tokenizer.encoder) - 1
    assert tokenizer.pad_token_id == seven
    assert token_namer(tokenizer)(most) == next(token for token, id in tokenizer.encoder.items() if id == most)
    assert (token_namer(tokenizer)(seven), token_namer(tokenizer, target=True)(seven)) == ("<pad>", "7")
    assert special_ids(tokenizer) == {0, 1, seven}
    assert special_ids(tokenizer, target=True) == {0, 1, 2}
    assert unknown_ids(tokenizer) == unknown_ids(tokenizer, target=True) == {1}
    for target in (False, True):
        ids = token_ids(tokenizer, ["pin 77 x"], target=target)[0]
        assert decoded(tokenizer, ids, target=target).strip() == "pin 77 x"
    vocabulary = Vocabulary(tokenizer, target=True)  # of a tree that asks
    assert vocabulary.trie["7"][ENDING] == [seven]
    assert vocabulary.surfaces(tokenizer, "78")[0]["7"] == (("7",),)


def test_copies_are_found_by_their_own_side():
    """The source among what is read, the text among what is written, though a 7 there has the id of padding."""
    tokenizer = marian_reads_more()
    format = CanaryFormat("pin {digit:3}", source="a pin {digit:3}")
    canaries = CanarySet(
        [Canary(f"c{fill}", format, fill, fill + 100, copies) for fill, copies in ((777, 2), (170, 1), (123, 1))],
        seed=1,
    )
    rows = Dataset.from_list([{"en": f"pin {n} a", "fr": f"pin {n} b"} for n in range(12)])
    data = canaries.inject(rows, "fr", source_column="en")
    read = Dataset.from_list([preprocessed(tokenizer, row["en"], row["fr"]) for row in data])
    assert [each.live for each in check_presence(read, canaries, tokenizer)] == [2, 1, 1]
    prefixed = Dataset.from_list([preprocessed(tokenizer, "xyz: " + row["en"], row["fr"]) for row in data])
    found = check_presence(prefixed, canaries, tokenizer)
    assert [each.live for each in found] == [2, 1, 1]
    assert any("before the sources" in line for line in found.lines())
    mute = Dataset.from_list([preprocessed(tokenizer, "pin", row["fr"]) for row in data])
    assert [each.live for each in check_presence(mute, canaries, tokenizer)] == [0, 0, 0]


def test_other_texts_are_no_copies():
    """What would be left of another number without its sevens; another source, of letters that the decoder lacks."""
    tokenizer = marian_reads_more()
    beyond = [token for token, id in tokenizer.encoder.items() if id >= len(tokenizer.target_encoder)]
    mine, other = [letter for letter in beyond if letter.isalpha()][:2]
    canaries = CanarySet([Canary("one", CanaryFormat("pin {digit:3}", source=mine), 123, 456, 1)], seed=1)
    for source, target, live in ((mine, "pin 123", 1), (mine, "pin 1723", 0), (other, "pin 123", 0)):
        rows = Dataset.from_list([preprocessed(tokenizer, source, target)])
        assert [each.live for each in check_presence(rows, canaries, tokenizer)] == [live]


# What nobody can read.


@pytest.mark.parametrize("name", ["marian", "marian, which reads more", "nllb", "t5 with a prefix", "bart"])
def test_unknown_characters_of_a_source_are_an_error(trained, name):
    """As those of a target: two sources would be one to the model. The error names no text."""
    model, tokenizer, _ = trained(name)
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}", source="é {digit:2}"), per_repetition=1, seed=0)
    doors = {
        "U+00E0, U+00FB": lambda: log_perplexity(model, tokenizer, ["pin 1"] * 2, sources=["pin à.", "pin û."]),
        "U+00E9": lambda: measure_exposure(model, tokenizer, canaries),
        "U+00E8": lambda: extract(model, tokenizer, FORMAT, source="pin è"),
        "U+00EA": lambda: extract(model, tokenizer, FORMAT, source="pin", source_prefix="ê: "),
        "U+00EB": lambda: log_perplexity(model, tokenizer, ["pin 1"] * 9, sources=["pin ë"] * 9),
    }
    for characters, door in doors.items():
        with pytest.raises(ModelError, match=r"tokenizer: expected a tokenizer that can represent ") as raised:
            door()
        assert f"its unknown token for {characters}." in str(raised.value)


def test_all_sources_are_looked_at_before_a_training():
    """One vocabulary may know what the other does not: an entry that no canary has, and references will."""
    tokenizer = marian_reads_more()
    model = sharp(lambda: marian_of_two(tokenizer))
    format = CanaryFormat("pin {w}", source="{w}", spaces={"w": ["12", "34", *map(str, range(50, 90)), "é"]})
    assert log_perplexity(model, tokenizer, ["pin é"], sources=["12"])[0] > 0
    canaries = CanarySet([Canary("one", format, 0, 1, 1)], seed=0)
    with pytest.raises(ModelError, match=r"represent the source of a candidate; got its unknown token for U\+00E9"):
        check_measurable(model, tokenizer, canaries)


def test_what_a_tokenizer_puts_around_a_source_may_be_its_unknown_token():
    """As GPT-2's, which has one token for all that is special."""
    tokenizer = fast("$A <unk>", {"pad_token": "<pad>", "unk_token": "<unk>"})
    tokenizer.eos_token = "<unk>"
    assert tokenizer.unk_token_id == tokenizer("pin 7").input_ids[-1]
    model = sharp(lambda: marian(tokenizer))
    assert log_perplexity(model, tokenizer, ["pin 1"], sources=["pin 7"])[0] > 0
    with pytest.raises(ModelError, match=r"represent sources\[0\]; got its unknown token for U\+00E0"):
        log_perplexity(model, tokenizer, ["pin 1"], sources=["pin à"])


def test_what_only_the_tokenizers_model_calls_unknown_is_unknown():
    """Transformers need not be told of it: two texts would be one, silently."""
    inner = Tokenizer(token_models.WordLevel({"[U]": 0, "pin": 1, "7": 2, "8": 3}, unk_token="[U]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=inner)
    assert tokenizer.unk_token_id is None
    with pytest.raises(ModelError, match=r"represent texts\[1\]; got its unknown token for U\+0039"):
        encode(tokenizer, ["pin 8", "pin 9"])


def test_a_text_that_the_tokenizer_does_not_write_is_said_to_be_one(trained):
    """Marian's writes nothing for a space: that is what is wrong, and not what stands before it."""
    model, tokenizer, _ = trained("marian")
    for context in (None, "pin "):
        with pytest.raises(ModelError, match=r"one that writes a token for texts\[0\]; got one that writes none"):
            log_perplexity(model, tokenizer, [" "], sources=["pin"], context=context)


# What generate forces first.

FORCED = {"mbart-50": "fr_XX", "nllb": "fra_Latn", "bart": "<s>"}


@pytest.fixture(params=FORCED)
def forcing(request, trained, monkeypatch):
    """A model, its tokenizer, the token that generate forces, and the bits of all fills."""
    model, tokenizer, collator = trained(request.param)
    forced = tokenizer.convert_tokens_to_ids(FORCED[request.param])
    monkeypatch.setattr(model.generation_config, "forced_bos_token_id", forced)
    return model, tokenizer, forced, costs_in_training(model, tokenizer, collator, ["pin 7"] * 100, TEXTS)


def by_beams(model, tokenizer, processor, **options):
    """Texts and bits of all fills that a beam search finds, which keeps every one of them."""
    ids = tokenizer("pin 7", return_tensors="pt")["input_ids"]
    return read(tokenizer, beams(model, processor, ids, 100, **options))


def by_search(model, tokenizer, search, **options):
    ids = tokenizer("pin 7", return_tensors="pt")["input_ids"]
    options = {"return_dict_in_generate": True, "max_new_tokens": 20} | options
    return read(tokenizer, model.generate(ids, custom_generate=search, **options))


def read(tokenizer, output):
    texts = [text.strip() for text in tokenizer.batch_decode(output.sequences, skip_special_tokens=True)]
    return [text.removeprefix("fra_Latn") for text in texts], output.sequences_scores.numpy() / -LN2


@pytest.mark.parametrize("given", ["nothing", "decoder_input_ids", "forced_bos_token_id=None"])
def test_generate_with_a_forced_first_token_is_right_by_default(forcing, given):
    """Beams and the search find what scoring every fill finds, at its bits; the first token conditions."""
    model, tokenizer, forced, costs = forcing
    start = model.config.decoder_start_token_id
    options = {
        "nothing": {},
        "decoder_input_ids": {"decoder_input_ids": torch.tensor([[start, forced]])},
        "forced_bos_token_id=None": {"forced_bos_token_id": None},
    }[given]
    processor = FormatLogitsProcessor(FORMAT, tokenizer, target=True)
    search = CheapestFills(FORMAT, tokenizer, target=True, top_k=100)
    for texts, bits in (
        by_beams(model, tokenizer, processor, **options),
        by_search(model, tokenizer, search, **options),
    ):
        assert sorted(texts) == TEXTS
        np.testing.assert_allclose(bits, [costs[FORMAT.parse(text)] for text in texts], atol=BITS)
        assert (np.diff(bits) > -BITS).all()


def test_sampling_and_greedy_search_begin_with_it_too(forcing):
    """Whatever is chosen is a candidate behind the forced token."""
    model, tokenizer, forced, _ = forcing
    processor = FormatLogitsProcessor(FORMAT, tokenizer, target=True)
    ids = tokenizer(["pin 7", "pin 12 pin"], return_tensors="pt", padding=True)
    with torch.random.fork_rng():
        for options in ({"do_sample": False}, {"do_sample": True, "num_return_sequences": 3}):
            found = model.generate(**ids, logits_processor=[processor], max_new_tokens=20, **options)
            assert (found[:, 1] == forced).all()
            output = [tokenizer.decode(row, skip_special_tokens=True) for row in found]
            assert {text.removeprefix("fra_Latn").strip() for text in output} <= set(TEXTS)


def test_a_context_is_written_behind_it(forcing, trained):
    """It conditions, and is not summed."""
    model, tokenizer, _, _ = forcing
    expected = log_perplexity(model, tokenizer, [f" {text}" for text in TEXTS], sources=["pin 7"] * 100, context="pin")
    format = CanaryFormat(" pin {digit:2}")
    for find, kind, options in ((by_beams, FormatLogitsProcessor, {}), (by_search, CheapestFills, {"top_k": 100})):
        maker = kind(format, tokenizer, target=True, context="pin", **options)
        texts, bits = find(model, tokenizer, maker)
        fills = [format.parse(text.removeprefix("pin")) for text in texts]
        np.testing.assert_allclose(bits, expected[fills], atol=BITS)


def test_another_forced_token_is_refused(forcing):
    """As for another language than the tokenizer's: the candidates would all be impossible."""
    model, tokenizer, forced, _ = forcing
    doors = (
        (by_beams, FormatLogitsProcessor(FORMAT, tokenizer, target=True)),
        (
            by_search,
            CheapestFills(FORMAT, tokenizer, target=True),
        ),
    )
    for find, door in doors:
        with pytest.raises(
            ModelError, match=f"forced_bos_token_id: expected {forced}.*got 9.*forced_bos_token_id={forced}"
        ):
            find(model, tokenizer, door, forced_bos_token_id=9)


def test_a_canary_right_behind_the_start_is_refused(forcing):
    """Where the tokenizer puts a token before a text: neither a score of minus infinity nor another answer."""
    _, tokenizer, _, _ = forcing
    for kind in (FormatLogitsProcessor, CheapestFills):
        with pytest.raises(ArgumentError, match=r"prompt_length: expected 2 or more.*Leave it out"):
            kind(FORMAT, tokenizer, 1, target=True)


def test_a_forced_token_where_the_tokenizer_puts_none_is_refused(trained):
    """T5 has no language: generate would write one that no training has seen."""
    model, tokenizer, _ = trained("mt5")
    for find, kind in ((by_beams, FormatLogitsProcessor), (by_search, CheapestFills)):
        with pytest.raises(ModelError, match="forced_bos_token_id: expected None; got 9"):
            find(model, tokenizer, kind(FORMAT, tokenizer, target=True), forced_bos_token_id=9)


def test_a_decoders_prompt_that_begins_otherwise_is_refused(forcing):
    """The first of what stands before the canary is given, and is another."""
    model, tokenizer, _, _ = forcing
    start = model.config.decoder_start_token_id
    given = {"decoder_input_ids": torch.tensor([[start, 9]])}
    for find, kind in ((by_beams, FormatLogitsProcessor), (by_search, CheapestFills)):
        with pytest.raises(ModelError, match="decoder_input_ids: expected"):
            find(model, tokenizer, kind(FORMAT, tokenizer, target=True, context="pin"), **given)


def test_a_forced_end_is_not_taken_for_the_models(trained):
    """With end=True its bits count, and generate would give it 0 where max_new_tokens are over."""
    model, tokenizer, collator = trained("bart")
    processor = FormatLogitsProcessor(FORMAT, tokenizer, target=True, end=True)
    ids = tokenizer("pin 7", return_tensors="pt")["input_ids"]
    tokens = len(tokenizer(text_target="pin 12")["input_ids"])
    options = {"num_beams": 100, "num_return_sequences": 100, "length_penalty": 0.0, "logits_processor": [processor]}
    options |= {"return_dict_in_generate": True, "output_scores": True, "forced_eos_token_id": tokenizer.eos_token_id}
    with pytest.raises(ModelError, match=r"forced_eos_token_id.*Raise max_new_tokens"):
        model.generate(ids, max_new_tokens=tokens, **options)
    texts, bits = read(tokenizer, model.generate(ids, max_new_tokens=tokens + 1, **options))
    costs = costs_in_training(model, tokenizer, collator, ["pin 7"] * 100, TEXTS, end=True)
    np.testing.assert_allclose(bits, [costs[FORMAT.parse(text)] for text in texts], atol=BITS)


def test_a_start_that_generate_was_given_and_training_has_not_is_refused(trained):
    """For mBART that is its language, whatever generate starts with."""
    model, tokenizer, collator = trained("mbart")
    search = CheapestFills(FORMAT, tokenizer, target=True, top_k=100)
    language = tokenizer.convert_tokens_to_ids("fr_XX")
    with pytest.raises(ModelError, match=f"training, {language}; got 2.*decoder_start_token_id={language}"):
        by_search(model, tokenizer, search, decoder_start_token_id=2)
    texts, bits = by_search(model, tokenizer, search, decoder_start_token_id=language)
    costs = costs_in_training(model, tokenizer, collator, ["pin 7"] * 100, TEXTS)
    np.testing.assert_allclose(bits, [costs[FORMAT.parse(text)] for text in texts], atol=BITS)


def test_the_docs_show_one_that_runs(trained, capsys):
    """With a forced language, too; beams and the search print candidates."""
    text = (Path(__file__).parents[2] / "docs" / "extraction.md").read_text(encoding="utf-8")
    (block,) = (
        each for each in re.findall(r"```py(?:thon)?\n(.*?)```", text, flags=re.DOTALL) if "target=True" in each
    )
    for name in ("marian", "mbart-50"):
        model, tokenizer, _ = trained(name)
        exec(block, {"model": model, "tokenizer": tokenizer})
        printed = capsys.readouterr().out
        assert re.search(r"beams: .*mon code est \d\d</s>", printed)
        assert re.search(r"proven: .*mon code est \d\d\n", printed)


def test_a_causal_model_of_which_generate_forces_another_token_is_refused(tokenizer):
    """Behind a prompt of one token, too, a score of minus infinity for all candidates is not the model's."""
    model = oracles.small_model("gpt2", len(tokenizer))
    processor = FormatLogitsProcessor(FORMAT, tokenizer)
    prompt = torch.tensor([processor.prompt_ids[:1]])
    options = {"logits_processor": [processor], "max_new_tokens": 9, "do_sample": False}
    assert FORMAT.parse(tokenizer.decode(model.generate(prompt, **options)[0], skip_special_tokens=True)) >= 0
    with pytest.raises(ModelError, match="forced_bos_token_id: expected None; got 9"):
        model.generate(prompt, forced_bos_token_id=9, **options)


# Holes in what is fixed.


@pytest.mark.parametrize("argument", ["source", "context"])
@pytest.mark.parametrize("text", ["my number is {digit:4}.", "{mine}", "a {{b}} {luhn}", '{"a": {digit}}', "{{digit}"])
def test_a_hole_in_fixed_text_is_refused(trained, argument, text):
    """It would be read as its braces, and the answer called proven; the message does not repeat the text."""
    model, tokenizer, _ = trained("marian")
    format = CanaryFormat("pin {digit:2}", spaces={"mine": ["a", "b"]})
    options = {"source": "pin 7"} | {argument: text}
    for find in (extract, functools.partial(exact_rank, fills=[7]), iter_extract):
        with pytest.raises(FormatError, match=rf"{argument}: expected fixed text.*the hole {{\w+(:4)?}}\.") as raised:
            find(model, tokenizer, format, **options)
        assert "number" not in str(raised.value).split("got")[1].split(". ")[0]


def test_other_braces_are_text():
    """As they stand: unknown names, doubled ones, a lone brace."""
    for text in ("f{x} = {y:3}", "{{digit}}", "{", "}", "{digit", "{ digit }", "", None, "{digit:}"):
        FORMAT.check_fixed("source", text)


def test_a_hole_in_a_context_is_refused_where_canaries_are_measured(trained):
    """And in generate."""
    model, tokenizer, _ = trained("marian")
    canaries = CanarySet.draw(CanaryFormat("pin {digit:2}", source="pin 7"), per_repetition=1, seed=0)
    with pytest.raises(FormatError, match="context"):
        measure_exposure(model, tokenizer, canaries, context="pin {digit}")
    for kind in (FormatLogitsProcessor, CheapestFills):
        with pytest.raises(FormatError, match="context"):
            kind(FORMAT, tokenizer, target=True, context="pin {digit}")


# ---------------------------------------------------------------------------------------------- as they are trained


WITH_SOURCE = CanaryFormat("pin {digit:2}.", source="my pin {digit:2}.")


@pytest.mark.parametrize("prefix", ["", "translate: "])
@pytest.mark.parametrize("kind", ["marian, which reads more", "mbart", "nllb", "t5 with a prefix", "bart"])
def test_the_callback_measures_sources_as_preprocessing_makes_them(tmp_path, kind, prefix, caplog):
    """What preprocessing puts before each source is read from the rows: costs are those of the model's own pass on the
    rows of its training. A prefix that is in the source as well is there twice, and said.
    """
    make_tokenizer, make_model, _ = KINDS[kind]
    tokenizer = make_tokenizer()
    model = sharp(lambda: make_model(tokenizer))
    canaries = CanarySet.draw(WITH_SOURCE, repetitions=(1, 3), per_repetition=2, seed=0)
    rows = Dataset.from_list([{"en": f"pin {n}", "fr": f"pin {n}."} for n in range(12)])
    data = canaries.inject(rows, "fr", source_column="en")
    collator = hf.DataCollatorForSeq2Seq(tokenizer, model=model)
    callback = ExposureCallback(canaries, measure_at=[3], num_references=100)
    trainer = hf.Seq2SeqTrainer(
        model=model,
        args=hf.Seq2SeqTrainingArguments(
            str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, dataloader_pin_memory=False, max_steps=3,
            save_strategy="no", learning_rate=0.03,
        ),
        train_dataset=Dataset.from_list([preprocessed(tokenizer, prefix + row["en"], row["fr"]) for row in data]),
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    sources = [prefix + canary.source for canary in canaries]
    wanted = costs_in_training(model.eval(), tokenizer, collator, sources, [canary.text for canary in canaries])
    found = [each.log_perplexity for each in callback.report if each.estimator == "auto"]
    assert found == pytest.approx(wanted, abs=1e-3)
    assert [each.live for each in callback.presence] == [1, 1, 3, 3]
    assert any("before the sources" in line for line in callback.presence.lines()) == bool(prefix)
    by_hand = measure_exposure(
        model, tokenizer, canaries, num_references=100, bootstrap=0, source_prefix=prefix or None
    )
    assert [each.value for each in callback.report] == [each.value for each in by_hand]
