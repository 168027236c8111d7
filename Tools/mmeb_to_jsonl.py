#!/usr/bin/env python3
"""Makes the files that `llvconv eval` reads from MMEB's parquet files.

  Tools/mmeb_to_jsonl.py MMEB-eval/ IMAGES/ OUT/

MMEB-eval/ has a folder for each data set with test-*.parquet in it (columns qry_text, qry_img_path, tgt_text, tgt_img_path; the
first target is the right one); IMAGES/ is the unpacked images.zip. OUT/ gets a DATASET.jsonl for each. Candidates that several
queries share are written once. Needs: pip install pyarrow.
"""
import glob
import json
import os
import sys

import pyarrow.parquet as parquet

if len(sys.argv) != 4:
    sys.exit(__doc__)
source, images, out = sys.argv[1:]
images = os.path.abspath(images)
os.makedirs(out, exist_ok=True)


def item(text, path):
    """An image-only entry keeps MMEB's text, a text-only entry has no picture."""
    result = {}
    if text:
        result["text"] = text
    if path:
        result["images"] = [os.path.join(images, path)]
        if text and "<|image_1|>" not in text and "<image>" not in text:
            result["text"] = "<|image_1|>\n" + text
    return result


folders = [d for d in sorted(os.listdir(source)) if glob.glob(os.path.join(source, d, "*.parquet"))]
if not folders:
    sys.exit(f"no folder with parquet files in {source}")
for name in folders:
    names, lines = {}, []
    count = 0
    for file in sorted(glob.glob(os.path.join(source, name, "*.parquet"))):
        for row in parquet.read_table(file).to_pylist():
            ids = []
            for text, path in zip(row["tgt_text"], row["tgt_img_path"]):
                key = (text, path)
                if key not in names:
                    names[key] = f"c{len(names)}"
                    lines.append({"id": names[key], "candidate": item(text, path)})
                ids.append(names[key])
            lines.append({"id": f"q{count}", "query": item(row["qry_text"], row["qry_img_path"]), "candidates": ids})
            count += 1
    with open(os.path.join(out, name + ".jsonl"), "w") as target:
        target.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    print(f"{name}: {count} queries, {len(names)} candidates")
