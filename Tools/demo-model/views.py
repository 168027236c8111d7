"""Image to views and taps, for training: anyres with unpad and newlines, video with 2 x 2 bilinear pooling and rows' newlines."""
import math

import numpy as np
import torch
from PIL import Image

from model import GRID, SIDE, TILE


def tensor(image):
    x = np.asarray(image.convert("RGB").resize((TILE, TILE), Image.BICUBIC), np.float32) / 255
    return torch.from_numpy((x - .5) / .5).permute(2, 0, 1)


def choose(w0, h0):
    best, most, least = None, 0, 0
    for w, h in GRID:
        s = min(w / w0, h / h0)
        effective = min(int(w0 * s) * int(h0 * s), w0 * h0)
        waste = w * h - effective
        if best is None or effective > most or (effective == most and waste < least):
            best, most, least = (w, h), effective, waste
    return best


def image(picture):
    w0, h0 = picture.size
    W, H = choose(w0, h0)
    sw, sh = W / w0, H / h0
    size = (W, min(math.ceil(h0 * sw), H)) if sw < sh else (min(math.ceil(w0 * sh), W), H)
    canvas = Image.new("RGB", (W, H))
    canvas.paste(picture.resize(size, Image.BICUBIC), ((W - size[0]) // 2, (H - size[1]) // 2))
    gw, gh = W // TILE, H // TILE
    views = [tensor(picture)] + [tensor(canvas.crop((x * TILE, y * TILE, (x + 1) * TILE, (y + 1) * TILE)))
                                 for y in range(gh) for x in range(gw)]
    rows, columns = range(SIDE * gh), range(SIDE * gw)
    if w0 / h0 > len(columns) / len(rows):
        p = (len(rows) - int(h0 * (len(columns) / w0))) // 2
        rows = rows[p:len(rows) - p]
    else:
        p = (len(columns) - int(w0 * (len(rows) / h0))) // 2
        columns = columns[p:len(columns) - p]
    taps = list(range(SIDE * SIDE))
    for r in rows:
        taps += [(1 + r // SIDE * gw + c // SIDE) * SIDE * SIDE + r % SIDE * SIDE + c % SIDE for c in columns] + [-1]
    taps = torch.tensor(taps)[:, None]
    return dict(views=torch.stack(views), taps=taps, weights=torch.ones(taps.shape))


def video(frames):
    out = math.ceil(SIDE / 2)
    taps, weights = [], []
    axis = []
    for d in range(out):
        x = max((d + .5) * SIDE / out - .5, 0)
        axis.append((int(x), min(int(x) + 1, SIDE - 1), x - int(x)))
    for f in range(len(frames)):
        base = f * SIDE * SIDE
        for y0, y1, fy in axis:
            for x0, x1, fx in axis:
                taps.append([base + y0 * SIDE + x0, base + y0 * SIDE + x1, base + y1 * SIDE + x0, base + y1 * SIDE + x1])
                weights.append([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx])
            taps.append([-1] * 4)
            weights.append([1, 0, 0, 0])
    return dict(views=torch.stack([tensor(f) for f in frames]), taps=torch.tensor(taps), weights=torch.tensor(weights))
