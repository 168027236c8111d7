// What a block of an attention works on: `count` queries from row `query` on, the first of which is number `first` of
// its sequence. Places are counted over the keys: rows 0 ..< prefix, then the sequence's own from `start` on, `keys` of
// them. A query sees those that are at most `before` places before its own and `after` places after it.
#pragma once
#include "dialect.h"

struct Span {
  int query, count, first, prefix, start, keys, result, before, after;
  // The sequence's own stretch of packed keys, and where it starts among them; the prefix is stretch 0 and starts at 0.
  int stretch, place;

  DEV int row(int key) const { return key < prefix ? key : start + key - prefix; }
  // Places that query i of the block sees: from ..< to. Neither falls with i.
  DEV int at(int i) const { return prefix + first + i; }
  DEV int from(int i) const { return at(i) > before ? at(i) - before : 0; }
  DEV int to(int i) const { return at(i) + after < prefix + keys ? at(i) + after + 1 : prefix + keys; }
};
