"""The products and attentions of `llvconv devices --speed`, in PyTorch: medians of batches, timed with events."""
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
for rows, columns, outputs in [(3700, 896, 4864), (7290, 1152, 4304), (3700, 3584, 18944)]:
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
