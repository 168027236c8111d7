"""The products and attentions of `llvconv devices --speed` in PyTorch, and where transformers is there a picture of five views through a tower and
a 0.5B body of random weights in bf16: medians of batches, timed with events."""
import statistics

import torch


def milliseconds(body, repeats=20, batches=15):
    for _ in range(5):
        body()
    times = []
    for _ in range(batches):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            body()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / repeats)
    return statistics.median(times)


def show(name, time, products):
    print(f"{name:48}  {time:.3f} ms  {products / time / 1e9:.2f} TMAC/s", flush=True)


torch.manual_seed(1)
print(torch.cuda.get_device_name(), "torch", torch.__version__)
shapes = [(896, 4864, 3700), (1152, 4304, 7290), (3584, 18944, 3700)]
for rows, columns, outputs in [(rows, c, o) for c, o, most in shapes for rows in (64, most)]:
    products = rows * columns * outputs
    shape = f"{rows} × {columns} × {outputs}"
    x = torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(outputs, columns, device="cuda", dtype=torch.bfloat16)
    show(f"bf16  {shape}", milliseconds(lambda: torch.nn.functional.linear(x, w)), products)
    try:
        xi = torch.randint(-127, 128, (rows, columns), device="cuda", dtype=torch.int8)
        wi = torch.randint(-127, 128, (outputs, columns), device="cuda", dtype=torch.int8)
        show(f"_int_mm  {shape}", milliseconds(lambda: torch._int_mm(xi, wi.t())), products)
    except RuntimeError as error:
        print(f"_int_mm  {shape}: {str(error).splitlines()[0]}")
for name, views, tokens, heads, shared, width, causal in [("tower", 10, 729, 16, 16, 72, False), ("0.5B", 1, 3700, 14, 2, 64, True)]:
    q = torch.randn(views, heads, tokens, width, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(views, shared, tokens, width, device="cuda", dtype=torch.bfloat16).repeat_interleave(heads // shared, 1) for _ in "kv")
    products = views * tokens * tokens * heads * width * 2 / (2 if causal else 1)
    show(f"attention, {name}", milliseconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)), products)

try:
    from transformers import Qwen2Config, Qwen2Model, SiglipVisionConfig, SiglipVisionModel
except ImportError:
    print("transformers is missing: no picture end to end")
    raise SystemExit
tower = SiglipVisionModel(SiglipVisionConfig(hidden_size=1152, intermediate_size=4304, num_hidden_layers=26, num_attention_heads=16, image_size=384, patch_size=14))
body = Qwen2Model(Qwen2Config(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, vocab_size=1000))
tower, body = tower.eval().to("cuda", torch.bfloat16), body.eval().to("cuda", torch.bfloat16)
views = torch.randn(5, 3, 384, 384, device="cuda", dtype=torch.bfloat16)
tokens = torch.randn(1, 3700, 896, device="cuda", dtype=torch.bfloat16)
with torch.no_grad():
    both = lambda: (tower(pixel_values=views), body(inputs_embeds=tokens, use_cache=False))
    print(f"a picture of five views and 3,700 tokens, without the projector: {milliseconds(both, 3, 7):.2f} ms")
