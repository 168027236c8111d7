#!/usr/bin/env python3
"""Draws the held-out scenes of the demo model and writes them with the files that `llvconv eval` and `verify` read.

  Tools/demo-model/heldout.py

Fills Tools/demo-model/heldout/: classification, vqa, i2t, t2i, grounding, video, and pairs.jsonl beside it. Among the 200 captions and images of
i2t and t2i, groups of four differ in one attribute each. Needs: pip install pillow, and ffmpeg.
"""
import json
import os
import random
import shutil
import subprocess

import numpy as np

from scenes import COLOURS, PROMPTS, SHAPES, SIZES, Motion, Scene, question, varied

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "heldout")
r = random.Random(20260101)
shutil.rmtree(FOLDER, ignore_errors=True)
os.makedirs(FOLDER + "/images")
os.makedirs(FOLDER + "/videos")


def save(image, name):
    image.save(f"{FOLDER}/images/{name}.png", optimize=True)
    return {"images": [f"images/{name}.png"]}


def write(name, task, candidates, queries):
    """candidates: id -> item. queries: item and ids, the right one first."""
    with open(f"{FOLDER}/{name}.jsonl", "w") as out:
        for id, item in candidates.items():
            out.write(json.dumps({"id": id, "candidate": item}) + "\n")
        for number, (query, ids) in enumerate(queries):
            out.write(json.dumps({"id": f"{name}-{number}", "task": task, "query": query, "candidates": ids}) + "\n")


def others(right, ids):
    return [right] + [i for i in ids if i != right]


scenes = varied(r, 200, lambda: Scene(r, 1 if r.random() < .3 else 2))
drawn = [scene.draw(r) for scene in scenes]
pictures = [save(image, f"scene-{n:03}") for n, (image, _) in enumerate(drawn)]

captions = {f"c{n}": {"text": s.caption()} for n, s in enumerate(scenes)}
write("i2t", "retrieval", captions, [({"text": PROMPTS["i2t"], **p}, others(f"c{n}", captions)) for n, p in enumerate(pictures)])
images = {f"i{n}": {"text": PROMPTS["image"], **p} for n, p in enumerate(pictures)}
write("t2i", "retrieval", images, [({"text": PROMPTS["t2i"].format(s.caption())}, others(f"i{n}", images)) for n, s in enumerate(scenes)])

answers = [*COLOURS, *SHAPES, *SIZES] + [f"{c} {s}" for c in COLOURS for s in SHAPES]
texts = {a: {"text": a} for a in answers}
asked = [question(r, s) for s in scenes]
write("vqa", "vqa", texts, [({"text": PROMPTS["vqa"].format(q), **p}, others(a, texts)) for p, (q, a) in zip(pictures, asked)])

labels = {f"{c} {s}": {"text": f"{c} {s}"} for c in COLOURS for s in SHAPES}
single = []
for n in range(100):
    scene = Scene(r, 1)
    single.append(({"text": PROMPTS["classification"], **save(scene.draw(r)[0], f"object-{n:03}")}, others(scene.things[0].label(), labels)))
write("classification", "classification", labels, single)

crops, owners, queries = {}, {}, []
for n, (scene, (image, boxes)) in enumerate(zip(scenes, drawn)):
    if len(scene.things) == 2 and len(crops) < 100:
        for k, (thing, box) in enumerate(zip(scene.things, boxes)):
            crops[f"g{n}-{k}"] = {"text": PROMPTS["crop"], **save(image.crop(box), f"crop-{n:03}-{k}")}
            owners[f"g{n}-{k}"] = (n, thing)
for id, (n, thing) in owners.items():
    # Crops of other things that the words would fit as well are no wrong answers.
    wrong = [i for i, (_, t) in owners.items() if t.label() != thing.label()]
    queries.append(({"text": PROMPTS["grounding"].format(thing.label()), **pictures[n]}, [id] + wrong))
write("grounding", "grounding", crops, queries)

motions = varied(r, 48, lambda: Motion(r))
with open(FOLDER + "/video.jsonl", "w") as out:
    for n, motion in enumerate(motions):
        frames = motion.draw(r, 4)
        size = frames[0].size
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", "3", "-i", "pipe:0",
                        "-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p", "-bitexact", f"{FOLDER}/videos/clip-{n:02}.mp4"],
                       input=b"".join(np.asarray(f).tobytes() for f in frames), check=True)
        clip = {"text": PROMPTS["video"], "video": f"videos/clip-{n:02}.mp4"}
        out.write(json.dumps({"id": f"video-{n}", "task": "video", "query": {"text": PROMPTS["t2v"].format(motion.caption())}, "positive": clip}) + "\n")
        motion.clip = clip



def beside(item):
    """The item as a file next to the folder names it."""
    out = {k: v for k, v in item.items() if k == "text"}
    out.update({"images": ["heldout/" + i for i in item["images"]]} if "images" in item else {"video": "heldout/" + item["video"]})
    return out


with open(FOLDER + "/../pairs.jsonl", "w") as out:
    for n, (scene, picture) in enumerate(zip(scenes, pictures)):
        near = [{"text": s.caption()} for m, s in enumerate(scenes) if m != n and m // 4 == n // 4]
        out.write(json.dumps({"id": f"scene-{n}", "query": beside({"text": PROMPTS["i2t"], **picture}), "positive": {"text": scene.caption()}, "negatives": near}) + "\n")
    for n, motion in enumerate(motions):
        out.write(json.dumps({"id": f"video-{n}", "query": {"text": PROMPTS["t2v"].format(motion.caption())}, "positive": beside(motion.clip)}) + "\n")
print(len(scenes), "scenes,", len(crops), "crops,", len(motions), "videos")
