"""A small LLaVE in PyTorch with the authors' tensor names: SigLIP tower, projector, Qwen2, one unit vector.

Written from the architecture alone, for training; llvconv is tested against transformers, not against this.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

TILE, PATCH = 36, 8                     # 4 x 4 patches of a tile; the last 4 pixels of a side are not seen, as 6 of 384 are
SIDE = TILE // PATCH
VISION = dict(hidden=128, layers=4, heads=4, mlp=344)
TEXT = dict(hidden=192, layers=3, heads=6, kv=2, mlp=448, theta=1e6)
GRID = [(TILE, TILE), (TILE, 2 * TILE), (2 * TILE, TILE), (2 * TILE, 2 * TILE)]   # width, height


class VisionLayer(nn.Module):
    def __init__(self):
        super().__init__()
        c, m = VISION["hidden"], VISION["mlp"]
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c, eps=1e-6), nn.LayerNorm(c, eps=1e-6)
        self.self_attn = nn.ModuleDict({n: nn.Linear(c, c) for n in ("q_proj", "k_proj", "v_proj", "out_proj")})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(c, m), "fc2": nn.Linear(m, c)})

    def forward(self, x):
        h = self.layer_norm1(x)
        q, k, v = (self.self_attn[n](h).unflatten(-1, (VISION["heads"], -1)).transpose(1, 2) for n in ("q_proj", "k_proj", "v_proj"))
        x = x + self.self_attn["out_proj"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x)), approximate="tanh"))


class VisionModel(nn.Module):
    def __init__(self):
        super().__init__()
        c = VISION["hidden"]
        self.embeddings = nn.ModuleDict({
            "patch_embedding": nn.Conv2d(3, c, PATCH, stride=PATCH), "position_embedding": nn.Embedding(SIDE * SIDE, c)})
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(VisionLayer() for _ in range(VISION["layers"]))})
        self.post_layernorm = nn.LayerNorm(c, eps=1e-6)  # stored, never used, as in the real checkpoints

    def forward(self, pixels):  # [views, 3, TILE, TILE]
        x = self.embeddings["patch_embedding"](pixels).flatten(2).transpose(1, 2) + self.embeddings["position_embedding"].weight
        for layer in self.encoder["layers"]:
            x = layer(x)
        return x


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class TextLayer(nn.Module):
    def __init__(self):
        super().__init__()
        h, m, kv = TEXT["hidden"], TEXT["mlp"], TEXT["hidden"] // TEXT["heads"] * TEXT["kv"]
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(h), RMSNorm(h)
        self.self_attn = nn.ModuleDict({
            "q_proj": nn.Linear(h, h), "k_proj": nn.Linear(h, kv), "v_proj": nn.Linear(h, kv), "o_proj": nn.Linear(h, h, bias=False)})
        self.mlp = nn.ModuleDict({
            "gate_proj": nn.Linear(h, m, bias=False), "up_proj": nn.Linear(h, m, bias=False), "down_proj": nn.Linear(m, h, bias=False)})

    def forward(self, x, cos, sin):
        h = self.input_layernorm(x)
        width = TEXT["hidden"] // TEXT["heads"]
        q, k, v = (self.self_attn[n](h).unflatten(-1, (-1, width)).transpose(1, 2) for n in ("q_proj", "k_proj", "v_proj"))
        q, k = (t * cos + torch.cat((-t[..., width // 2:], t[..., :width // 2]), -1) * sin for t in (q, k))
        k, v = (t.repeat_interleave(TEXT["heads"] // TEXT["kv"], 1) for t in (k, v))
        x = x + self.self_attn["o_proj"](F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        h = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](h)) * self.mlp["up_proj"](h))


class Llave(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        c, h = VISION["hidden"], TEXT["hidden"]
        self.model = nn.ModuleDict({
            "embed_tokens": nn.Embedding(vocabulary, h), "layers": nn.ModuleList(TextLayer() for _ in range(TEXT["layers"])),
            "norm": RMSNorm(h), "mm_projector": nn.Sequential(nn.Linear(c, h), nn.GELU(), nn.Linear(h, h)),
            "vision_tower": nn.ModuleDict({"vision_tower": nn.ModuleDict({"vision_model": VisionModel()})})})
        self.image_newline = nn.Parameter(torch.randn(h) * .02)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=.02 if "embed" in name else p[0].numel() ** -.5 * (.5 if "down" in name or "o_proj" in name else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def tensors(self):
        """Names as the authors have them."""
        return {("model." + k if k == "image_newline" else k): v for k, v in self.state_dict().items()}

    def forward(self, samples):
        """samples: dicts of `ids` (-200 for each visual input) and `visuals` (views [n,3,T,T], taps, weights).
        Returns [samples, hidden], unit vectors."""
        tower = self.model["vision_tower"]["vision_tower"]["vision_model"]
        visuals = [v for s in samples for v in s["visuals"]]
        features = []
        if visuals:
            projected = self.model["mm_projector"](tower(torch.cat([v["views"] for v in visuals]))).flatten(0, 1)
            first = 0
            source = torch.cat([projected, self.image_newline[None]])
            for v in visuals:
                taps = torch.where(v["taps"] < 0, len(projected), v["taps"] + first)
                features.append((source[taps] * v["weights"][..., None]).sum(1) if taps.shape[1] > 1 else source[taps[:, 0]])
                first += len(v["views"]) * SIDE * SIDE
        features = iter(features)
        rows = []
        embedded = self.model["embed_tokens"]
        for s in samples:
            parts, start = [], 0
            for at in [i for i, t in enumerate(s["ids"]) if t == -200] + [len(s["ids"])]:
                if at > start:
                    parts.append(embedded(torch.tensor(s["ids"][start:at])))
                if at < len(s["ids"]):
                    parts.append(next(features))
                start = at + 1
            rows.append(torch.cat(parts))
        # Rows of like length run together, so that little is padding.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        done = [self.decode([rows[i] for i in order[at:at + 32]]) for at in range(0, len(rows), 32)]
        return torch.cat(done)[torch.tensor(order).argsort()]

    def decode(self, rows):
        lengths = torch.tensor([len(r) for r in rows])
        x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        width = TEXT["hidden"] // TEXT["heads"]
        angle = torch.arange(x.shape[1])[:, None] * TEXT["theta"] ** (-torch.arange(0, width, 2) / width)
        cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()
        for layer in self.model["layers"]:
            x = layer(x, cos, sin)
        return F.normalize(self.model["norm"](x[torch.arange(len(rows)), lengths - 1]), dim=-1)


def hardness_weighted_loss(q, t, scale=50., alpha=9., same=None):
    """LLaVE's loss, symmetric: cross-entropy over scale * s + alpha * stopgrad(s) off the diagonal.
    `same[i, j]` marks targets equal to the right one, which are no negatives."""
    s = q @ t.T
    off = 1 - torch.eye(len(s))
    z = scale * s + off * alpha * s.detach()
    if same is not None:
        z = z.masked_fill(same, -1e4)
    labels = torch.arange(len(s))
    return (F.cross_entropy(z, labels) + F.cross_entropy(z.T, labels)) / 2
