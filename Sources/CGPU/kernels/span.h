// What a block of an attention works on: `count` queries from row `query` on, the first of which is number `first` of its sequence. It sees
// rows 0 ..< prefix, and the sequence's own from `start` on, `keys` of them or, where causal, as many as it is far into the sequence.
#pragma once
#include "dialect.h"

struct Span {
  int query, count, first, prefix, start, keys, result, causal;
  // The sequence's own stretch of packed keys, and where it starts among them; the prefix is stretch 0 and starts at 0.
  int stretch, place;

  DEV int row(int key) const { return key < prefix ? key : start + key - prefix; }
  // Keys of its own sequence that query i of the block sees.
  DEV int own(int i) const { return causal && first + i + 1 < keys ? first + i + 1 : keys; }
  DEV int seen(int i) const { return prefix + own(i); }
};
