"""Procedurally drawn scenes, and the texts that go with them: what the demo model is trained and tested on.

A scene holds one or two objects; an object has a colour, a shape and a size. Two scenes that differ in one attribute are
hard negatives of each other. Everything follows from a `random.Random`.
"""
import math

from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (235, 215, 50),
           "purple": (150, 50, 190), "orange": (245, 140, 30), "cyan": (60, 210, 220), "white": (245, 245, 245)}
SHAPES = ["circle", "square", "triangle", "cross", "ring", "diamond"]
SIZES = ["small", "large"]
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
# Width and height of images; more than 36 pixels a side take more than one tile.
ONE_OBJECT = [(36, 36), (36, 36), (44, 36), (36, 48), (72, 72)]
TWO_WIDE = [(72, 36), (72, 48), (72, 72), (90, 50)]
TWO_TALL = [(36, 72), (48, 72), (72, 72), (50, 90)]


class Thing:
    def __init__(self, r):
        self.colour, self.shape, self.size = r.choice(list(COLOURS)), r.choice(SHAPES), r.choice(SIZES)

    def text(self):
        return f"{self.size} {self.colour} {self.shape}"

    def label(self):
        return f"{self.colour} {self.shape}"

    def vary(self, r, attribute=None):
        """Another thing that differs in one attribute."""
        other = Thing(r)
        attribute = attribute or r.choice(["colour", "shape", "size"])
        for name in ("colour", "shape", "size"):
            setattr(other, name, getattr(self, name))
        choices = {"colour": list(COLOURS), "shape": SHAPES, "size": SIZES}[attribute]
        setattr(other, attribute, r.choice([c for c in choices if c != getattr(self, attribute)]))
        return other


class Scene:
    """One thing, or two with a relation of the first to the second."""

    # How often `vary` turns the relation round; as often as it changes each thing when None.
    relation_share = None

    def __init__(self, r, count):
        self.things = [Thing(r) for _ in range(count)]
        while count == 2 and self.things[0].label() == self.things[1].label():
            self.things[1] = Thing(r)
        self.relation = r.choice(list(RELATIONS)) if count == 2 else None

    def caption(self):
        if self.relation is None:
            return f"a {self.things[0].text()}"
        return f"a {self.things[0].text()} {self.relation} a {self.things[1].text()}"

    def vary(self, r):
        """Another scene that differs in one attribute of one thing, or in the relation."""
        other = Scene.__new__(Scene)
        other.things, other.relation = list(self.things), self.relation
        if self.relation and self.relation_share is not None:
            which = len(self.things) if r.random() < self.relation_share else r.randrange(len(self.things))
        else:
            which = r.randrange(len(self.things) + (1 if self.relation else 0))
        if which == len(self.things):
            swap = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
            other.relation = swap[self.relation]
        else:
            other.things[which] = self.things[which].vary(r)
        if len(other.things) == 2 and other.things[0].label() == other.things[1].label():
            return self.vary(r)
        return other

    def draw(self, r):
        """The image, and the box of each thing in it."""
        if self.relation is None:
            width, height = r.choice(ONE_OBJECT)
            unit = min(width, height)
            centres = [(width / 2 + r.uniform(-.12, .12) * width, height / 2 + r.uniform(-.12, .12) * height)]
        else:
            dx, dy = RELATIONS[self.relation]
            width, height = r.choice(TWO_WIDE if dx else TWO_TALL)
            unit = min(width, height, 40)
            centres = []
            for sign in (1, -1):
                x = width * (.5 + sign * dx * .25) + r.uniform(-.03, .03) * width
                y = height * (.5 + sign * dy * .25) + r.uniform(-.03, .03) * height
                centres.append((x, y))
        image = background(r, width, height)
        draw = ImageDraw.Draw(image)
        boxes = []
        for thing, centre in zip(self.things, centres):
            radius = unit * (r.uniform(.17, .21) if thing.size == "small" else r.uniform(.36, .42))
            paint(draw, thing, centre, radius)
            boxes.append((max(0, int(centre[0] - radius - 2)), max(0, int(centre[1] - radius - 2)),
                          min(width, int(centre[0] + radius + 3)), min(height, int(centre[1] + radius + 3))))
        return image, boxes


