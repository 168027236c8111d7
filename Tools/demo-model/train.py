#!/usr/bin/env python3
"""Trains the demo model: Tools/demo-model/train.py OUT --minutes 60. Deterministic but for where the time limit falls:
--steps N gives the same steps on every run of one machine.

Needs: pip install torch tokenizers safetensors pillow==10.3.0 numpy
"""
import argparse
import math
import os
import random
import time

import torch
from PIL import ImageDraw

import tokenizer as tokens
import views
from model import TILE, Llave, hardness_weighted_loss
from scenes import COLOURS, PROMPTS, SHAPES, Motion, Scene, Thing, background, paint, question, varied

parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("--steps", type=int, default=2400)
parser.add_argument("--start", help="a checkpoint to go on from, with more weight on what stands where")
parser.add_argument("--tower-steps", type=int, default=900)
parser.add_argument("--seed", type=int, default=7)
parser.add_argument("--rate", type=float, default=1.2e-3)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
torch.manual_seed(options.seed)
torch.set_num_threads(options.threads)
torch.set_flush_denormal(True)
tokenizer = tokens.make()
FRAMES = 4


def text(user):
    return dict(ids=tokens.encode(tokenizer, user), visuals=[])


def picture(user, image):
    return dict(ids=tokens.encode(tokenizer, user), visuals=[views.image(image)])


def clip(user, frames):
    return dict(ids=tokens.encode(tokenizer, user), visuals=[views.video(frames)])


def batch(r, task, size):
    """Queries, targets, and a key for each target; equal keys are no negatives of each other."""
    queries, targets, keys = [], [], []
    if task in ("i2t", "t2i"):
        for scene in varied(r, size, lambda: Scene(r, 1 if r.random() < (.12 if options.start else .3) else 2)):
            image = scene.draw(r)[0]
            keys.append(scene.caption())
            if task == "i2t":
                queries.append(picture(PROMPTS["i2t"], image))
                targets.append(text(scene.caption()))
            else:
                queries.append(text(PROMPTS["t2i"].format(scene.caption())))
                targets.append(picture(PROMPTS["image"], image))
    elif task == "classification":
        seen = set()
        while len(queries) < min(size, 40):
            scene = Scene(r, 1)
            label = scene.things[0].label()
            if label in seen:
                continue
            seen.add(label)
            keys.append(label)
            queries.append(picture(PROMPTS["classification"], scene.draw(r)[0]))
            targets.append(text(label))
    elif task == "vqa":
        for _ in range(size):
            scene = Scene(r, r.choice([1, 2, 2]))
            asked, answer = question(r, scene)
            keys.append(answer)
            queries.append(picture(PROMPTS["vqa"].format(asked), scene.draw(r)[0]))
            targets.append(text(answer))
    elif task == "grounding":
        for _ in range(size // 2):
            scene = Scene(r, 2)
            image, boxes = scene.draw(r)
            for thing, box in zip(scene.things, boxes):
                keys.append(thing.text())
                queries.append(picture(PROMPTS["grounding"].format(thing.label()), image))
                targets.append(picture(PROMPTS["crop"], image.crop(box)))
    else:
        for motion in varied(r, size, lambda: Motion(r)):
            keys.append(motion.caption())
            queries.append(text(PROMPTS["t2v"].format(motion.caption())))
            targets.append(clip(PROMPTS["video"], motion.draw(r, FRAMES)))
    return queries, targets, keys


def pretrain_tower(model, steps, size=192):
    """Teaches the tower what is in a tile (the real family starts from a trained tower too): for every pair of colour and
    shape, whether some patch shows it. The classifier is thrown away."""
    tower = model.model["vision_tower"]["vision_tower"]["vision_model"]
    head = torch.nn.Sequential(torch.nn.LayerNorm(128), torch.nn.Linear(128, 128), torch.nn.GELU(), torch.nn.Linear(128, 14))
    optimizer = torch.optim.AdamW([*tower.parameters(), *head.parameters()], lr=1e-3, weight_decay=.02)
    r = random.Random(options.seed + 1)
    names = list(COLOURS) + SHAPES
    started = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 50) * (.05 + .95 * (1 + math.cos(math.pi * step / steps)) / 2)
        tiles, wanted = [], torch.zeros(size, 14)
        for row in range(size):
            image = background(r, TILE, TILE)
            thing = Thing(r)
            radius = r.uniform(5, 16)
            paint(ImageDraw.Draw(image), thing, (r.uniform(.3, .7) * TILE, r.uniform(.3, .7) * TILE), radius)
            wanted[row, names.index(thing.colour)] = wanted[row, names.index(thing.shape)] = 1
            tiles.append(views.tensor(image))
        # A mean over patches, so that every patch of the thing has to know what it is.
        logits = head(tower(torch.stack(tiles))).mean(1)
        loss = torch.nn.functional.cross_entropy(logits[:, :8], wanted[:, :8].argmax(1)) + torch.nn.functional.cross_entropy(
            logits[:, 8:], wanted[:, 8:].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.)
        optimizer.step()
        if step % 50 == 49:
            right = [(a.argmax(1) == b.argmax(1)).float().mean().item() for a, b in ((logits[:, :8], wanted[:, :8]), (logits[:, 8:], wanted[:, 8:]))]
            print(f"tower {step + 1:5} loss {loss.item():.3f}  colour {right[0]:.3f}  shape {right[1]:.3f}  {(time.time() - started) / (step + 1):.2f} s/step", flush=True)


