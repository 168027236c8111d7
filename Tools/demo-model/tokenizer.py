"""The demo model's tokenizer: byte-level BPE as Qwen2 has it, trained on the texts of the scenes."""
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE

from scenes import PROMPTS, Motion, Scene, question

PATTERN = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
HEAD = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n\n<|im_end|>\n"


def make(seed=1):
    r = random.Random(seed)
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    texts = []
    for _ in range(3000):
        scene = Scene(r, r.choice([1, 2]))
        q, a = question(r, scene)
        texts += [scene.caption(), PROMPTS["t2i"].format(scene.caption()), PROMPTS["vqa"].format(q), a, scene.things[0].label(),
                  PROMPTS["grounding"].format(scene.things[0].label()), PROMPTS["t2v"].format(Motion(r).caption()), "You are a helpful assistant.",
                  "system\n", "user\n", "assistant\n\n"]
    texts = [t.replace("<image>", "") for t in texts + list(PROMPTS.values()) * 50]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=640, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    return tokenizer


def encode(tokenizer, user):
    """Ids of a whole prompt, -200 at each `<image>`."""
    ids = []
    for index, part in enumerate((HEAD + user + TAIL).split("<image>")):
        ids += ([-200] if index else []) + tokenizer.encode(part).ids
    return ids
