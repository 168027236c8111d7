"""Encoders whose code is no part of transformers, as modules of torch whose parameters have the checkpoints' names.

Written from what other programs run: text-embeddings-inference (backends/candle/src/models/jina.rs, jina_code.rs,
nomic.rs, gte.rs), vLLM (bert_with_rope.py) and llama.cpp (src/models/bert.cpp, conversion/bert.py).
"""
import math

import torch
from torch import nn
from torch.nn.functional import gelu


class Table(nn.Module):
    """A module that holds others by name."""

    def __init__(self, /, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def attention(q, k, v, heads, mask, bias=None):
    batch, length, width = q.shape
    q, k, v = (x.view(batch, length, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
    if bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)


def rotated(x, heads, frequencies):
    batch, length, width = x.shape
    x = x.view(batch, length, heads, width // heads)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies[None]
    cosines, sines = (torch.cat([f(angles)] * 2, -1)[None, :, None] for f in (torch.cos, torch.sin))
    a, b = x.chunk(2, -1)
    return (x * cosines + torch.cat([-b, a], -1) * sines).reshape(batch, length, width)


def slopes(heads):
    """ALiBi's, of any number of heads (Press et al. 2022)."""
    whole = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
    return torch.tensor(first + [2 ** (-4 * (2 * i + 1) / whole) for i in range(heads - whole)])


class Encoder(nn.Module):
    """Token and type embeddings with a norm, then layers."""

    def forward(self, input_ids, attention_mask=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        x = self.embedded(input_ids)
        for layer in self.layers():
            x = layer(x, mask.bool())
        return x


class JinaBert(Encoder):
    """jina-embeddings-v2: ALiBi both ways, gated MLP. `is_code`: the layout with norms of queries and keys."""

    class Layer(nn.Module):
        def __init__(self, c, is_code):
            super().__init__()
            d, n = c["hidden_size"], c["intermediate_size"]
            norm = lambda: nn.LayerNorm(d, eps=c["layer_norm_eps"])
            own = dict(query=nn.Linear(d, d), key=nn.Linear(d, d), value=nn.Linear(d, d))
            if is_code:
                own |= dict(layer_norm_q=norm(), layer_norm_k=norm())
                self.mlp = Table(up_gated_layer=nn.Linear(d, 2 * n, bias=False), down_layer=nn.Linear(n, d))
                self.layer_norm_1, self.layer_norm_2 = norm(), norm()
            else:
                self.mlp = Table(gated_layers=nn.Linear(d, 2 * n, bias=False), wo=nn.Linear(n, d), layernorm=norm())
            self.attention = Table(self=Table(**own), output=Table(dense=nn.Linear(d, d), LayerNorm=norm()))
            self.heads, self.is_code = c["num_attention_heads"], is_code

        def forward(self, x, mask):
            own, output = self.attention.get_submodule("self"), self.attention.output
            q, k, v = own.query(x), own.key(x), own.value(x)
            if self.is_code:
                q, k = own.layer_norm_q(q), own.layer_norm_k(k)
            place = torch.arange(x.shape[1])
            bias = -(place[:, None] - place[None]).abs() * slopes(self.heads)[:, None, None]
            y = output.LayerNorm(output.dense(attention(q, k, v, self.heads, mask, bias)) + x)
            if self.is_code:
                y = self.layer_norm_1(y + x)
                up, gate = self.mlp.up_gated_layer(y).chunk(2, -1)
                return self.layer_norm_2(self.mlp.down_layer(up * gelu(gate)) + y)
            gate, up = self.mlp.gated_layers(y).chunk(2, -1)
            return self.mlp.layernorm(self.mlp.wo(gelu(gate) * up) + y)

    def __init__(self, config, is_code=False):
        super().__init__()
        self.config = c = dict(config, model_type="bert", architectures=["JinaBertModel"], position_embedding_type="alibi",
                               feed_forward_type="geglu", layer_norm_eps=1e-12)
        d = c["hidden_size"]
        self.embeddings = Table(word_embeddings=nn.Embedding(c["vocab_size"], d), token_type_embeddings=nn.Embedding(c["type_vocab_size"], d),
                                LayerNorm=nn.LayerNorm(d, eps=c["layer_norm_eps"]))
        self.encoder = Table(layer=nn.ModuleList(JinaBert.Layer(c, is_code) for _ in range(c["num_hidden_layers"])))

    def embedded(self, ids):
        e = self.embeddings
        return e.LayerNorm(e.word_embeddings(ids) + e.token_type_embeddings.weight[0])

    def layers(self):
        return self.encoder.layer


class NomicMoE(Encoder):
    """nomic-embed-text-v2-moe: every second layer has experts, of which each token goes through some."""

    class Experts(nn.Module):
        def __init__(self, c):
            super().__init__()
            d, n, count = c["n_embd"], c["n_inner"], c["num_experts"]
            self.router = Table(layer=nn.Linear(d, count, bias=False))
            self.experts = Table(mlp=nn.Module())
            for name in ("w1", "w2"):
                self.experts.mlp.register_parameter(name, nn.Parameter(torch.randn(count * n, d) / d**.5))
            self.experts.register_parameter("bias", nn.Parameter(torch.zeros(d)))
            self.count, self.top, self.n = count, c["moe_top_k"], n

        def forward(self, x):
            rows = x.reshape(-1, x.shape[-1])
            # The shares of the chosen are not made to sum to one.
            shares, chosen = self.router.layer(rows).softmax(-1).topk(self.top, dim=-1)
            result = torch.zeros_like(rows)
            w1, w2 = (w.view(self.count, self.n, -1) for w in (self.experts.mlp.w1, self.experts.mlp.w2))
            for expert in range(self.count):
                row, rank = (chosen == expert).nonzero(as_tuple=True)
                y = gelu(rows[row] @ w1[expert].T) @ w2[expert]
                result = result.index_add(0, row, y * shares[row, rank, None])
            return (result + self.experts.bias).view_as(x)

    class Layer(nn.Module):
        def __init__(self, c, has_experts):
            super().__init__()
            d = c["n_embd"]
            self.attn = Table(Wqkv=nn.Linear(d, 3 * d), out_proj=nn.Linear(d, d))
            self.mlp = NomicMoE.Experts(c) if has_experts else Table(fc1=nn.Linear(d, c["n_inner"]), fc2=nn.Linear(c["n_inner"], d))
            self.norm1, self.norm2 = (nn.LayerNorm(d, eps=c["layer_norm_epsilon"]) for _ in range(2))
            self.heads, width = c["n_head"], d // c["n_head"]
            self.frequencies = 1 / c["rotary_emb_base"] ** (torch.arange(0, width, 2, dtype=torch.float32) / width)

        def forward(self, x, mask):
            q, k, v = self.attn.Wqkv(x).chunk(3, -1)
            q, k = (rotated(y, self.heads, self.frequencies) for y in (q, k))
            x = self.norm1(self.attn.out_proj(attention(q, k, v, self.heads, mask)) + x)
            y = self.mlp(x) if isinstance(self.mlp, NomicMoE.Experts) else self.mlp.fc2(gelu(self.mlp.fc1(x)))
            return self.norm2(y + x)

    def __init__(self, config):
        super().__init__()
        self.config = c = dict(
            config, model_type="nomic_bert", architectures=["NomicBertModel"], activation_function="gelu", layer_norm_epsilon=1e-5, rotary_emb_base=10000,
            rotary_emb_fraction=1.0, rotary_emb_interleaved=False, rotary_emb_scale_base=None, prenorm=False, causal=False,
            qkv_proj_bias=True, mlp_fc1_bias=True, mlp_fc2_bias=True, moe_every_n_layers=2, max_trained_positions=2048)
        d = c["n_embd"]
        self.embeddings = Table(word_embeddings=nn.Embedding(c["vocab_size"], d), token_type_embeddings=nn.Embedding(c["type_vocab_size"], d))
        self.emb_ln = nn.LayerNorm(d, eps=c["layer_norm_epsilon"])
        self.encoder = Table(layers=nn.ModuleList(NomicMoE.Layer(c, index % 2 == 1) for index in range(c["n_layer"])))

    def embedded(self, ids):
        return self.emb_ln(self.embeddings.word_embeddings(ids) + self.embeddings.token_type_embeddings.weight[0])

    def layers(self):
        return self.encoder.layers


class GTE(Encoder):
    """gte-multilingual-base, gte-en-v1.5 (`new`) and snowflake-arctic-embed-m-v2.0 (`gte`)."""

    class Layer(nn.Module):
        def __init__(self, c):
            super().__init__()
            d, n = c["hidden_size"], c["intermediate_size"]
            self.attention = Table(qkv_proj=nn.Linear(d, 3 * d), o_proj=nn.Linear(d, d))
            self.mlp = Table(up_gate_proj=nn.Linear(d, 2 * n, bias=False), down_proj=nn.Linear(n, d))
            self.attn_ln, self.mlp_ln = (nn.LayerNorm(d, eps=c["layer_norm_eps"]) for _ in range(2))
            self.heads, width = c["num_attention_heads"], d // c["num_attention_heads"]
            base, divisor = c["rope_theta"], 1.0
            if c["rope_scaling"]:
                base, divisor = base * c["rope_scaling"]["factor"], c["rope_scaling"]["factor"] ** (2 / width)
            self.frequencies = 1 / base ** (torch.arange(0, width, 2, dtype=torch.float32) / width) / divisor

        def forward(self, x, mask):
            q, k, v = self.attention.qkv_proj(x).chunk(3, -1)
            q, k = (rotated(y, self.heads, self.frequencies) for y in (q, k))
            x = self.attn_ln(self.attention.o_proj(attention(q, k, v, self.heads, mask)) + x)
            up, gate = self.mlp.up_gate_proj(x).chunk(2, -1)
            return self.mlp_ln(self.mlp.down_proj(up * gelu(gate)) + x)

    def __init__(self, config):
        super().__init__()
        self.config = c = dict(config, architectures=["NewModel"], position_embedding_type="rope", hidden_act="gelu", layer_norm_type="layer_norm",
                               pack_qkv=True, logn_attention_scale=False, layer_norm_eps=1e-12)
        d = c["hidden_size"]
        tables = dict(word_embeddings=nn.Embedding(c["vocab_size"], d))
        if c["type_vocab_size"]:
            tables["token_type_embeddings"] = nn.Embedding(c["type_vocab_size"], d)
        self.embeddings = Table(**tables, LayerNorm=nn.LayerNorm(d, eps=c["layer_norm_eps"]))
        self.encoder = Table(layer=nn.ModuleList(GTE.Layer(c) for _ in range(c["num_hidden_layers"])))

    def embedded(self, ids):
        e = self.embeddings
        x = e.word_embeddings(ids)
        return e.LayerNorm(x + e.token_type_embeddings.weight[0] if self.config["type_vocab_size"] else x)

    def layers(self):
        return self.encoder.layer