def background(r, width, height):
    level = r.randrange(10, 70)
    return Image.new("RGB", (width, height), (level + r.randrange(8), level + r.randrange(8), level + r.randrange(8)))


def paint(draw, thing, centre, radius):
    (x, y), q, colour = centre, radius, COLOURS[thing.colour]
    box = [x - q, y - q, x + q, y + q]
    if thing.shape == "circle":
        draw.ellipse(box, fill=colour)
    elif thing.shape == "square":
        draw.rectangle([x - q * .85, y - q * .85, x + q * .85, y + q * .85], fill=colour)
    elif thing.shape == "triangle":
        draw.polygon([(x, y - q), (x - q, y + q * .8), (x + q, y + q * .8)], fill=colour)
    elif thing.shape == "cross":
        w = q * .33
        draw.rectangle([x - q, y - w, x + q, y + w], fill=colour)
        draw.rectangle([x - w, y - q, x + w, y + q], fill=colour)
    elif thing.shape == "ring":
        draw.ellipse(box, outline=colour, width=max(2, round(q * .35)))
    else:
        draw.polygon([(x, y - q), (x + q * .75, y), (x, y + q), (x - q * .75, y)], fill=colour)


class Motion:
    """One thing that moves through a clip."""

    def __init__(self, r):
        self.thing, self.motion = Thing(r), r.choice(list(MOTIONS))

    def caption(self):
        return f"a {self.thing.text()} moves {self.motion}"

    def vary(self, r):
        other = Motion(r)
        other.thing, other.motion = self.thing, self.motion
        if r.random() < .5:
            other.motion = r.choice([m for m in MOTIONS if m != self.motion])
        else:
            other.thing = self.thing.vary(r)
        return other

    def draw(self, r, frames, size=72):
        """`frames` images of `size` pixels a side."""
        dx, dy = MOTIONS[self.motion]
        radius = size * (r.uniform(.12, .15) if self.thing.size == "small" else r.uniform(.22, .26))
        level = background(r, 1, 1).getpixel((0, 0))
        offset = r.uniform(-.15, .15) * size
        images = []
        for frame in range(frames):
            at = (frame / (frames - 1) - .5) * .5 * size
            image = Image.new("RGB", (size, size), level)
            x, y = size / 2 + dx * at + (offset if dx == 0 else 0), size / 2 + dy * at + (offset if dy == 0 else 0)
            paint(ImageDraw.Draw(image), self.thing, (x, y), radius)
            images.append(image)
        return images


def varied(r, count, make, group=4):
    """Things (scenes or motions) in groups that differ in one attribute each, all captions different."""
    found = {}
    while len(found) < count:
        base = make()
        for one in [base] + [base.vary(r) for _ in range(group - 1)]:
            found.setdefault(one.caption(), one)
    return list(found.values())[:count]


def question(r, scene):
    """A question about a scene, and its answer."""
    thing = r.choice(scene.things)
    others = [t for t in scene.things if t is not thing]
    kinds = []
    if all(t.shape != thing.shape for t in others):
        kinds += [(f"What color is the {thing.shape}?", thing.colour), (f"What size is the {thing.shape}?", thing.size)]
    if all(t.colour != thing.colour for t in others):
        kinds += [(f"What shape is the {thing.colour} object?", thing.shape)]
    if others:
        first, second = scene.things
        kinds += [(f"What is {scene.relation} the {second.label()}?", first.label())]
    return r.choice(kinds)


# The texts, in the wording of MMEB.
PROMPTS = {
    "classification": "<image>\nRepresent the given image for classification\n",
    "vqa": "<image>\nRepresent the given image with the following question: {}\n",
    "t2i": "Find me an everyday image that matches the given caption: {}",
    "image": "<image>\nRepresent the given image.\n",
    "i2t": "<image>\nFind an image caption describing the given everyday image.\n",
    "grounding": "<image>\nSelect the portion of the image that follows the language expressions: \"{}\"\n",
    "crop": "<image>\nRepresent the given cropped image of the object\n",
    "video": "<image>\nRepresent the given video.",
    "t2v": "Find me an video that matches the given caption: {}",
}