def save(model, name):
    from safetensors.torch import save_file

    os.makedirs(options.out, exist_ok=True)
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in model.tensors().items()}, f"{options.out}/{name}", metadata={"format": "pt"})
    tokenizer.save(options.out + "/tokenizer.json")


def main():
    model = Llave(tokenizer.get_vocab_size())
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    if options.start:
        from safetensors.torch import load_file

        model.load_state_dict({("image_newline" if k == "model.image_newline" else k): v.float() for k, v in load_file(options.start).items()})
        Scene.relation_share = .5
    else:
        pretrain_tower(model, options.tower_steps)
    r = random.Random(options.seed)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    optimizer = torch.optim.AdamW([dict(params=decayed, weight_decay=.02), dict(params=[p for p in model.parameters() if p.dim() == 1], weight_decay=0)],
                                  lr=options.rate, betas=(.9, .98))
    if options.start:
        mix = ["i2t"] * 5 + ["t2i"] * 4 + ["classification", "grounding"] + ["vqa"] * 3 + ["video"] * 3
    else:
        mix = ["i2t"] * 4 + ["t2i"] * 3 + ["classification"] * 2 + ["vqa"] * 4 + ["grounding"] * 2 + ["video"] * 3
    started, recent = time.time(), {}
    for step in range(options.steps):
        share = step / options.steps
        rate = options.rate * min(1, (step + 1) / (30 if options.start else 100)) * (.02 + .98 * (1 + math.cos(math.pi * share)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        task = r.choice(mix) if step > 150 or options.start else r.choice(["classification", "i2t", "vqa"])
        queries, targets, keys = batch(r, task, 64)
        vectors = model(queries + targets)
        q, t = vectors[:len(queries)], vectors[len(queries):]
        same = torch.tensor([[a == b and i != j for j, b in enumerate(keys)] for i, a in enumerate(keys)])
        # Scale and hardness grow from gentle values: a random start sees nothing but noise at 50 and 9.
        ramp = 1 if options.start else min(1, share / .25)
        loss = hardness_weighted_loss(q, t, 15 + 35 * ramp, 9 * ramp, same)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
        with torch.no_grad():
            s = (q @ t.T).masked_fill(same, -1)
            right = (s.argmax(1) == torch.arange(len(s))).float().mean().item()
        recent.setdefault(task, []).append(right)
        if step % 50 == 49:
            shown = "  ".join(f"{k} {sum(v[-12:]) / len(v[-12:]):.3f}" for k, v in sorted(recent.items()))
            print(f"{step + 1:5} loss {loss.item():.3f}  {shown}  {(time.time() - started) / (step + 1):.2f} s/step", flush=True)
        if step % 200 == 199:
            save(model, "model.safetensors")
    save(model, "model.safetensors")


main()
